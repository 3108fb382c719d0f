"""A camera that serves motion JPEG over HTTP, and can go away and come back at the same address."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.stub_server import running

BOUNDARY = "frame"


class _Handler(BaseHTTPRequestHandler):
    server: "Camera"

    def do_GET(self) -> None:
        camera = self.server
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.end_headers()
        try:
            for jpeg in camera.jpegs:
                if camera.is_off.is_set():
                    break
                camera.sent += 1
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
                time.sleep(camera.interval_s)
            camera.is_off.wait(camera.silent_s)
        except OSError:
            pass

    def log_message(self, *_: Any) -> None:
        pass


class Camera(ThreadingHTTPServer):
    """Sends these images in real time to each client, and then nothing for `silent_s`."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, jpegs: Sequence[bytes], interval_s: float, port: int = 0, silent_s: float = 0.0) -> None:
        """Listen on a port; 0: any that is free."""
        super().__init__(("127.0.0.1", port), _Handler)
        self.jpegs, self.interval_s, self.silent_s = jpegs, interval_s, silent_s
        self.is_off = threading.Event()
        self.sent = 0


@contextmanager
def camera(jpegs: Sequence[bytes], interval_s: float, port: int = 0, silent_s: float = 0.0) -> Iterator[Camera]:
    """Serve until the block ends, and hang up."""
    server = Camera(jpegs, interval_s, port, silent_s)
    with running(server):
        try:
            yield server
        finally:
            server.is_off.set()
