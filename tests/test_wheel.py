"""What the wheel promises: it holds all that a run needs and nothing private, and runs without a checkout."""

import os
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pyarrow.parquet as pq

PROJECT = Path(__file__).parents[1]


def run(code: str, installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in another process, as a task does: the wheel on the path, no checkout, nothing of this one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CYGNET", "KEDRO"))}
    environment |= {"PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


TASK = "from cygnet.__main__ import run_job; import cygnet; print(cygnet.__file__); assert run_job() is None"


def test_wheel_holds_the_configuration_and_nothing_private(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    conf = {name.removeprefix("cygnet/conf/") for name in names if name.startswith("cygnet/conf/")}
    expected = {path.relative_to(PROJECT / "conf").as_posix() for path in (PROJECT / "conf").rglob("*.yml")}
    assert conf == {name for name in expected if not name.startswith("local/")}
    assert not any("local" in Path(name).parts for name in names)
    assert {"cygnet/checkpoints/cygnet-vit-tiny/model.safetensors", "cygnet/java/bin/java"} <= set(names)
    assert not any(name.startswith(("tests/", "data/")) for name in names)


def test_wheel_brings_neither_spark_nor_pins() -> None:
    base = [requirement for requirement in requires("cygnet") or [] if "extra ==" not in requirement]
    assert not any("pyspark" in requirement or "spark-local" in requirement for requirement in base)
    assert not any("==" in requirement for requirement in base)


def test_a_task_of_the_wheel_needs_no_checkout(installed: Path, tmp_path: Path) -> None:
    done = run(TASK, installed, tmp_path, "--env=test", "--pipelines=ingestion", "--params=job_run_id=7")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(str(installed))
    assert pq.read_table(tmp_path / "data/test/03_primary/images").num_rows > 20


def test_a_task_that_fails_says_why_in_its_last_line(installed: Path, tmp_path: Path) -> None:
    failed = run(TASK, installed, tmp_path, "--env=test", "--pipelines=synthesis")
    assert failed.returncode == 1
    assert "run `kedro run --pipeline=ingestion`" in failed.stderr.strip().splitlines()[-1]


def test_a_command_says_a_mistake_in_a_sentence(installed: Path, tmp_path: Path) -> None:
    command = "from cygnet.__main__ import main; main()"
    failed = run(command, installed, tmp_path, "--env=test", "--params=ingestion.interval_s=-1")
    assert failed.returncode == 1
    assert "Parameter 'ingestion.interval_s' is -1" in failed.stderr
    assert "Traceback" not in failed.stderr
