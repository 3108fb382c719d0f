"""A copy of the project with data, tracking and registry of its own, in which a benchmark runs the command line."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.inputs import ROOT

KEDRO_RUN = [sys.executable, "-m", "kedro", "run"]


@contextmanager
def project_copy() -> Iterator[Path]:
    """Copy what a run needs into a folder that is removed at the end; nothing from `conf/local`."""
    with tempfile.TemporaryDirectory(prefix="cygnet-bench-") as folder:
        for name in ("pyproject.toml", ".telemetry"):
            shutil.copy(ROOT / name, folder)
        for name in ("src", "conf"):
            shutil.copytree(ROOT / name, Path(folder, name), ignore=shutil.ignore_patterns("local"))
        Path(folder, "conf", "local").mkdir()
        yield Path(folder)


def environment_of(folder: Path) -> dict[str, str]:
    """Give this process's environment variables, with the data below the copy."""
    return {**os.environ, "CYGNET_DATA": str(folder / "data")}


def kedro_run(folder: Path, *arguments: str) -> None:
    """Run pipelines in a copy of the project.

    Raises:
        SystemExit: The run failed; with the last line that it printed.
    """
    done = subprocess.run(  # noqa: S603
        [*KEDRO_RUN, *arguments],
        cwd=folder,
        env=environment_of(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        msg = f"kedro run {' '.join(arguments)}: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
        sys.exit(msg)
