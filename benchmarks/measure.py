"""Two ways to do the same work, timed by turns in one process on one machine.

Each side runs once untimed, as a warm-up. Then both run by turns, which exposes them alike to other load on the
machine. The ratio is that of the medians; the lowest and highest ratio of a single turn show how reliable it is.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class SkipBenchmark(Exception):  # noqa: N818 - not an error
    """The benchmark can't run here; the message says why."""


@dataclass(frozen=True)
class Work:
    """What both sides do: `items` pieces of work, each an `item`; `target` is the ratio that is required."""

    what: str
    items: int
    item: str
    target: float


@dataclass(frozen=True)
class Result:
    """Seconds of both sides, turn by turn."""

    work: Work
    baseline_s: list[float]
    ours_s: list[float]

    @property
    def ratio(self) -> float:
        """Give the speed-up by the medians."""
        return statistics.median(self.baseline_s) / statistics.median(self.ours_s)

    def cells(self) -> list[str]:
        """Give the row of the printed table."""
        turns = [baseline / ours for baseline, ours in zip(self.baseline_s, self.ours_s, strict=True)]
        return [
            self.work.what,
            self._per_item(self.baseline_s),
            self._per_item(self.ours_s),
            f"{self.ratio:.1f}x",
            f"{min(turns):.1f}-{max(turns):.1f}",
            f"{self.work.target:g}x",
        ]

    def _per_item(self, seconds: list[float]) -> str:
        return f"{statistics.median(seconds) / self.work.items * 1000:.3g} ms/{self.work.item}"


@dataclass(frozen=True)
class Figure:
    """A row without a ratio: the value of the baseline, ours, and the target."""

    what: str
    baseline: str
    ours: str
    target: str

    def cells(self) -> list[str]:
        """Give the row of the printed table."""
        return [self.what, self.baseline, self.ours, "", "", self.target]


def compare(work: Work, baseline: Callable[[], Any], ours: Callable[[], Any], repetitions: int) -> Result:
    """Time both sides by turns, after one untimed run of each."""
    baseline()
    ours()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repetitions):
        for side, run in zip(seconds, (baseline, ours), strict=True):
            side.append(seconds_of(run))
    return Result(work, *seconds)


def seconds_of(run: Callable[[], Any]) -> float:
    """Time one run."""
    start_s = time.perf_counter()
    run()
    return time.perf_counter() - start_s
