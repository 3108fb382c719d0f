"""Two ways of doing the same thing, timed by turns in one process on one machine.

Each side runs once untimed (warm-up), then both run by turns, so that whatever else the machine does meets both. The
ratio is that of the two medians; the span is the lowest and highest ratio of a single turn, which says how far to trust
it.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class SkipBenchmark(Exception):  # noqa: N818 - not an error
    """The benchmark can't run here; the message says why."""


@dataclass(frozen=True)
class Result:
    """Seconds of both sides, turn by turn, for `items` pieces of work called `item`."""

    what: str
    baseline_s: list[float]
    ours_s: list[float]
    items: int
    item: str
    asked: float

    @property
    def ratio(self) -> float:
        """Give how many times as fast ours is, by the medians."""
        return statistics.median(self.baseline_s) / statistics.median(self.ours_s)

    def cells(self) -> list[str]:
        """Give the row of the printed table."""
        turns = [baseline / ours for baseline, ours in zip(self.baseline_s, self.ours_s, strict=True)]
        return [
            self.what,
            self._per_item(self.baseline_s),
            self._per_item(self.ours_s),
            f"{self.ratio:.1f}x",
            f"{min(turns):.1f}-{max(turns):.1f}",
            f"{self.asked:g}x",
        ]

    def _per_item(self, seconds: list[float]) -> str:
        return f"{statistics.median(seconds) / self.items * 1000:.3g} ms/{self.item}"


@dataclass(frozen=True)
class Figure:
    """A row that is no ratio: what a baseline has, what ours has, and what was asked for."""

    what: str
    baseline: str
    ours: str
    asked: str

    def cells(self) -> list[str]:
        """Give the row of the printed table."""
        return [self.what, self.baseline, self.ours, "", "", self.asked]


def compare(
    what: str,
    baseline: Callable[[], Any],
    ours: Callable[[], Any],
    *,
    items: int,
    item: str,
    asked: float,
    repetitions: int,
) -> Result:
    """Time both sides by turns, after one untimed run of each."""
    baseline()
    ours()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repetitions):
        for side, run in zip(seconds, (baseline, ours), strict=True):
            side.append(seconds_of(run))
    return Result(what, *seconds, items, item, asked)


def seconds_of(run: Callable[[], Any]) -> float:
    """Time one run."""
    start_s = time.perf_counter()
    run()
    return time.perf_counter() - start_s
