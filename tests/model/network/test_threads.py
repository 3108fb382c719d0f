"""What the count of threads promises: the cores that the process was given, whatever the machine has."""

import math
import os
from pathlib import Path

import pytest

from cygnet.model.network import threads
from cygnet.model.network.threads import bound_threads, cgroup_cores, core_count

VERSION_1 = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give a process that may use four cores, without OMP_NUM_THREADS; give the folder of its control group."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5, 7}, raising=False)
    monkeypatch.setattr(threads, "CGROUPS", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000", 2), ("250000 100000", 2.5), ("50000 100000", 0.5), ("max 100000", math.inf)]
)
def test_quota_of_version_2_is_read(quota: str, cores: float, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert cgroup_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("300000", 3), ("-1", math.inf)])
def test_quota_of_version_1_is_read(quota: str, cores: float, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    for name, value in zip(VERSION_1, (quota, "100000"), strict=True):
        (tmp_path / name).write_text(f"{value}\n")
    assert cgroup_cores(tmp_path) == cores


@pytest.mark.parametrize("content", [None, "", "a lot", "1 0"])
def test_without_a_readable_quota_there_is_none(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "cpu.max").write_text(content)
    assert cgroup_cores(tmp_path) == math.inf


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 4), ("250000 100000", 3), ("50000 100000", 1)])
def test_the_smaller_of_scheduler_and_quota_counts(four_cores: Path, quota: str, cores: int) -> None:
    (four_cores / "cpu.max").write_text(quota)
    assert core_count() == cores


@pytest.mark.parametrize(("asked", "cores"), [("7", 7), ("3,2", 3), ("0", 4), ("many", 4), ("", 4)])
def test_omp_num_threads_wins_where_it_is_a_number(
    four_cores: Path, monkeypatch: pytest.MonkeyPatch, asked: str, cores: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert core_count() == cores


def test_threads_are_shared_among_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.cv2, "getNumberOfCPUs", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as Spark does; and put back after the test
    for tasks, expected in ((1, 8), (3, 2), (8, 1), (100, 1)):
        bound_threads(tasks)
        assert core_count() == expected
