"""One whole chain in this process, small: what the pipelines leave behind keeps the promises of the tables and reports.

`test_end_to_end.py` runs the same chain as a user does, in processes of its own; `make test-all` includes it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import mlflow
import numpy as np
import pandas as pd
import pyarrow.dataset as pad
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from cygnet.errors import UserError
from cygnet.model.evaluation.calibrate import calibrate
from cygnet.model.evaluation.evaluate import evaluate, evaluate_baselines
from cygnet.model.evaluation.localisation import localise
from cygnet.model.evaluation.results import FittedBaseline, LocalisationByPart
from cygnet.model.evaluation.view import describe_view
from cygnet.model.serving.scorer import Calibration
from cygnet.parameters.base import Parameters
from cygnet.reports import EvaluationReport, ParityReport, ScoringReport, ServingReport
from cygnet.scene import read_scene
from cygnet.tables import NORMAL, TABLES
from support.reports import assert_conforms
from support.runs import PLACES, read, run_here
from support.toys import SMALL_VIT

SMALL = {
    "checkpoint": None,
    "small_vit": SMALL_VIT.model_dump(),
    "evaluation": {"resamples": 100, "normal_frames": 20, "memory_patches": 100},
    "threshold": {"target_fpr": 0.2},  # as conf/test
}
REPORTS = (
    *("report.html", "evaluation.json", "serving_report.json", "parity.json", "rejects.csv", "suspicious_frames.csv"),
    *("contact_sheet.png", "score_histogram.png", "roc.png", "precision_recall.png", "reliability.png"),
    *("confusion.png", "auroc_by_kind.png", "training_curves.png", "anomaly_maps.png", "suspicious_frames.png"),
)


@dataclass(frozen=True)
class Chain:
    """The folder of a finished run's data, and what its last report said before other tests served again."""

    data: Path
    serving_report: dict[str, Any]


def serving_report(data: Path) -> dict[str, Any]:
    """Read what serving reports."""
    report: dict[str, Any] = json.loads((data / "08_reporting/serving_report.json").read_text())
    return report


@pytest.fixture(scope="module")
def chain(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Run all five pipelines."""
    data = tmp_path_factory.mktemp("chain")
    run_here(data, training=SMALL, spark_partitions=2)
    return Chain(data, serving_report(data))


@pytest.fixture(scope="module")
def scored(chain: Chain) -> Path:
    """Let the champion score the sample, with some frames labelled; give the data folder."""
    labels = chain.data / "labels.csv"
    rows = [f"swan_{index:06d},abnormal,1," for index in range(20, 41, 5)]
    labels.write_text("\n".join(["image_name,label,confidence,notes", *rows]))
    run_here(chain.data, "scoring", labels=str(labels))
    return chain.data


def test_every_report_is_written(chain: Chain) -> None:
    for name in REPORTS:
        assert (chain.data / "08_reporting" / name).stat().st_size > 0


@pytest.mark.parametrize(
    ("name", "shape"), [("evaluation", EvaluationReport), ("parity", ParityReport), ("serving_report", ServingReport)]
)
def test_the_reports_have_their_declared_shape(chain: Chain, name: str, shape: type) -> None:
    assert_conforms(json.loads((chain.data / f"08_reporting/{name}.json").read_text()), shape)


def test_scoring_writes_every_frame_of_the_sample_and_its_reports(scored: Path) -> None:
    rows = pd.read_csv(scored / "07_model_output/scores.csv")
    assert list(rows.columns) == ["source", "frame_index", "timestamp_s", "anomaly_score", "is_anomalous"]
    assert rows["frame_index"].tolist() == list(range(80))
    events = pd.read_csv(scored / "07_model_output/events.csv")
    assert list(events.columns) == ["source", "start_s", "end_s", "peak_score", "peak_frame_index"]
    report = json.loads((scored / "08_reporting/scoring_report.json").read_text())
    assert_conforms(report, ScoringReport)
    assert (report["frames"], report["failed_frames"]) == (80, {})
    assert report["labels"]["spans"] == 1
    assert cv2.VideoCapture(str(scored / "08_reporting/scoring/swan.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 80
    assert (scored / "08_reporting/scoring/swan_timeline.png").stat().st_size > 0
    page = (scored / "08_reporting/scoring_report.html").read_text()
    assert page.count('class="timeline"') == 1
    assert page.count("data:image/jpeg") == max(len(events), 1)


def test_tables_have_the_agreed_columns_and_types(scored: Path) -> None:
    for name, schema in TABLES.items():
        stored = pq.read_schema(next((scored / PLACES[name]).glob("*.parquet")))
        assert [(field.name, field.type) for field in stored] == [(field.name, field.type) for field in schema]


def test_no_frame_is_in_two_splits_and_neighbours_are_apart(chain: Chain) -> None:
    data = chain.data
    split_of = read(data, "images").set_index("frame_id")["split"]
    times = read(data, "frames").set_index("frame_id")["timestamp_s"]
    for table in ("anomalies", "training_set", "predictions"):
        rows = read(data, table)
        assert (rows["split"] == rows["frame_id"].map(split_of)).all()
    time_of = {split: times[split_of.index[split_of == split]] for split in ("train", "validation", "test")}
    assert time_of["validation"].min() - time_of["train"].max() >= 0.3
    assert time_of["test"].min() - time_of["validation"].max() >= 0.3


def test_train_is_balanced_without_a_repeated_image_and_the_rest_is_not_augmented(chain: Chain) -> None:
    data = chain.data
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


def test_evaluation_can_be_recomputed_from_the_tables(chain: Chain, parameters: dict[str, Parameters]) -> None:
    data = chain.data
    report = json.loads((data / "08_reporting/evaluation.json").read_text())
    settings = parameters["training"].evaluation.model_copy(update=SMALL["evaluation"])
    predictions = read(data, "predictions")
    images = pad.dataset(data / PLACES["training_set"], exclude_invalid_files=True)
    found = LocalisationByPart(*(localise(images, predictions, name) for name in ("anomaly_map", "classifier_map")))
    validation = predictions[predictions["split"] == "validation"]
    threshold = parameters["training"].threshold.model_copy(update=SMALL["threshold"])
    stored = json.loads(next(data.rglob("detector.json")).read_text())["calibration"]
    left_out = stored["left_out_distances"]
    start = Calibration(1.0, 0.5, score=report["score"], left_out_distances=left_out)
    calibration = calibrate(validation, threshold, start)
    again = evaluate(predictions, calibration, report["training"], settings, found)
    chosen = {
        name: FittedBaseline(figures["variant"], calibration_of(figures))
        for name, figures in report["baselines"].items()
    }
    again["baselines"] = evaluate_baselines(read(data, "baselines"), chosen, settings)
    frames = pad.dataset(data / PLACES["images"], exclude_invalid_files=True)
    scene = read_scene(json.loads((data / "05_model_input/scene.json").read_text()))
    again["view"] = describe_view(frames, scene, SMALL_VIT.image_size_px // SMALL_VIT.patch_size_px)
    assert json.loads(json.dumps(again)) == report


def test_the_baselines_stand_beside_the_detector_with_intervals(chain: Chain) -> None:
    data = chain.data
    report = json.loads((data / "08_reporting/evaluation.json").read_text())
    assert set(report["baselines"]) == {"majority", "pixel_statistics", "median_mad", "nearest_neighbour"}
    for figures in (report, *report["baselines"].values()):
        null = figures["by_kind"]["null"]["intervals"]["auroc"]
        assert null["low"] <= 0.5 <= null["high"]
        assert figures["counts"] == report["counts"]
    assert set(report["localisation"]) == {"pixel_average_precision", "pro_at_fpr_30pct"}


def test_the_control_kind_scores_like_normal(chain: Chain) -> None:
    data = chain.data
    rows = read(data, "predictions")
    scores = rows[rows["split"] == "test"].set_index("frame_id")
    null, normal = (scores.loc[scores["kind"] == kind, "anomaly_score"].sort_index() for kind in ("null", "none"))
    assert len(null) == len(normal) > 10
    np.testing.assert_allclose(null, normal, atol=1e-6)


def test_the_endpoint_answers_what_predictions_say(chain: Chain) -> None:
    data = chain.data
    report = json.loads((data / "08_reporting/serving_report.json").read_text())
    assert report["passed"] is True
    assert report["reasons"] == []
    assert report["max_abs_score_difference"] < 1e-4
    assert report["request_bytes"]["max"] < 1_000_000


def test_mlflow_has_parameters_history_figures_lineage_and_the_promoted_model(chain: Chain) -> None:
    data = chain.data
    client = mlflow.MlflowClient(f"sqlite:///{data}/mlflow.db")
    experiment = client.get_experiment_by_name("cygnet")
    run, *_ = client.search_runs([experiment.experiment_id], order_by=["start_time ASC"])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "ingestion+synthesis+augmentation+training+serving"
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


def test_a_refused_challenger_is_not_promoted_and_the_report_says_why(chain: Chain) -> None:
    gate = {"min_auroc": 1.0, "max_auroc_loss": 0}
    if chain.serving_report["auroc"] == 1.0:
        pytest.skip("the detector is perfect here: nothing to refuse")
    with pytest.raises(UserError, match="is not promoted"):
        run_here(chain.data, "serving", serving={"gate": gate})
    report = serving_report(chain.data)
    assert report["passed"] is False
    assert "serving.gate.min_auroc" in report["reasons"][0]
    assert report["champion"]["auroc"] == pytest.approx(report["auroc"])
    page = (chain.data / "08_reporting/report.html").read_text()
    assert "Not promoted" in page
    assert "serving.gate.min_auroc" in page
    client = mlflow.MlflowClient(f"sqlite:///{chain.data}/mlflow.db")
    version = client.get_model_version_by_alias("cygnet-test", "challenger")
    assert version.tags["cygnet_gate_decision"] == "refuse"
    assert "serving.gate.min_auroc" in version.tags["cygnet_gate_reasons"]


def test_bad_files_and_labels_cost_only_themselves(
    spark: SparkSession, tmp_path: Path, scene: Callable[..., np.ndarray], write_video: Callable[..., Path]
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
    run_here(tmp_path / "data", "ingestion", video=str(folder), labels=str(labels), spark_partitions=2)
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
