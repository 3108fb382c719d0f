"""What progress promises: nothing about fast work, then lines that say how much is left, and a bar on a terminal."""

import logging
import os
import pty
import re
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from cygnet import progress
from cygnet.model.scoring.frame_scores import SCORED_ITEMS
from cygnet.progress import shown_progress, spell, tracked
from cygnet.spark import Row, flat_map_rows, shown_work


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[list[float]]:
    """Give the time, a list of one number that a test moves on."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with caplog.at_level(logging.INFO, "cygnet"):
        yield now


def work(clock: list[float], items: range, step_s: float, total: int | None = None) -> None:
    for _ in tracked(items if total is None else iter(items), "Fitting", "steps", total):
        clock[0] += step_s


def test_fast_work_says_nothing(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    work(clock, range(1000), 0.0049)
    assert not caplog.messages


def test_lines_go_up_and_say_what_is_left_ever_more_seldom(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    work(clock, range(1000), 1.0)
    said = [re.fullmatch(r"Fitting: (\d+) of 1,000 steps, about (.+) left\.", line) for line in caplog.messages]
    done = [int(match[1]) for match in said if match]
    assert len(done) == len(said)
    assert done[:7] == [5, 15, 35, 65, 125, 185, 245]
    assert [match[2] for match in said if match] == [spell(1000 - steps) for steps in done]


def test_a_line_is_said_only_if_something_was_done_since_the_last_one(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    lines = progress._Lines("Scoring", "frames", 300)
    for done, total in ((300, 604), (300, 604), (400, 604), (400, 604), (700, 604), (800, 800)):
        clock[0] += 40
        lines.show((done, total))
    assert caplog.messages == [
        "Scoring: 400 of 604 frames, about 4 min left.",
        "Scoring: 700 frames so far.",  # more than was expected
    ]


def test_items_pass_through_and_may_count_for_several(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    passed = []
    for batch in tracked(iter([[1, 2], [3]]), "Reading", "rows", 3, len):
        clock[0] += 6
        passed.append(batch)
    assert passed == [[1, 2], [3]]
    assert caplog.messages == ["Reading: 2 of 3 rows, about 3 s left."]


def test_without_a_total_only_what_is_done_is_said(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    for number in tracked(count(), "Drawing pairs", "pairs"):
        clock[0] += 3
        if number == 2:
            break
    assert caplog.messages == ["Drawing pairs: 2 pairs so far."]


@pytest.mark.parametrize(
    ("seconds", "spelt"),
    [(0.2, "1 s"), (89, "89 s"), (91, "2 min"), (3600, "60 min"), (9000, "2.5 h")],
)
def test_times_are_rounded(seconds: float, spelt: str) -> None:
    assert spell(seconds) == spelt


def test_work_of_one_call_is_watched_until_it_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "LINES_AFTER_S", (0.0,))
    calls, threads, twice = iter(range(10**9)), threading.active_count(), threading.Event()

    def how_far() -> progress.Count:
        call = next(calls)
        if call >= 3:
            twice.set()
        return call, 10**9

    with caplog.at_level(logging.INFO, "cygnet"), shown_progress("Scoring", "frames", how_far, 0.001):
        assert twice.wait(30)
    assert caplog.messages[0].startswith("Scoring: 1 of 1,000,000,000 frames, ")
    assert threading.active_count() == threads


def test_a_count_that_fails_ends_the_watch_and_not_the_work(caplog: pytest.LogCaptureFixture) -> None:
    calls = iter([(0, None)])
    with shown_progress("Scoring", "frames", lambda: next(calls), 0.001):
        time.sleep(0.05)
    assert not caplog.messages


def test_failing_work_ends_the_watch() -> None:
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), shown_progress("Scoring", "frames", lambda: (0, None)):
        raise KeyboardInterrupt
    assert threading.active_count() == threads


PROGRAM = """
import logging, sys, time
logging.basicConfig(level=logging.INFO, format="%(message)s")
from cygnet import progress
progress.BAR_AFTER_S = 0
for number in progress.tracked(range(4), "Fitting", "steps"):
    time.sleep(0.15)  # tqdm draws no more than ten times a second
    if number == 2:
        logging.info("a line between")
print("tqdm" in sys.modules)
"""


def on_terminal() -> str:
    """Give what a person sees of the program, with its standard error on a terminal."""
    main, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    done = subprocess.run([sys.executable, "-c", PROGRAM], stderr=terminal, stdout=subprocess.PIPE, check=True)
    os.close(terminal)
    assert done.stdout == b"True\n"
    shown = b""
    try:
        while part := os.read(main, 4096):
            shown += part
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(main)
    return shown.decode()


def test_a_terminal_gets_a_bar_and_whole_lines_of_the_log() -> None:
    shown = on_terminal()
    assert "Fitting:  50%" in shown
    assert "steps/s" in shown
    lines = [line.split("\r")[-1].replace("\x1b[A", "") for line in shown.replace("\r\n", "\n").split("\n")]
    assert "a line between" in lines


def test_what_is_no_terminal_gets_no_bar() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True, text=True)
    assert (done.stderr, done.stdout) == ("a line between\n", "False\n")


@pytest.mark.parametrize(
    ("counts_rows", "said"),
    [
        (True, r"Writing frames: \d+ of 30 rows, about .+ left\."),
        (False, r"Writing frames: \d of \d+ tasks, about .+ left\."),
    ],
)
def test_spark_says_how_far_it_is_in_rows_or_tasks(
    counts_rows: bool,
    said: str,
    spark: SparkSession,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def slow_row(row: Row) -> Iterator[Row]:  # what Spark's workers get must not come from this module
        for number in range(10):
            time.sleep(0.1)
            yield {"key": str(number), "rows": row["n"]}

    def slow(batches: Iterator[object]) -> Iterator[object]:
        for batch in batches:
            time.sleep(0.1)
            yield batch

    monkeypatch.setattr(progress, "LINES_AFTER_S", (0.0,))
    rows = spark.range(0, 8, numPartitions=8).toDF("n")
    if counts_rows:  # one task makes them all
        made = flat_map_rows(rows.filter("n < 3").coalesce(1), slow_row, SCORED_ITEMS, 30)
    else:
        made = rows.mapInPandas(slow, rows.schema)
    with caplog.at_level(logging.INFO, "cygnet"), shown_work("Writing frames", made):
        made.collect()
    assert caplog.messages
    assert all(re.fullmatch(said, line) for line in caplog.messages), caplog.messages


def test_spark_workers_and_the_served_model_show_nothing() -> None:
    package = Path(progress.__file__).parent
    scoring = [package / "model/scoring" / name for name in ("frame_scores.py", "score_parts.py")]
    augmenting = [package / "pipelines" / name / "nodes.py" for name in ("ingestion", "synthesis", "augmentation")]
    run_there = [*package.glob("vision/*.py"), *package.glob("model/serving/*.py"), *scoring, *augmenting]
    assert len(run_there) > 30
    assert [module for module in run_there if "cygnet.progress" in module.read_text()] == []


def test_a_session_without_a_context_works_without_progress(
    monkeypatch: pytest.MonkeyPatch, spark: SparkSession
) -> None:
    monkeypatch.setattr("cygnet.spark.get_session", object)  # Spark Connect's has no `sparkContext`
    with shown_work("Writing frames", spark.range(1)):
        pass
