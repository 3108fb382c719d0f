"""What the hooks promise: each step is named, and a run ends with its verdict and what to open, failed or not."""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from kedro.framework.hooks.manager import _NullPluginManager
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node
from kedro.runner import AbstractRunner, SequentialRunner, ThreadRunner
from kedro_datasets.json import JSONDataset
from kedro_datasets.partitions import PartitionedDataset

from cygnet.datasets.report import ReportDataset
from cygnet.errors import UserError
from cygnet.hooks import ReportHooks, SparkHooks, UserErrorHooks
from support.runs import PROJECT

JSON = {"type": "json.JSONDataset"}


def count_keys(report: dict[str, Any]) -> str:
    """Sum a report up, as a catalog entry may ask for."""
    return f"{len(report)} keys in all, 100 %"


def miss_promise(report: dict[str, Any]) -> str | None:
    """Warn of a report, as a catalog entry may ask for."""
    return None if "promise" in report else f"no promise in {len(report)} keys"


@pytest.fixture
def told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Callable[..., list[str]]:
    """Give a function that runs a pipeline's hooks, and tells what they log."""

    def run(saved: dict[str, Any], *, fails: bool = False) -> list[str]:
        many = PartitionedDataset(
            path=str(tmp_path / "many"), dataset=JSON, filename_suffix=".json", metadata={"reports": "many/*.json"}
        )
        told_by = {"summary": f"{__name__}.count_keys", "warning": f"{__name__}.miss_promise"}
        datasets = {
            "evaluation": ReportDataset(filepath=f"{Path.cwd()}/anywhere/e.json", dataset=JSON, metadata=told_by),
            "report": ReportDataset(filepath="anywhere/report.html", dataset={"type": "text.TextDataset"}),
            "timelines": many,
            "table": JSONDataset(filepath="08_reporting/t.json"),
            "fitted": MemoryDataset(metadata={"summary": f"{__name__}.count_keys"}),
            "champion": MemoryDataset(),
        }
        pipeline = Pipeline([node(lambda: None, None, list(saved), name="measure")])
        hooks = ReportHooks()
        hooks.before_pipeline_run(pipeline, DataCatalog(datasets))
        with caplog.at_level(logging.INFO, "cygnet"):
            hooks.before_node_run(pipeline.nodes[0])
            for name, data in saved.items():
                if name == "timelines" and data:
                    many.save(data)
                hooks.after_dataset_saved(name, data)
            hooks.on_pipeline_error() if fails else hooks.after_pipeline_run(pipeline)
        return [record.getMessage() for record in caplog.records if record.name == "cygnet.hooks"]

    return run


def test_a_run_ends_with_the_last_result_first_and_with_what_to_open(told: Callable[..., list[str]]) -> None:
    saved = {
        "evaluation": {"promise": 1},
        "timelines": {"a": {}},
        "report": "",
        "table": {},
        "fitted": {"a": 1, "b": 2},
    }
    assert told(saved) == [
        "Step 1 of 1: measure",
        "Done in 1 s.",
        "2 keys in all, 100 %",
        "1 keys in all, 100 %",
        "Open anywhere/report.html",
        "Reports in anywhere: e.json",
        "Reports in many: *.json",
    ]


def test_a_broken_promise_ends_the_verdict_as_a_warning_and_mlflow_describes_the_run_by_both(
    told: Callable[..., list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    try:
        mlflow.create_experiment("described", artifact_location=tmp_path.as_uri())
        with mlflow.start_run(experiment_id=mlflow.get_experiment_by_name("described").experiment_id) as run:
            said = told({"fitted": {"a": 1, "promise": 2}, "evaluation": {}})
        verdict = ["0 keys in all, 100 %", "2 keys in all, 100 %", "no promise in 0 keys"]
        assert mlflow.get_run(run.info.run_id).data.tags["mlflow.note.content"] == "\n\n".join(verdict)
    finally:
        mlflow.set_tracking_uri(None)
    assert said[2:5] == verdict
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == verdict[2:]


def test_a_run_that_makes_a_champion_ends_with_how_to_score_a_video(
    told: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAKELEVEL", "1")
    said = told({"report": "", "champion": ""})
    assert said[-2:] == [
        "Open anywhere/report.html",
        'Score a video: make run ARGS="--pipeline=scoring --params=video=PATH"',
    ]


def test_a_run_that_fails_says_what_came_of_it_until_then(told: Callable[..., list[str]]) -> None:
    assert told({"evaluation": {}, "timelines": {}}, fails=True) == [
        "Step 1 of 1: measure",
        "0 keys in all, 100 %",
        "no promise in 0 keys",
        "Reports in anywhere: e.json",
    ]


def test_without_a_page_a_run_says_which_pipeline_reads_what_it_wrote(
    told: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap_project(PROJECT)
    monkeypatch.delenv("MAKELEVEL", raising=False)
    assert told({"images": {}})[-1] == "Next: kedro run --pipelines=synthesis"
    monkeypatch.setenv("MAKELEVEL", "1")
    assert told({"images": {}})[-1] == 'Next: make run ARGS="--pipelines=synthesis"'


@pytest.mark.parametrize(
    ("error", "is_told"),
    [(UserError("The video is too short."), False), (ValueError("odd"), True)],
)
@pytest.mark.parametrize("runner", [SequentialRunner(), ThreadRunner(max_workers=2)])
def test_kedro_tells_and_advises_only_where_it_is_no_users_mistake(
    runner: AbstractRunner, error: Exception, *, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(one: int) -> None:
        raise error from KeyError(one)

    hooks, pipeline, catalog = (
        UserErrorHooks(),
        Pipeline([node(fail, "one", "two")]),
        DataCatalog({"one": MemoryDataset(1)}),
    )
    hooks._data, hooks._parameters, hooks._given = "data", {}, {}
    hooks.before_pipeline_run(pipeline, catalog)
    with pytest.raises(type(error)):
        runner.run(pipeline, catalog, _NullPluginManager())
    told = " ".join(record.getMessage() for record in caplog.records)
    assert [sign in told for sign in ("failed with error", "Repeat the previous command")] == [is_told] * 2


def test_the_silence_while_spark_starts_is_explained(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cygnet.preflight.uses_spark", lambda *_: True)
    monkeypatch.setattr("cygnet.spark.start_session", lambda _: logging.getLogger("cygnet.hooks").info("started"))
    hooks = SparkHooks()
    hooks._config = {}
    with caplog.at_level(logging.INFO, "cygnet"):
        hooks.before_pipeline_run(Pipeline([]), DataCatalog())
    assert [record.getMessage() for record in caplog.records] == [
        "Starting Spark, which takes some seconds.",
        "started",
    ]


@pytest.mark.parametrize("program", ["cygnet", "cygnet.hooks"])
def test_help_and_hooks_load_nothing_heavy(program: str) -> None:
    heavy = ("mlflow", "pandas", "pyarrow", "pyspark", "torch", "transformers", "cv2", "sklearn", "PIL", "matplotlib")
    code = f"""
import runpy, sys
sys.argv = ["cygnet", "--help"]
try:
    runpy.run_module({program!r}, run_name="__main__")
except SystemExit as end:
    assert not end.code
sys.exit(" ".join(set({heavy}) & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
