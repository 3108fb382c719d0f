"""The endpoint of this machine: MLflow's own scoring server on a free port.

`with endpoint.serve(model, settings) as client` starts it and ends it. The server must not outlive the block, and Kedro
does not release datasets when a node fails or a run is interrupted; hence a `with` block within one node.
"""

import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO

import mlflow
import urllib3

from cygnet.endpoints.client import EndpointClient, EndpointError
from cygnet.endpoints.versions import ModelVersion
from cygnet.parameters.serving import Client

POLL_S = 0.2


@dataclass(frozen=True)
class LocalEndpoint:
    """MLflow's scoring server on this machine."""

    start_timeout_s: float

    @contextmanager
    def serve(self, model: ModelVersion, settings: Client) -> Iterator[EndpointClient]:
        """Serve a version on a free port until the block ends.

        Raises:
            EndpointError: The server ended, or was not ready in time; the message quotes the end of its log.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server_command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
        command = [*server_command, "--host", "127.0.0.1", "--port", str(port), "--model-uri", model.loadable_uri]
        command += ["--timeout", str(math.ceil(settings.timeout_s))]
        environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
            "MLFLOW_REGISTRY_URI": mlflow.get_registry_uri(),
            "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ.get('PATH', '')}",  # noqa: PTH120
        }
        with TemporaryFile() as log, urllib3.PoolManager(maxsize=settings.in_flight, block=True) as pool:
            server = subprocess.Popen(  # noqa: S603 - our own program and arguments
                [sys.executable, "-m", "cygnet.endpoints.process_guard", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # a signal to our group must not end the guard before the server
            )
            try:
                url = f"http://127.0.0.1:{port}"
                self._wait(url, server, log, pool)
                yield EndpointClient(url, settings, pool)
            finally:
                server.communicate()  # closes its standard input, which ends the server

    def _wait(self, url: str, server: subprocess.Popen[bytes], log: IO[bytes], pool: urllib3.PoolManager) -> None:
        deadline_s = time.monotonic() + self.start_timeout_s
        while time.monotonic() < deadline_s and server.poll() is None:
            try:
                if pool.request("GET", f"{url}/health", timeout=POLL_S * 5, retries=False).status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                time.sleep(POLL_S)
        state = "did not start" if server.poll() is not None else f"was not ready after {self.start_timeout_s:g} s"
        log.seek(0)
        end_of_log = log.read().decode(errors="replace")[-2000:]
        msg = f"The local scoring server {state}:\n{end_of_log}"
        raise EndpointError(msg)
