"""The commands of README.md run as they are written, from top to bottom, in a fresh shell with nothing activated.

A block that this test can't run, or a command of docs/databricks.md with a body that is not JSON, fails.
"""

import json
import os
import re
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from support.project import PROJECT, copy_project, fresh_shell, link_environment

README = (PROJECT / "README.md").read_text()
LONGEST_ARGUMENT_BYTES = 128 * 1024
"""Linux passes no longer argument to a program."""

RUN_HERE = (
    r"git clone <this repository> cygnet && cd cygnet\nmake run",
    r'make run ARGS="--params=video=/path/to/video\.mp4"',
    r'make run ARGS="--pipeline=scoring --params=video=/path/to/video\.mp4"',
    r"make serve &\n.* frame\.jpg .*localhost:5001/invocations.*",
)
"""Patterns of the blocks that `test_commands_run_as_written` has an answer's check for."""


def blocks(text: str) -> list[str]:
    """Give the shell blocks of a page, without what they are indented by."""
    found = re.findall(r"^( *)```sh\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE).strip() for indent, block in found]


def is_run_by_ci(block: str) -> bool:
    """Say whether `.ci/run` runs all targets of make in the block, with whatever arguments."""
    by_ci = re.findall(r"^make [\w-]+", (PROJECT / ".ci/run").read_text(), re.MULTILINE)
    return set(block.splitlines()) <= set(by_ci)


def run(block: str, cwd: Path, environment: dict[str, str]) -> str:
    """Run a block in a shell of its own, end what it left running, and give what it printed."""
    with (cwd / "printed.txt").open("w+") as printed:
        shell = subprocess.Popen(
            ["/bin/sh", "-ec", block],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = shell.wait(timeout=1800)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
        printed.seek(0)
        text = printed.read()
    assert code == 0, f"{block}\n{text}"
    return text


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    """Give a frame of 1080p, as large as noise makes it."""
    path = tmp_path / "noise.jpg"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8))
    assert path.stat().st_size > 4 * LONGEST_ARGUMENT_BYTES
    return path


def test_every_block_is_run_by_a_test() -> None:
    unknown = [
        block
        for block in blocks(README)
        if not is_run_by_ci(block) and not any(re.fullmatch(known, block, re.DOTALL) for known in RUN_HERE)
    ]
    assert not unknown
    for known in RUN_HERE:
        assert any(re.fullmatch(known, block, re.DOTALL) for block in blocks(README)), known


@pytest.mark.slow
def test_commands_run_as_written(tmp_path: Path, frame: Path) -> None:
    origin, home, clone = copy_project(tmp_path / "origin"), tmp_path / "home", tmp_path / "cygnet"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "Copy"]):
        subprocess.run([*git, *arguments], cwd=origin, check=True)
    home.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = fresh_shell(home, PORT=port)
    values = {
        "<this repository>": str(origin),
        "cd cygnet\n": f"cd cygnet && mv {link_environment(tmp_path / 'venv')} .venv && touch .venv/.installed\n",
        "/path/to/video.mp4": str(clone / "data/01_raw/swan.mp4"),
        "frame.jpg": str(frame),
        "localhost:5001": f"localhost:{port}",
    }
    said = []
    for block in blocks(README):
        if not is_run_by_ci(block):
            as_run = re.sub("|".join(map(re.escape, values)), lambda match: values[match[0]], block)
            said.append(run(as_run, clone if clone.exists() else tmp_path, environment))
    reports = home / "data/08_reporting"
    assert json.loads((reports / "serving_report.json").read_text())["passed"]
    assert (reports / "scoring/swan_timeline.png").stat().st_size > 0
    (row,) = json.loads(re.findall(r'^.*({"predictions": .*})', "\n".join(said), re.MULTILINE)[-1])["predictions"]
    assert row["error"] is None
    assert 0 <= row["anomaly_score"] <= 1


def test_the_query_of_databricks_sends_a_whole_frame(tmp_path: Path, frame: Path) -> None:
    (query,) = [block for block in blocks((PROJECT / "docs/databricks.md").read_text()) if "frame.jpg" in block]
    stub = tmp_path / "bin/databricks"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\nwhile [ "$1" != --json ]; do shift; done\ncat "${2#@}"\n')
    stub.chmod(0o755)
    environment = {"PATH": f"{stub.parent}:/usr/bin:/bin"}
    body = json.loads(run(query.replace("<you>", "me").replace("frame.jpg", str(frame)), tmp_path, environment))
    assert body["dataframe_split"]["columns"] == ["image"]
    assert len(body["dataframe_split"]["data"][0][0]) > frame.stat().st_size
