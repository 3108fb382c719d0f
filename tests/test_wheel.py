"""What the wheel promises: it holds all that a run needs and nothing private, and runs without a checkout."""

import os
import shutil
import subprocess
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pyarrow.parquet as pq
import pytest

PROJECT = Path(__file__).parents[1]
COMMANDS = {"task": ("cygnet-job",), "script": ("cygnet",), "module": ("python", "-m", "cygnet")}


def start(command: tuple[str, ...], environment: Path, cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a program of the fresh environment with `--env=test`, in a folder that is no checkout."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("CYGNET", "KEDRO"))}
    cwd.mkdir(exist_ok=True)
    return subprocess.Popen(
        [environment / "bin" / command[0], *command[1:], *arguments],
        cwd=cwd,
        env={**own, "PYTHONPATH": str(cwd)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    """Wait for the end; give what was printed as an error."""
    return process.communicate(timeout=300)[1]


def test_wheel_holds_the_configuration_and_nothing_private(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    conf = {name.removeprefix("cygnet/conf/") for name in names if name.startswith("cygnet/conf/")}
    expected = {path.relative_to(PROJECT / "conf").as_posix() for path in (PROJECT / "conf").rglob("*.yml")}
    assert conf == {name for name in expected if not name.startswith("local/")}
    assert not any("local" in Path(name).parts for name in names)
    carried = ("checkpoints/cygnet-vit-tiny/model.safetensors", "checkpoints/dinov2-small/LICENSE", "java/bin/java")
    for name in (*carried, "report/templates/report.html"):
        assert f"cygnet/{name}" in names
    assert {f"cygnet/labelling_page/page.{suffix}" for suffix in ("html", "css", "js")} <= set(names)
    assert not any(name.startswith(("tests/", "data/")) for name in names)


def test_wheel_brings_neither_spark_nor_pins() -> None:
    base = [requirement for requirement in requires("cygnet") or [] if "extra ==" not in requirement]
    assert not any("pyspark" in requirement or "spark-local" in requirement for requirement in base)
    assert not any("==" in requirement for requirement in base)
    assert not any("<" in each for each in base if each.startswith(("torch", "pandas", "numpy")))


def test_a_task_starts_without_what_only_nodes_need(environment: Path, tmp_path: Path) -> None:
    code = "import sys; from cygnet.__main__ import run_job; assert run_job() in {0, None}; print(*sys.modules)"
    process = start(("python", "-c", code), environment, tmp_path, "--help")
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    heavy = {"torch", "transformers", "cv2", "matplotlib", "onnxruntime", "sklearn", "databricks.sdk"}
    assert not heavy & set(printed.splitlines()[-1].split())


def test_a_task_of_the_wheel_needs_no_checkout(environment: Path, tmp_path: Path) -> None:
    code = "from cygnet.__main__ import run_job; import cygnet; print(cygnet.__file__); assert run_job() is None"
    arguments = ("--env=test", "--pipelines=ingestion", "--params=job_run_id=7")
    process = start(("python", "-c", code), environment, tmp_path, *arguments)
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert printed.splitlines()[0].startswith(str(environment))
    assert pq.read_table(tmp_path / "data/test/03_primary/images").num_rows > 20


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_what_went_wrong_is_the_last_thing_that_is_printed(
    command: tuple[str, ...], environment: Path, tmp_path: Path
) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(PROJECT / "conf", conf)
    (conf / "test" / "catalog.yml").write_text("previous_champion: {type: broken.Broken}")
    (tmp_path / "crash").mkdir()
    (tmp_path / "crash" / "broken.py").write_text(
        "from kedro.io import AbstractDataset\n"
        "class Broken(AbstractDataset):\n"
        "    def load(self): raise RuntimeError('the pond is dry')\n"
        "    def save(self, data): pass\n"
        "    def _describe(self): return {}\n"
    )
    run = ("--env=test", "--pipelines=rollback")
    mistaken = start(command, environment, tmp_path / "mistake", *run)
    crashed = start(command, environment, tmp_path / "crash", *run, f"--conf-source={conf}")
    mistake, crash = said(mistaken).strip().splitlines(), said(crashed).strip().splitlines()
    assert (mistaken.returncode, crashed.returncode) == (1, 1)
    assert "No version of model 'cygnet-test' is the champion" in mistake[-1]
    assert "the pond is dry" in crash[-1]
    assert any("Traceback" in line for line in crash)
    if command != COMMANDS["task"]:  # a task has to raise, and Python shows where
        assert mistake[-1].startswith("Error: ")
        assert not any("Traceback" in line for line in mistake)


def test_a_command_says_a_wrong_parameter_in_a_sentence(environment: Path, tmp_path: Path) -> None:
    failed = start(("cygnet",), environment, tmp_path, "--env=test", "--params=ingestion.interval_s=-1")
    errors = said(failed)
    assert failed.returncode == 1
    assert "Parameter 'ingestion.interval_s' is -1" in errors
    assert "Traceback" not in errors
