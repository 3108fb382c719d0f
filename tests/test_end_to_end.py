"""Everything once, for real: `kedro run --env test` as a user types it, and runs that a user gets wrong."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import mlflow
import nbformat
import numpy as np
import pandas as pd
import pyarrow.dataset as pad
import pyarrow.parquet as pq
import pyspark
import pytest
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from nbclient import NotebookClient

from cygnet.job_runs import TAG
from cygnet.model.evaluation.evaluate import evaluate, evaluate_baselines
from cygnet.model.evaluation.localisation import localise
from cygnet.model.evaluation.results import FittedBaseline
from cygnet.model.serving.scorer import Calibration
from cygnet.parameters.base import Parameters
from cygnet.reports import EvaluationReport, ParityReport, ScoringReport, ServingReport
from cygnet.tables import NORMAL, TABLES
from support.reports import assert_conforms

PROJECT = Path(__file__).parents[1]
KEDRO = str(Path(sys.executable).parent / "kedro")
PLACES = {
    "frames": "02_intermediate/frames",
    "images": "03_primary/images",
    "anomalies": "04_feature/anomalies",
    "training_set": "05_model_input/training_set",
    "predictions": "07_model_output/predictions",
    "baselines": "07_model_output/baselines",
    "scores": "07_model_output/scores",
}
FIRST_REPORTS = "first_reporting"
TASKS = ("ingestion", "synthesis", "augmentation", "training", "serving")


def kedro_run(
    data: Path, *arguments: str, command: tuple[str, ...] = (KEDRO, "run"), cwd: Path = PROJECT, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `kedro run --env test` with its own data folder and tracker."""
    environment = {**os.environ, "CYGNET_DATA": str(data), "DO_NOT_TRACK": "1", **variables}
    return subprocess.run(
        [*command, "--env", "test", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def read(data: Path, table: str) -> pd.DataFrame:
    return pq.read_table(data / PLACES[table]).to_pandas()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Give the data folder of one whole run, which has a copy of its reports for later, and what it printed."""
    data = tmp_path_factory.mktemp("run")
    result = kedro_run(data)
    assert result.returncode == 0, result.stderr
    shutil.copytree(data / "08_reporting", data / FIRST_REPORTS)
    return data, result


def test_the_run_writes_every_report_and_says_where(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    data, result = finished
    names = ["evaluation.json", "serving_report.json", "rejects.csv", "contact_sheet.png", "score_histogram.png"]
    names += ["roc.png", "precision_recall.png", "reliability.png", "confusion.png", "auroc_by_kind.png"]
    names += ["training_curves.png", "anomaly_maps.png", "parity.json"]
    for name in names:
        assert (data / "08_reporting" / name).stat().st_size > 0
        assert str(data / "08_reporting" / name) in result.stderr


@pytest.mark.parametrize(
    ("name", "shape"), [("evaluation", EvaluationReport), ("parity", ParityReport), ("serving_report", ServingReport)]
)
def test_the_reports_have_their_declared_shape(
    name: str, shape: type, finished: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    assert_conforms(json.loads((finished[0] / FIRST_REPORTS / f"{name}.json").read_text()), shape)


def test_the_log_has_no_noise(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, result = finished
    for noise in ("Traceback", "Warning", "WARN", "log4j", "incubator", "it/s]"):
        assert noise not in result.stderr + result.stdout


@pytest.fixture(scope="module")
def scored(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Give the data folder after the champion has scored the sample, with some frames labelled, and what it printed."""
    data, _ = finished
    labels = data / "labels.csv"
    rows = [f"swan_{index:06d},abnormal,1," for index in range(20, 41, 5)]
    labels.write_text("\n".join(["image_name,label,confidence,notes", *rows]))
    result = kedro_run(data, "--pipeline=scoring", f"--params=labels={labels}")
    assert result.returncode == 0, result.stderr
    return data, result


def test_scoring_writes_every_frame_of_the_sample_and_its_reports(
    scored: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    data, result = scored
    rows = pd.read_csv(data / "07_model_output/scores.csv")
    assert list(rows.columns) == ["source", "frame_index", "timestamp_s", "anomaly_score", "is_anomalous"]
    assert rows["frame_index"].tolist() == list(range(80))
    events = pd.read_csv(data / "07_model_output/events.csv")
    assert list(events.columns) == ["source", "start_s", "end_s", "peak_score", "peak_frame_index"]
    report = json.loads((data / "08_reporting/scoring_report.json").read_text())
    assert_conforms(report, ScoringReport)
    assert (report["frames"], report["failed_frames"]) == (80, {})
    assert report["labels"]["spans"] == 1
    assert cv2.VideoCapture(str(data / "08_reporting/scoring/swan.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 80
    assert (data / "08_reporting/scoring/swan_timeline.png").stat().st_size > 0
    assert str(data / "08_reporting/scoring_report.json") in result.stderr
    for noise in ("Traceback", "Warning", "WARN", "log4j", "it/s]"):
        assert noise not in result.stderr + result.stdout


def test_tables_have_the_agreed_columns_and_types(
    scored: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    data, _ = scored
    for name, schema in TABLES.items():
        stored = pq.read_schema(next((data / PLACES[name]).glob("*.parquet")))
        assert [(field.name, field.type) for field in stored] == [(field.name, field.type) for field in schema]


def test_no_frame_is_in_two_splits_and_neighbours_are_apart(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    data, _ = finished
    split_of = read(data, "images").set_index("frame_id")["split"]
    times = read(data, "frames").set_index("frame_id")["timestamp_s"]
    for table in ("anomalies", "training_set", "predictions"):
        rows = read(data, table)
        assert (rows["split"] == rows["frame_id"].map(split_of)).all()
    time_of = {split: times[split_of.index[split_of == split]] for split in ("train", "validation", "test")}
    assert time_of["validation"].min() - time_of["train"].max() >= 0.3
    assert time_of["test"].min() - time_of["validation"].max() >= 0.3


def test_train_is_balanced_without_a_repeated_image_and_the_rest_is_not_augmented(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    data, _ = finished
    rows, images = read(data, "training_set"), read(data, "images")
    train = rows[rows["split"] == "train"]
    assert train["label"].value_counts().to_dict() == {NORMAL: 60, 0: 40}
    assert train["image"].nunique() == 100
    for split in ("validation", "test"):
        normal = rows[(rows["split"] == split) & (rows["kind"] == "none")]
        assert sorted(normal["frame_id"]) == sorted(images.loc[images["split"] == split, "frame_id"])
        polygons = rows[(rows["split"] == split) & (rows["kind"] == "polygon")].groupby("frame_id").size()
        assert (polygons == {"validation": 1, "test": 2}[split]).all()


def calibration_of(figures: dict[str, Any]) -> Calibration:
    """What the scores were made with, as a report has it."""
    rule = figures["threshold_rule"]
    return Calibration(figures["temperature"], figures["threshold"], rule["rule"], rule["promised_fpr"])


def test_evaluation_can_be_recomputed_from_the_tables(
    finished: tuple[Path, subprocess.CompletedProcess[str]], parameters: dict[str, Parameters]
) -> None:
    data, _ = finished
    report = json.loads((data / "08_reporting/evaluation.json").read_text())
    settings, predictions = parameters["training"].evaluation, read(data, "predictions")
    found = localise(pad.dataset(data / PLACES["training_set"], exclude_invalid_files=True), predictions)
    again = evaluate(predictions, calibration_of(report), report["training"], settings, found)
    fitted = {
        name: FittedBaseline(metrics["variant"], calibration_of(metrics))
        for name, metrics in report["baselines"].items()
    }
    again["baselines"] = evaluate_baselines(read(data, "baselines"), fitted, settings)
    assert json.loads(json.dumps(again)) == report


def test_the_baselines_stand_beside_the_detector_with_intervals(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    data, _ = finished
    report = json.loads((data / "08_reporting/evaluation.json").read_text())
    assert set(report["baselines"]) == {"majority", "pixel_statistics", "median_mad", "nearest_neighbour"}
    for figures in (report, *report["baselines"].values()):
        null = figures["by_kind"]["null"]["intervals"]["auroc"]
        assert null["low"] <= 0.5 <= null["high"]
        assert figures["counts"] == report["counts"]
    assert set(report["localisation"]) == {"pixel_average_precision", "pro_at_fpr_30pct"}


def test_the_control_kind_scores_like_normal(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    data, _ = finished
    rows = read(data, "predictions")
    scores = rows[rows["split"] == "test"].set_index("frame_id")
    null, normal = (scores.loc[scores["kind"] == kind, "anomaly_score"].sort_index() for kind in ("null", "none"))
    assert len(null) == len(normal) > 10
    np.testing.assert_allclose(null, normal, atol=1e-6)


def test_the_endpoint_answers_what_predictions_say(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    data, _ = finished
    report = json.loads((data / "08_reporting/serving_report.json").read_text())
    assert report["passed"] is True
    assert report["reasons"] == []
    assert report["max_abs_score_difference"] < 1e-4
    assert report["request_bytes"]["max"] < 1_000_000


def test_mlflow_has_parameters_history_figures_lineage_and_the_promoted_model(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    data, _ = finished
    client = mlflow.MlflowClient(f"sqlite:///{data}/mlflow.db")
    experiment = client.get_experiment_by_name("cygnet")
    run, *_ = client.search_runs([experiment.experiment_id], order_by=["start_time ASC"])
    assert run.info.status == "FINISHED"
    assert run.data.params["training.epochs"] == "2"
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "validation_nll")] == [0, 1, 2]
    assert run.data.metrics.keys() >= {
        "test.auroc",
        "test.intervals.auroc.low",
        "test.by_kind.polygon.localisation.pro_at_fpr_30pct",
        "test.baselines.nearest_neighbour.by_kind.polygon.auroc",
    }
    assert {item.path for item in client.list_artifacts(run.info.run_id)} >= {"figures", "reports"}
    assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["training_set"]
    champion = client.get_model_version_by_alias("cygnet-test", "champion")
    assert champion.version == client.get_model_version_by_alias("cygnet-test", "challenger").version
    assert (champion.tags["cygnet_gate_decision"], champion.tags["cygnet_gate_passed"]) == ("promote", "true")


def test_the_notebook_shows_the_run(
    finished: tuple[Path, subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _ = finished
    monkeypatch.setenv("CYGNET_DATA", str(data))
    monkeypatch.setenv("KEDRO_ENV", "test")
    notebook = nbformat.read(PROJECT / "notebooks/results.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(PROJECT / "notebooks")}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not (PROJECT / "notebooks/mlflow.db").exists()


def test_serving_alone_in_a_fresh_process_compares_with_the_champion(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    data, _ = finished
    result = kedro_run(data, "--pipelines", "serving")
    assert result.returncode == 0, result.stderr
    report = json.loads((data / "08_reporting/serving_report.json").read_text())
    assert report["champion"]["auroc"] == pytest.approx(report["auroc"])


def test_a_refused_challenger_is_not_promoted_and_the_report_says_why(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    data, _ = finished
    result = kedro_run(
        data, "--pipelines", "serving", "--params=serving.gate.min_auroc=1.0,serving.gate.max_auroc_loss=0"
    )
    report = json.loads((data / "08_reporting/serving_report.json").read_text())
    if report["auroc"] == 1.0:
        pytest.skip("the detector is perfect here: nothing to refuse")
    assert result.returncode == 1
    assert report["passed"] is False
    assert "serving.gate.min_auroc" in report["reasons"][0]
    assert "is not promoted" in result.stderr.splitlines()[-1]
    version = mlflow.MlflowClient(f"sqlite:///{data}/mlflow.db").get_model_version_by_alias("cygnet-test", "challenger")
    assert version.tags["cygnet_gate_decision"] == "refuse"
    assert "serving.gate.min_auroc" in version.tags["cygnet_gate_reasons"]


def test_a_rollback_puts_the_champion_before_back_and_a_second_one_finds_none(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    data, _ = finished
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
    assert f"Error: There is no champion of 'cygnet-test' before version {first}" in again.stderr.splitlines()[-1]
    assert "Running node" not in again.stderr
    assert client.get_model_version_by_alias("cygnet-test", "champion").version == first


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--params=video=/nowhere/at_all.mp4"], "video=/nowhere/at_all.mp4: no such file or folder"),
        (["--params=ingestion.interval_s=-1"], "'ingestion.interval_s' is -1"),
        (["--params=ingestion.intervall_s=1"], "the nearest known one is 'ingestion.interval_s'"),
        (["--params=vidoe=x.mp4"], "the nearest known one is 'video'"),
        (["--params=training.epochs=many"], "'training.epochs' is 'many'"),
        (["--params=training.checkpoint=/nowhere/vit"], "'/nowhere/vit' can't be used: there is no such folder"),
        (["--params=labels=/nowhere/labels.csv"], "labels=/nowhere/labels.csv: no such file"),
        (["--pipelines", "pretraining", "--params=pretraining.small_size_px=50"], "small_size_px 50 is not a multiple"),
        (["--pipelines", "synthesis"], "There is no table 'images'"),
        (["--pipelines", "serving"], "is the challenger: run"),
        (["--pipelines", "rollback"], "is the champion: run `kedro run --pipeline=serving` first"),
    ],
)
def test_a_mistake_gets_one_sentence_and_no_traceback(arguments: list[str], expected: str, tmp_path: Path) -> None:
    result = kedro_run(tmp_path, *arguments)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert expected in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert "Running node" not in result.stderr


def test_bad_files_and_labels_cost_only_themselves(
    tmp_path: Path, scene: Callable[..., np.ndarray], write_video: Callable[..., Path]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(40):
        cv2.imwrite(str(folder / f"shot_{index}.png"), scene(index))
    (folder / "shot_7.png").write_bytes(b"no image")
    whole = write_video("clip.avi", 40, codec="MJPG")
    (folder / "clip.avi").write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.8)])
    (folder / "broken.mp4").write_bytes(b"no video")
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "image_name,label,confidence,notes,source\n"
        "shot_3.png,abnormal,0.9,,llm\n"
        "clip_000002,normal,,,\n"
        "shot_99,abnormal,,,\n"
        "other_000001,abnormal,,,\n"
        "other_000002,abnormal,,,\n"
    )
    result = kedro_run(tmp_path / "data", "--pipelines", "ingestion", f"--params=video={folder},labels={labels}")
    assert result.returncode == 0, result.stderr
    images = read(tmp_path / "data", "images").set_index("frame_id")
    frames = read(tmp_path / "data", "frames")
    rejects = pd.read_csv(tmp_path / "data/08_reporting/rejects.csv", keep_default_na=False)
    assert images.loc["in/000003", ["label", "label_source"]].tolist() == [0, "llm"]
    assert images.loc["clip/000002", ["label", "label_source"]].tolist() == [1, "human"]
    assert images.loc["in/000004", "label_source"] == "default"
    assert frames[(frames["source"] == "in") & frames["image"].notna()].shape[0] == 39
    assert frames[(frames["source"] == "clip") & frames["image"].notna()].shape[0] > 20
    failed = rejects[rejects["frame_id"] != ""]
    assert set(failed["source"]) == {"in", "clip", "broken"}
    assert rejects.loc[rejects["image_name"] == "shot_99", "reason"].item() == "a label for an image that is not there"
    assert rejects.loc[rejects["reason"].str.contains("not in this run"), "count"].item() == 2


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


def test_spark_connect_gives_the_same_bytes(
    finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    pytest.importorskip("grpc", reason="Spark Connect needs the extra `dev`")
    conf = with_spark({"spark.remote": "local[2]"}, tmp_path)
    result = kedro_run(tmp_path / "data", conf, "--pipelines=ingestion,synthesis,augmentation")
    assert result.returncode == 0, result.stderr
    assert_same_rows(finished[0], tmp_path / "data", ("frames", "images", "anomalies", "training_set"))


def test_python_3_12_gives_the_same_bytes(
    finished: tuple[Path, subprocess.CompletedProcess[str]], python312: Path, installed: Path, tmp_path: Path
) -> None:
    result = kedro_run(
        tmp_path / "data",
        "--pipelines=ingestion,synthesis,augmentation",
        command=(str(python312), "-m", "cygnet"),
        cwd=tmp_path,
        PYTHONPATH=f"{installed}:{python312.parent.parent / 'shared'}",
    )
    assert result.returncode == 0, result.stderr
    assert_same_rows(finished[0], tmp_path / "data", ("frames", "images", "anomalies", "training_set"))


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


def test_the_five_tasks_of_a_job_on_a_cluster_give_the_bytes_of_one_run(
    finished: tuple[Path, subprocess.CompletedProcess[str]], job: Job
) -> None:
    assert_same_rows(finished[0], job.data, tuple(name for name in PLACES if name != "scores"))


def without_times(report: dict[str, Any]) -> dict[str, Any]:
    """What of a report must be the same twice."""
    times = {"seconds", "images_per_second", "latency_ms"}
    return {
        key: without_times(value) if isinstance(value, dict) else value
        for key, value in report.items()
        if key not in times
    }


@pytest.mark.parametrize("name", ["evaluation.json", "parity.json", "serving_report.json"])
def test_the_five_tasks_of_a_job_give_the_reports_of_one_run(
    name: str, finished: tuple[Path, subprocess.CompletedProcess[str]], job: Job
) -> None:
    whole, tasks = (
        json.loads((folder / name).read_text()) for folder in (finished[0] / FIRST_REPORTS, job.data / "08_reporting")
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
