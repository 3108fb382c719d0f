"""A headless Chromium, driven through its DevTools protocol: a WebSocket, without a driver or a browser of its own."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import Request, urlopen

from websockets.sync.client import ClientConnection, connect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TIMEOUT_S = 60
KEY_CODES = {"ArrowLeft": 37, "ArrowRight": 39, "Escape": 27}
SHIFT = 8


class Tab:
    """A page that is open."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._id = 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result."""
        self._id += 1
        self._socket.send(json.dumps({"id": self._id, "method": method, "params": params}))
        while True:
            said = json.loads(self._socket.recv(TIMEOUT_S))
            if said.get("id") == self._id:
                assert "error" not in said, said
                return said["result"]

    def value(self, expression: str) -> Any:
        """Evaluate JavaScript in the page; a promise is waited for."""
        said = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until JavaScript gives something true."""
        end_s = time.monotonic() + TIMEOUT_S
        while not self.value(expression):
            assert time.monotonic() < end_s, f"{expression}: not within {TIMEOUT_S} s"
            time.sleep(0.02)

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key."""
        code = KEY_CODES.get(key, ord(key.upper()[0]))
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, modifiers=modifiers)

    def click(self, x: float, y: float, modifiers: int = 0) -> None:
        """Click with the left button at a place of the window, in CSS pixels."""
        for kind, buttons in (("mousePressed", 1), ("mouseReleased", 0)):
            place = {"x": x, "y": y, "modifiers": modifiers, "buttons": buttons}
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def resize(self, width: int, height: int) -> None:
        """Give the window a size in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def open_tab(url: str) -> Iterator[Tab]:
    """Open a page in a Chromium of its own, which ends with the block."""
    assert CHROMIUM is not None
    with TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"]
        flags += ["--disable-background-networking", "--remote-allow-origins=*", f"--user-data-dir={profile}"]
        process = subprocess.Popen([CHROMIUM, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            listening = Path(profile, "DevToolsActivePort")
            end_s = time.monotonic() + TIMEOUT_S
            while not (listening.exists() and listening.read_text().count("\n")):
                assert process.poll() is None, "Chromium ended"
                assert time.monotonic() < end_s, "Chromium did not start"
                time.sleep(0.05)
            port = listening.read_text().splitlines()[0]
            new = Request(f"http://127.0.0.1:{port}/json/new?{url}", method="PUT")
            with urlopen(new) as answer:  # noqa: S310
                address = json.load(answer)["webSocketDebuggerUrl"]
            with connect(address, max_size=None) as socket:
                yield Tab(socket)
        finally:
            process.kill()
            process.wait()
