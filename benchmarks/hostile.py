"""5,000 hostile bodies: no status but 200 and 400, no hang, and the same process answers good requests after.

Among them endless ones, while the memory of the server is looked at after every answer.
"""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from benchmarks.bodies import hostile_request, request_of, status_of_endless
from benchmarks.measure import Figure
from benchmarks.server import CLIENTS, TINY, Server, limits, log_ours, random_detector, served, small_image, tracker
from cygnet.vision.codec import encode_jpeg

BODIES = 5000


def run(bodies: int = BODIES) -> Iterator[Figure]:
    """Send so many bodies, several at a time."""
    with tracker(), served(log_ours(random_detector(TINY), "onnx")) as server:
        good = request_of([encode_jpeg(small_image(), 95)], cropped=True)
        before, memory_mb = server.ask(good), [server.memory_mb()]
        statuses, longest_s = Counter[int](), 0.0
        with ThreadPoolExecutor(CLIENTS) as clients:
            for status, seconds in clients.map(lambda number: _send(server, number), range(bodies)):
                statuses[status] += 1
                longest_s = max(longest_s, seconds)
                memory_mb.append(server.memory_mb())
        endless = [status_of_endless(server.url, chunked=chunked) for chunked in (True, False)]
        assert server.ask(good) == before, "the same request is answered in another way"
        said = ", ".join(f"{count} of {status}" for status, count in sorted(statuses.items()))
        yield Figure(f"{bodies} hostile bodies, by status", "", said, "no 5xx")
        yield Figure("the longest of them", "", f"{longest_s:.1f} s", "no hang")
        yield Figure("endless bodies, in chunks and declared", "", " and ".join(map(str, endless)), "400")
        yield Figure("memory before and at most", f"{memory_mb[0]:.0f} MB", f"{max(memory_mb):.0f} MB", "")


def _send(server: Server, number: int) -> tuple[int, float]:
    body, content_type = hostile_request(number, limits())
    start_s = time.perf_counter()
    return server.send(body, content_type).status, time.perf_counter() - start_s
