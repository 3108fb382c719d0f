"""Say how far long work has come, every few seconds, while the call that does it blocks."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

EVERY_S = 5.0


@contextmanager
def shown_progress(what: str, count_done: Callable[[], int], expected: int) -> Iterator[None]:
    """Log the frames done, of about how many, and frames per second, until the block ends.

    Args:
        what: What is done to the frames, as `Scored`.
        count_done: Tells how many frames are done; called from another thread.
        expected: About how many there will be; 0 if nobody knows.
    """
    begun_s, before, ended = time.monotonic(), count_done(), threading.Event()

    def show() -> None:
        while not ended.wait(EVERY_S):
            done = count_done()
            rate = (done - before) / (time.monotonic() - begun_s)
            total = f" of about {max(expected, done):,}" if expected else ""
            logger.info("%s %s%s frames, %.1f per second.", what, f"{done:,}", total, rate)

    shower = threading.Thread(target=show, daemon=True)
    shower.start()
    try:
        yield
    finally:
        ended.set()
        shower.join()
