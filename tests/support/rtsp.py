"""A camera that serves motion JPEG by RTSP, interleaved in TCP (RFC 2326, RFC 2435), to who knows the password."""

import base64
import socketserver
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from support.stub_server import running

CLOCK_HZ = 90_000
PAYLOAD_BYTES = 1200
SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=yard\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track0\r\n"


class _Handler(socketserver.StreamRequestHandler):
    server: "RtspCamera"

    def handle(self) -> None:
        """Answer requests until one asks to play, and play."""
        while (request := self._read()) is not None:
            method, headers = request
            if method == "OPTIONS":
                self._answer(headers, "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
            elif headers.get("authorization") != self.server.authorization:
                self._answer(headers, 'WWW-Authenticate: Basic realm="yard"', status="401 Unauthorized")
            elif method == "DESCRIBE":
                self._answer(headers, "Content-Type: application/sdp", body=SDP)
            elif method == "SETUP":
                self._answer(headers, f"Transport: {headers['transport']}", "Session: 1")
            elif method == "PLAY":
                self._answer(headers, "Session: 1")
                self._play()
                return

    def _read(self) -> tuple[str, dict[str, str]] | None:
        lines = []
        while (line := self.rfile.readline().decode().strip()) or not lines:
            if not line:
                return None
            lines.append(line)
        headers = (line.partition(":") for line in lines[1:])
        return lines[0].split()[0], {name.lower(): value.strip() for name, _, value in headers}

    def _answer(self, headers: dict[str, str], *lines: str, status: str = "200 OK", body: str = "") -> None:
        head = [f"RTSP/1.0 {status}", f"CSeq: {headers['cseq']}", *lines, f"Content-Length: {len(body)}"]
        self.wfile.write(("\r\n".join(head) + "\r\n\r\n" + body).encode())

    def _play(self) -> None:
        sequence = 0
        try:
            for number, jpeg in enumerate(self.server.jpegs):
                if self.server.is_off.is_set():
                    return
                time_s = number * self.server.interval_s
                for payload, is_last in _payloads(jpeg):
                    kind = 26 | (0x80 if is_last else 0)
                    packet = struct.pack("!BBHII", 0x80, kind, sequence % 65536, round(time_s * CLOCK_HZ), 7) + payload
                    self.wfile.write(b"$\x00" + struct.pack("!H", len(packet)) + packet)
                    sequence += 1
                self.server.is_off.wait(self.server.interval_s)
        except OSError:
            pass


def _payloads(jpeg: bytes) -> Iterator[tuple[bytes, bool]]:
    """Divide a baseline JPEG of 4:2:0 with standard Huffman tables into RTP payloads; tell the last one."""
    tables, position = b"", 2
    while True:
        marker, length = jpeg[position + 1], int.from_bytes(jpeg[position + 2 : position + 4], "big")
        segment = jpeg[position + 4 : position + 2 + length]
        position += 2 + length
        if marker == 0xDB:
            tables += b"".join(segment[start + 1 : start + 65] for start in range(0, len(segment), 65))
        elif marker == 0xC0:
            height, width = struct.unpack("!HH", segment[1:5])
        elif marker == 0xDA:
            break
    scan = jpeg[position:-2]
    for start in range(0, len(scan), PAYLOAD_BYTES):
        head = struct.pack("!I", start) + bytes([1, 255, width // 8, height // 8])
        if start == 0:
            head += struct.pack("!BBH", 0, 0, len(tables)) + tables
        yield head + scan[start : start + PAYLOAD_BYTES], start + PAYLOAD_BYTES >= len(scan)


class RtspCamera(socketserver.ThreadingTCPServer):
    """Sends these images in real time to each client."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, jpegs: Sequence[bytes], interval_s: float, login: str) -> None:
        """Listen on a port that is free; `login` is `user:password`."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.jpegs, self.interval_s = jpegs, interval_s
        self.authorization = f"Basic {base64.b64encode(login.encode()).decode()}"
        self.is_off = threading.Event()


@contextmanager
def rtsp_camera(jpegs: Sequence[bytes], interval_s: float, login: str) -> Iterator[RtspCamera]:
    """Serve until the block ends, and hang up."""
    server = RtspCamera(jpegs, interval_s, login)
    with running(server):
        try:
            yield server
        finally:
            server.is_off.set()
