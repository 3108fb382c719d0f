"""What the display of progress promises: it reports how far the work is while a call blocks, and stops with it."""

import logging
import threading

import pytest

from cygnet.model.scoring import progress
from cygnet.model.scoring.progress import shown_progress


@pytest.mark.parametrize(
    ("expected", "told"),
    [(2000, "Scored 1,500 of about 2,000 frames, "), (0, "Scored 1,500 frames, "), (7, "of about 1,500 frames, ")],
)
def test_progress_is_logged_while_the_work_runs(
    expected: int, told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.001)
    calls, threads, twice = [0], threading.active_count(), threading.Event()

    def count_done() -> int:
        calls[0] += 1
        if calls[0] >= 4:  # once at the start, then before each line
            twice.set()
        return 1500 if calls[0] > 1 else 0

    with caplog.at_level(logging.INFO), shown_progress("Scored", count_done, expected):
        assert twice.wait(30)
    assert told in caplog.messages[0]
    assert threading.active_count() == threads


def test_failing_work_ends_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), shown_progress("Scored", lambda: 0, 1):
        raise KeyboardInterrupt
    assert threading.active_count() == threads
