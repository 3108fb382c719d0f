"""Shows how far long work is, and when it will end: a bar on a terminal, a log line now and then elsewhere.

`tracked` counts what passes through an iterator. `shown_progress` asks now and then, where one call does all the work.
Both say nothing about work that ends within seconds, and no line says what the one before it said. The bar is tqdm's:
its handler writes log lines above the bar, while rich would need the place of our own handler.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from typing import TypeVar

logger = logging.getLogger(__name__)

BAR_AFTER_S = 1.0
LINES_AFTER_S = (5.0, 10.0, 20.0, 30.0, 60.0)
"""Seconds before the first line, and between later ones; the last holds for all that follow."""
POLL_S = 0.5

Item = TypeVar("Item")
Count = tuple[int, int | None]
"""How much is done, and how much there is; None: nobody knows."""


def tracked(
    items: Iterable[Item], what: str, unit: str, total: int | None = None, size: Callable[[Item], int] | None = None
) -> Iterator[Item]:
    """Pass items through, and show how many have been worked on.

    Args:
        items: What is iterated over.
        what: What is being done, such as `Fitting`.
        unit: What is counted, in the plural.
        total: How much there is in all; None: the length of `items`, if they have one.
        size: How much one item counts; None: 1.
    """
    done = 0
    if total is None and isinstance(items, Sized):
        total = len(items)
    with _display(what, unit, (done, total)) as show:
        for item in items:
            yield item
            done += size(item) if size else 1
            show((done, total))


@contextmanager
def shown_progress(what: str, unit: str, count: Callable[[], Count], poll_s: float = POLL_S) -> Iterator[None]:
    """Show how far the work is until the `with` block ends.

    Args:
        what: What is being done.
        unit: What is counted, in the plural.
        count: Tells how far it is; called from another thread. If it fails, no more is shown.
        poll_s: Seconds between two calls.
    """
    ended = threading.Event()
    with _display(what, unit, count()) as show:

        def watch() -> None:
            with suppress(Exception):
                while not ended.wait(poll_s):
                    show(count())

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@contextmanager
def _display(what: str, unit: str, start: Count) -> Iterator[Callable[[Count], None]]:
    """Give a function that shows how far the work is, as often as is of use."""
    if not sys.stderr.isatty():
        yield _Lines(what, unit, start[0]).show
        return
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    class Bar(tqdm):
        monitor_interval = 0  # no thread of its own

    bar = Bar(
        desc=what,
        unit=f" {unit}",
        initial=start[0],
        total=start[1],
        delay=BAR_AFTER_S,
        miniters=1,
        smoothing=0,
        leave=False,
        dynamic_ncols=True,
    )
    with logging_redirect_tqdm(), bar:

        def show(now: Count) -> None:
            bar.total = now[1]
            bar.update(now[0] - bar.n)

        yield show


class _Lines:
    """Log lines about one piece of work."""

    def __init__(self, what: str, unit: str, done: int) -> None:
        self.what, self.unit = what, unit
        self.start, self.told = done, done
        self.start_s = time.monotonic()
        self.waits_s = iter(LINES_AFTER_S)
        self.next_s = self.start_s + next(self.waits_s)

    def show(self, now: Count) -> None:
        """Log a line if it is time for one, and something has been done since the last one."""
        (done, total), now_s = now, time.monotonic()
        if now_s < self.next_s or done <= self.told or done == total:
            return
        self.next_s, self.told = now_s + next(self.waits_s, LINES_AFTER_S[-1]), done
        if total is None or total < done:  # an estimate that was too low
            logger.info("%s: %s %s so far.", self.what, f"{done:,}", self.unit)
            return
        left_s = (total - done) * (now_s - self.start_s) / (done - self.start)
        logger.info("%s: %s of %s %s, about %s left.", self.what, f"{done:,}", f"{total:,}", self.unit, spell(left_s))


def spell(seconds: float) -> str:
    """Round a time to what people say: `40 s`, `12 min`, `2.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
