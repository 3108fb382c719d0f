"""Logs the progress of long work every few seconds, while the call that does the work blocks."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

EVERY_S = 5.0


@contextmanager
def shown_progress(what: str, count_done: Callable[[], int], expected: int) -> Iterator[None]:
    """Log the number of frames done, the estimated total and the rate, until the `with` block ends.

    Args:
        what: The first words of the message, such as `Scored`.
        count_done: Returns the number of frames done; called from another thread.
        expected: An estimate of the total; 0 if unknown.
    """
    start_s, done_before, ended = time.monotonic(), count_done(), threading.Event()

    def show() -> None:
        while not ended.wait(EVERY_S):
            done = count_done()
            rate = (done - done_before) / (time.monotonic() - start_s)
            total = f" of about {max(expected, done):,}" if expected else ""
            logger.info("%s %s%s frames, %.1f per second.", what, f"{done:,}", total, rate)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
