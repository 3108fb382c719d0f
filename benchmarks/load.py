"""Ten minutes of load at 8 clients: no request fails, and the memory of the server stays flat after a minute.

Requests of every kind that there is, so that memory has cause to grow: images of the scene and whole 1080p frames, JPEG
and PNG, one or eight at once, with and without heatmaps. Memory is looked at every second; what is compared is the
median of each half minute, because a frame of 1080p that is being decoded is there for some milliseconds.
"""

import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import urllib3

from benchmarks.bodies import request_of
from benchmarks.inputs import full_hd_frames
from benchmarks.measure import Figure
from benchmarks.server import CLIENTS, TINY, Server, log_ours, random_detector, served, small_image, tracker
from cygnet.vision.codec import encode_jpeg, encode_png

SECONDS = 600
WARM_UP_S = 60
SPAN_S = 30


def run(seconds: int = SECONDS) -> Iterator[Figure]:
    """Load the server for so many seconds."""
    with tracker(), served(log_ours(random_detector(TINY), "onnx")) as server:
        memory_mb: list[float] = []
        ended = threading.Event()
        with ThreadPoolExecutor(CLIENTS) as clients:
            working = [clients.submit(_ask_on, server, number, ended) for number in range(CLIENTS)]
            for _ in range(seconds):
                time.sleep(1)
                memory_mb.append(server.memory_mb())
            ended.set()
            answered, failed = (sum(counts) for counts in zip(*(each.result() for each in working), strict=True))
    spans_mb = [statistics.median(memory_mb[start : start + SPAN_S]) for start in range(WARM_UP_S, seconds, SPAN_S)]
    change = max(spans_mb) / spans_mb[0] - 1
    yield Figure(f"{seconds} s of load, {CLIENTS} clients: failed requests", "", f"{failed} of {answered}", "0")
    yield Figure(f"memory after {WARM_UP_S} s, and its growth", f"{spans_mb[0]:.0f} MB", f"{change:+.1%}", "5 %")


def _ask_on(server: Server, number: int, ended: threading.Event) -> tuple[int, int]:
    """Ask until the end; count the requests, and those that failed or had an image without a score."""
    bodies = _bodies()
    asked = failed = 0
    while not ended.is_set():
        try:
            answer = server.send(bodies[(number + asked) % len(bodies)])
            is_good = answer.status == 200 and not any(row["error"] for row in answer.json()["predictions"])
        except urllib3.exceptions.HTTPError:  # no answer
            is_good = False
        asked, failed = asked + 1, failed + (not is_good)
    return asked, failed


def _bodies() -> list[bytes]:
    image, frame = small_image(), full_hd_frames()[0]
    small, large = encode_jpeg(image, 95), encode_jpeg(frame, 95)
    return [
        *[request_of([small], cropped=True)] * 5,
        request_of([large]),
        request_of([small] * 8, cropped=True),
        request_of([encode_png(image)], cropped=True, heatmap=True),
        request_of([large, small], heatmap=True, threshold=0.9),
        request_of([encode_png(frame)]),
    ]
