"""What the guard promises: a server never outlives the process that asked for it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

GUARD = [sys.executable, "-m", "cygnet.endpoints.process_guard"]
SERVER = """
import os, pathlib, subprocess, sys, time
worker = subprocess.Popen(["sleep", "600"])
place = pathlib.Path(sys.argv[1])
place.with_suffix(".new").write_text(f"{os.getpid()} {worker.pid}")
place.with_suffix(".new").rename(place)
time.sleep(600)
"""
PARENT = """
import subprocess, sys, time
subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)
time.sleep(600)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[list[str]], tuple[subprocess.Popen[bytes], list[int]]]]:
    """Give a starter of programs: the program, and the pids of the server that it started and of its worker."""
    pids: list[int] = []

    def run(prefix: list[str]) -> tuple[subprocess.Popen[bytes], list[int]]:
        place = tmp_path / "pids"
        program = subprocess.Popen(
            [*prefix, sys.executable, "-c", SERVER, str(place)], stdin=subprocess.PIPE, start_new_session=True
        )
        pids.append(program.pid)
        assert within_s(20, place.exists)
        pids.extend(int(pid) for pid in place.read_text().split())
        return program, pids[1:]

    yield run
    for pid in pids:
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    state = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return state.stdout.strip()[:1] not in {"", "Z"}


def within_s(seconds: float, is_true: Callable[[], bool]) -> bool:
    """Wait until something is true."""
    deadline_s = time.monotonic() + seconds
    while not is_true() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return is_true()


def test_server_and_its_workers_end_when_the_parent_is_killed(start: Callable[..., tuple]) -> None:
    parent, pids = start([sys.executable, "-c", PARENT, *GUARD])
    assert all(is_running(pid) for pid in pids)
    parent.kill()
    parent.wait()
    assert within_s(10, lambda: not any(is_running(pid) for pid in pids))


def test_server_and_its_workers_end_when_standard_input_is_closed(start: Callable[..., tuple]) -> None:
    guard, pids = start(GUARD)
    time.sleep(0.3)
    assert guard.poll() is None
    guard.communicate(timeout=10)
    assert within_s(10, lambda: not any(is_running(pid) for pid in pids))


def test_exit_status_of_the_server_is_handed_on() -> None:
    with subprocess.Popen([*GUARD, sys.executable, "-c", "raise SystemExit(7)"], stdin=subprocess.PIPE) as guard:
        assert guard.wait(timeout=20) == 7
