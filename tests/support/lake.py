"""A storage account of the tests' own: Azurite, and a proxy before it that breaks connections off."""

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROJECT = Path(__file__).parents[2]
INSTALLED = PROJECT / "tests" / "azurite" / "node_modules" / ".bin"
AZURITE = shutil.which("azurite-blob", path=f"{INSTALLED}{os.pathsep}{os.environ['PATH']}")

ACCOUNT = "devstoreaccount1"
# pragma: allowlist nextline secret
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own, in its documentation."""


@contextmanager
def azurite() -> Iterator[int]:
    """Run Azurite, with nothing in it, and give its port."""
    command = [str(AZURITE), "--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        try:
            ready = next(line for line in server.stdout if "successfully listens" in line)
            threading.Thread(target=server.stdout.read, daemon=True).start()
            yield int(ready.rpartition(":")[2])
        finally:
            server.terminate()


def connection_string(port: int, key: str = KEY) -> str:
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={endpoint};"


class Proxy:
    """Passes bytes on in both directions; a connection is cut when it has carried as many as it may."""

    def __init__(self, port: int) -> None:
        self.most_up: float = float("inf")  # bytes that a connection may carry to the server
        self.most_down: float = float("inf")  # and from it
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                for source, sink, limit in ((client, server, "most_up"), (server, client, "most_down")):
                    threading.Thread(target=self._pass_on, args=(source, sink, limit), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, limit: str) -> None:
        carried = 0
        with suppress(OSError):  # the other direction was cut
            while data := source.recv(65536):
                data = data[: int(min(getattr(self, limit) - carried, len(data)))]
                carried += len(data)
                sink.sendall(data)
                if carried >= getattr(self, limit):
                    break
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
