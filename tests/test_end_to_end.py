"""Whole runs as a user starts them, in processes of their own: what they print, and the same bytes wherever they run.

What a chain leaves behind is checked in `test_chain.py`, which makes one in seconds. These take minutes each.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pyspark
import pytest
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from cygnet.job_runs import TAG
from cygnet.tables import TABLES
from support.runs import PLACES, PROJECT, kedro_run, read

pytestmark = pytest.mark.slow
FIRST_REPORTS = "first_reporting"
TASKS = ("ingestion", "synthesis", "augmentation", "training", "serving")
NOISE = ("Traceback", "Warning", "WARN", "log4j", "incubator", "it/s]")


@dataclass(frozen=True)
class WholeRun:
    """The data folder of a run, which has a copy of its reports for later, and what it printed."""

    data: Path
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> WholeRun:
    """Run all five pipelines by one `kedro run`."""
    data = tmp_path_factory.mktemp("run")
    done = kedro_run(data)
    assert done.returncode == 0, done.stderr
    shutil.copytree(data / "08_reporting", data / FIRST_REPORTS)
    return WholeRun(data, done)


def noise_in(done: subprocess.CompletedProcess[str]) -> Iterable[str]:
    """What no user needs to read."""
    return [noise for noise in NOISE if noise in done.stderr + done.stdout]


def test_a_run_ends_with_its_verdict_and_what_to_open_and_nothing_of_no_use(whole_run: WholeRun) -> None:
    reports = [path for path in (whole_run.data / FIRST_REPORTS).iterdir() if path.is_file()]
    assert len(reports) >= 13
    folder = whole_run.data / "08_reporting"
    said = [line for line in whole_run.done.stderr.splitlines() if " WARNING " not in line]
    *_, verdict, gate, figures, rejects, page, others, following = said
    assert verdict.endswith("cygnet-test version 1 is the champion.")
    assert "cygnet-test version 1 passed the gate; it calls " in gate
    assert re.search(r"AUROC 0\.\d{3} \(0\.\d{3}-\d\.\d{3}\) on \d+ normal and \d+ abnormal test images; ", figures)
    assert "Set aside: " in rejects
    assert page.endswith(f"Open {folder}/report.html")
    assert {report.name for report in reports} - {"report.html"} <= set(re.split(r"[ ,]+", others))
    assert f"Reports in {folder}: " in others
    assert "Score a video: " in following
    assert noise_in(whole_run.done) == []


def test_scoring_says_where_its_report_is_and_nothing_else_of_no_use(whole_run: WholeRun) -> None:
    done = kedro_run(whole_run.data, "--pipeline=scoring")
    assert done.returncode == 0, done.stderr
    folder = whole_run.data / "08_reporting"
    said = done.stderr[done.stderr.index("Done in ") :]
    assert re.search(r"\d+ frames scored with cygnet-test version 1, \d+ of them anomalous; 0 without a score", said)
    assert re.search(r"\d+ events: swan |No events\.", said)
    assert f"Open {folder}/scoring_report.html" in said
    assert f"Reports in {folder}/scoring: *.mp4, *_timeline.png" in said
    assert noise_in(done) == []


def test_serving_alone_in_a_fresh_process_compares_with_the_champion(whole_run: WholeRun) -> None:
    data = whole_run.data
    result = kedro_run(data, "--pipelines", "serving")
    assert result.returncode == 0, result.stderr
    report = json.loads((data / "08_reporting/serving_report.json").read_text())
    assert report["champion"]["auroc"] == pytest.approx(report["auroc"])


def test_a_rollback_puts_the_champion_before_back_and_a_second_one_finds_none(whole_run: WholeRun) -> None:
    data = whole_run.data
    client = mlflow.MlflowClient(f"sqlite:///{data}/mlflow.db")
    first = client.get_model_version_by_alias("cygnet-test", "champion").version
    second = client.copy_model_version(f"models:/cygnet-test/{first}", "cygnet-test").version
    client.set_registered_model_alias("cygnet-test", "challenger", second)
    served = kedro_run(data, "--pipelines", "serving", "--params=serving.gate.mode=off")
    assert served.returncode == 0, served.stderr
    assert json.loads((data / "08_reporting/serving_report.json").read_text())["gate"]["mode"] == "off"
    assert client.get_model_version_by_alias("cygnet-test", "champion").version == second
    rolled_back = kedro_run(data, "--pipelines", "rollback")
    assert rolled_back.returncode == 0, rolled_back.stderr
    assert client.get_model_version_by_alias("cygnet-test", "champion").version == first
    again = kedro_run(data, "--pipelines", "rollback")
    assert again.returncode == 1
    assert f"has no previous champion to roll back to: version {first}" in again.stderr.splitlines()[-1]
    assert "Step 1 of" not in again.stderr
    assert client.get_model_version_by_alias("cygnet-test", "champion").version == first


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--params=ingestion.interval_s=-1"], "'ingestion.interval_s' is -1"),
        (["--pipelines", "synthesis"], "There is no table 'images'"),
    ],
)
def test_a_mistake_is_one_sentence_and_ends_the_process_with_status_1(
    arguments: list[str], expected: str, tmp_path: Path
) -> None:
    done = kedro_run(tmp_path, *arguments)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert expected in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "Step 1 of" not in done.stderr


def with_spark(settings: dict[str, str], folder: Path, conf: Path = PROJECT / "conf") -> str:
    """Copy the configuration, with other settings of Spark for `--env test`; give the argument that names it."""
    shutil.copytree(conf, folder / "conf")
    (folder / "conf" / "test" / "spark.yml").write_text(json.dumps(settings))
    return f"--conf-source={folder / 'conf'}"


def assert_same_rows(one: Path, other: Path, tables: tuple[str, ...]) -> None:
    for table in tables:
        key = "image_id" if "image_id" in TABLES[table].names else "frame_id"
        rows = [read(data, table).sort_values(key, ignore_index=True) for data in (one, other)]
        pd.testing.assert_frame_equal(*rows, check_exact=True)


def test_spark_connect_gives_the_same_bytes(whole_run: WholeRun, tmp_path: Path) -> None:
    pytest.importorskip("grpc", reason="Spark Connect needs the extra `dev`")
    conf = with_spark({"spark.remote": "local[2]"}, tmp_path)
    result = kedro_run(tmp_path / "data", conf, "--pipelines=ingestion,synthesis,augmentation")
    assert result.returncode == 0, result.stderr
    assert_same_rows(whole_run.data, tmp_path / "data", ("frames", "images", "anomalies", "training_set"))


def test_python_3_12_gives_the_same_bytes(
    whole_run: WholeRun, python312: Path, installed: Path, tmp_path: Path
) -> None:
    result = kedro_run(
        tmp_path / "data",
        "--pipelines=ingestion,synthesis,augmentation",
        command=(str(python312), "-m", "cygnet"),
        cwd=tmp_path,
        PYTHONPATH=f"{installed}:{python312.parent.parent / 'shared'}",
    )
    assert result.returncode == 0, result.stderr
    assert_same_rows(whole_run.data, tmp_path / "data", ("frames", "images", "anomalies", "training_set"))


@dataclass
class Job:
    """A job of five tasks: each one a process in a fresh environment with the wheel, where no checkout is.

    Spark is a cluster of two executors. They are processes of their own, which find the wheel by the environment alone.
    """

    folder: Path
    environment: Path
    conf: str

    @property
    def data(self) -> Path:
        """Where its tables and reports are."""
        return self.folder / "data"

    def task(self, pipeline: str, *parameters: str) -> subprocess.CompletedProcess[str]:
        """Run a task."""
        return kedro_run(
            self.data,
            self.conf,
            f"--pipelines={pipeline}",
            f"--params={','.join(['job_run_id=11', *parameters])}",
            command=(str(self.environment / "bin" / "cygnet-job"),),
            cwd=self.folder,
            PYTHONPATH="",
            SPARK_HOME=str(Path(pyspark.__file__).parent),
        )

    def runs(self) -> tuple[Run, list[Run]]:
        """Give the job's MLflow run and those of its tasks, the oldest first."""
        client = mlflow.MlflowClient(f"sqlite:///{self.data}/mlflow.db")
        experiment = client.get_experiment_by_name("cygnet")
        found = client.search_runs([experiment.experiment_id], order_by=["start_time ASC"])
        (parent,) = [run for run in found if TAG in run.data.tags]
        return parent, [run for run in found if run.data.tags.get(MLFLOW_PARENT_RUN_ID) == parent.info.run_id]


@pytest.fixture(scope="module")
def job(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Give a job whose five tasks went well."""
    folder = tmp_path_factory.mktemp("job")
    cluster = {"spark.master": "local-cluster[2,1,2048]", "spark.executor.memory": "2g"}
    carried = next(environment.glob("lib/python*/site-packages/cygnet/conf"))
    made = Job(folder, environment, with_spark(cluster, folder, carried))
    for name in TASKS:
        done = made.task(name)
        assert done.returncode == 0, done.stderr
    return made


def test_the_five_tasks_of_a_job_on_a_cluster_give_the_bytes_of_one_run(whole_run: WholeRun, job: Job) -> None:
    assert_same_rows(whole_run.data, job.data, tuple(name for name in PLACES if name != "scores"))


def without_times(report: dict[str, Any]) -> dict[str, Any]:
    """What of a report must be the same twice."""
    times = {"seconds", "images_per_second", "latency_ms"}
    return {
        key: without_times(value) if isinstance(value, dict) else value
        for key, value in report.items()
        if key not in times
    }


@pytest.mark.parametrize("name", ["evaluation.json", "parity.json", "serving_report.json"])
def test_the_five_tasks_of_a_job_give_the_reports_of_one_run(name: str, whole_run: WholeRun, job: Job) -> None:
    whole, tasks = (
        json.loads((folder / name).read_text())
        for folder in (whole_run.data / FIRST_REPORTS, job.data / "08_reporting")
    )
    assert without_times(whole) == without_times(tasks)


def test_the_tasks_of_a_job_are_runs_below_one_and_a_rerun_that_fails_joins_them(job: Job) -> None:
    parent, children = job.runs()
    assert (parent.info.status, [child.info.status for child in children]) == ("FINISHED", ["FINISHED"] * 5)
    failed = job.task("serving", "serving.gate.max_normal_p99=0")
    assert failed.returncode == 1
    assert "is not promoted: the 99th percentile of normal images' scores" in failed.stderr.splitlines()[-1]
    parent, children = job.runs()
    assert (parent.info.status, [child.info.status for child in children[5:]]) == ("FAILED", ["FAILED"])
