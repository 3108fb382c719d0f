"""What calibration promises of the champion: fewer false alarms on such video, the same network, and a way back."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from cygnet.datasets.registry import RegisteredModelDataset
from cygnet.datasets.table import TableDataset
from cygnet.endpoints.versions import PREVIOUS_CHAMPION, ModelVersion
from cygnet.errors import UserError
from cygnet.model.evaluation.evaluate import auroc
from cygnet.model.scoring.score_parts import ScoreParts
from cygnet.model.serving.packaging import PackagedDetector, fetch_detector
from cygnet.model.serving.scorer import Calibration, scores_of
from cygnet.parameters.base import Parameters
from cygnet.pipelines.calibration.gate import AurocComparison, judge, measure_auroc
from cygnet.pipelines.calibration.nodes import recalibrate_champion, score_normal_video
from cygnet.reports import CalibrationReport
from cygnet.tables import NORMAL, PREDICTIONS, SOURCES
from cygnet.vision.codec import encode_jpeg
from support.reports import assert_conforms
from support.runs import PLACES, run_here
from support.toys import toy_image, toy_predictions, toy_scorer, tracked

FRAMES_PER_S = 10.0
FEWEST_FRAMES = 200
MODEL = "cygnet-test"


def write_normal(path: Path, brightness: int, seed: int, frames: int = FEWEST_FRAMES) -> Path:
    """Write a video of noise whose brightness varies a little from frame to frame."""
    rng = np.random.default_rng(seed)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FRAMES_PER_S, (64, 64))
    for _ in range(frames):
        image = brightness + rng.normal(0, 8) + rng.normal(0, 12, (64, 64, 3))
        writer.write(np.clip(image, 0, 255).astype(np.uint8))
    writer.release()
    return path


def predictions_of(calibration: Calibration) -> pd.DataFrame:
    """Rows of `predictions` for `test`, scored with this calibration."""
    rng = np.random.default_rng(0)
    rows = toy_predictions(list(rng.uniform(0.05, 0.6, 40)), list(rng.uniform(0.4, 0.95, 40)))
    return rows.assign(**scores_of(rows, calibration))


class Project:
    """The data of a run whose champion was never fitted."""

    def __init__(self, data: Path, parameters: dict[str, Parameters]) -> None:
        self.data = data
        scorer = toy_scorer(parameters["training"], score="combined")
        scorer = scorer.with_calibration(replace(scorer.calibration, target_fpr=0.05))
        rows = predictions_of(scorer.calibration)
        TableDataset(filepath=str(data / PLACES["predictions"]), table="predictions", load_as="arrow").save(rows)
        metadata = {"auroc_test": auroc(rows), "note": "toy"}
        with tracked(data):
            registered = RegisteredModelDataset(name=MODEL, alias="champion")
            registered.save(PackagedDetector(scorer, encode_jpeg(toy_image(NORMAL), 95), metadata))

    def calibrate(self, video: Path, **scoring: Any) -> dict[str, Any]:
        """Run the pipeline; give its report."""
        run_here(self.data, "calibration", video=str(video), scoring=scoring)
        report: dict[str, Any] = json.loads(self.report_path.read_text())
        return report

    def score(self, video: Path) -> pd.DataFrame:
        """Run the pipeline scoring; give the frames."""
        run_here(self.data, "scoring", video=str(video), scoring={"annotated_video": False})
        return pd.read_csv(self.data / "07_model_output/scores.csv")

    def score_parts(self) -> list[Path]:
        """The files that scoring keeps for the next run."""
        return sorted((self.data / "07_model_output/score_parts").rglob("*.parquet"))

    @property
    def report_path(self) -> Path:
        """Where the report is."""
        return self.data / "08_reporting/calibration_report.json"

    @property
    def client(self) -> mlflow.MlflowClient:
        """Its registry."""
        return mlflow.MlflowClient(f"sqlite:///{self.data}/mlflow.db")

    @property
    def champion(self) -> str:
        """The champion's version."""
        return str(self.client.get_model_version_by_alias(MODEL, "champion").version)

    @property
    def versions(self) -> list[str]:
        """All of them."""
        return sorted(str(each.version) for each in self.client.search_model_versions(f"name='{MODEL}'"))

    def detector(self, version: str) -> PackagedDetector:
        """Read a version."""
        with tracked(self.data):
            return fetch_detector(f"models:/{MODEL}/{version}")


@pytest.fixture(scope="module")
def made(spark: SparkSession, parameters: dict[str, Parameters], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Give a project whose champion is calibrated on bright video: version 2. In dark frames it sees anomalies."""
    project = Project(tmp_path_factory.mktemp("calibrated"), parameters)
    project.calibrate(write_normal(project.data / "bright.avi", 150, seed=1))
    return project


def test_calibrated_in_other_light_it_keeps_the_rate_there_and_a_rollback_restores_the_champion(
    made: Project,
) -> None:
    dark = write_normal(made.data / "dark.avi", 60, seed=2)
    more = write_normal(made.data / "more.avi", 60, seed=3)
    before = made.champion
    old_scores = made.score(more)
    assert old_scores["is_anomalous"].mean() > 0.5
    kept = made.score_parts()
    assert kept
    report = made.calibrate(dark)
    assert made.score_parts() == kept
    assert_conforms(report, CalibrationReport)
    assert report["model"]["version"] == before
    assert report["decision"] == "promote"
    assert (report["frames"], report["threshold_frames"]) == (200, 100)
    assert report["hours"] == pytest.approx(20 / 3600)
    assert report["old_anomalous_frac"] > 0.5
    assert report["anomalous_frac"] <= report["promised_fpr"] == 0.05
    assert report["alarms_per_hour_upper_bound"] > report["alarms_per_hour"]
    calibrated = made.champion
    assert calibrated != before
    assert made.client.get_model_version(MODEL, calibrated).tags[PREVIOUS_CHAMPION] == before
    assert made.score(more)["is_anomalous"].mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)  # 100 frames set it
    run_here(made.data, "rollback")
    assert made.champion == before
    pd.testing.assert_frame_equal(made.score(more), old_scores, check_exact=True)


def test_a_threshold_that_scoring_would_use_instead_gets_a_warning(
    made: Project, parameters: dict[str, Parameters], caplog: pytest.LogCaptureFixture
) -> None:
    scoring = parameters["scoring"]
    frames = pd.DataFrame(
        {
            "frame_id": [f"a/{index:06d}" for index in range(50)],
            "source": "a",
            "media": "video",
            "frame_index": range(50),
            "timestamp_s": np.arange(50) / FRAMES_PER_S,
            "classifier_margin": np.linspace(-1, 1, 50),
            "normality_distance": np.linspace(1, 2, 50),
            "motion": np.linspace(0, 1, 50),
        }
    )
    for threshold, warnings in ((None, 0), (0.7, 1)):
        caplog.clear()
        given = scoring.model_copy(update={"threshold": threshold})
        recalibrate_champion(frames, made.detector("1"), given, 0.05)
        assert sum("scoring.threshold is 0.7" in record.getMessage() for record in caplog.records) == warnings


def test_network_example_and_records_stay(made: Project) -> None:
    first, second = made.detector("1"), made.detector("2")
    images = [toy_image(NORMAL, seed) for seed in range(3)]
    one, other = (each.scorer.measure(images).images for each in (first, second))
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert first.input_example == second.input_example == encode_jpeg(toy_image(NORMAL), 95)
    assert (second.metadata["note"], second.metadata["recalibrated_version"]) == ("toy", "1")
    assert second.metadata["threshold"] == second.scorer.calibration.threshold != first.scorer.calibration.threshold
    assert second.scorer.calibration.temperature == first.scorer.calibration.temperature


def test_video_too_short_for_the_alarm_rate_is_a_sentence_and_changes_nothing(made: Project, tmp_path: Path) -> None:
    before = (made.champion, made.versions, made.report_path.read_bytes())
    with pytest.raises(
        UserError,
        match=r"too short for scoring.max_alarms_per_hour=1: its second half, 10 s, .* at best 1,080 alarms",
    ):
        made.calibrate(write_normal(tmp_path / "short.avi", 60, seed=4), max_alarms_per_hour=1)
    assert (made.champion, made.versions, made.report_path.read_bytes()) == before


def test_a_calibration_that_ranks_the_test_rows_worse_is_refused_and_changes_nothing(
    made: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse = AurocComparison(0.9, 0.7)
    monkeypatch.setattr("cygnet.pipelines.calibration.nodes.measure_auroc", lambda *_: worse)
    before = (made.champion, made.versions)
    with pytest.raises(UserError, match=r"version \d keeps its calibration: AUROC 0.7000 is more than 0.1 "):
        run_here(
            made.data,
            "calibration",
            video=str(made.data / "bright.avi"),
            serving={"gate": {"max_auroc_loss": 0.1}},
        )
    assert (made.champion, made.versions) == before
    assert json.loads(made.report_path.read_text())["decision"] == "refuse"


def arrow(rows: pd.DataFrame) -> pa.dataset.Dataset:
    return pa.dataset.dataset(pa.Table.from_pandas(rows, schema=PREDICTIONS, preserve_index=False))


def test_the_gate_compares_both_calibrations_on_rows_of_the_champion_alone(parameters: dict[str, Parameters]) -> None:
    old = Calibration(1.0, 0.5, score="combined", normal_margins=[-2.0, 0.0, 2.0], normal_distances=[0.1, 0.5, 1.0])
    new = replace(old, normal_margins=[5.0, 6.0, 7.0], normal_distances=[5.0, 6.0, 7.0])
    rows, gate = predictions_of(old), parameters["serving"].gate
    control = rows[rows["label"] == NORMAL].assign(kind="null", label=0)
    recorded = auroc(rows)
    found = measure_auroc(arrow(pd.concat([rows, control, rows.assign(split="validation")])), recorded, old, new)
    assert found == AurocComparison(recorded, auroc(predictions_of(new)))
    champion = ModelVersion("cygnet", "7")

    def reasons(comparison: AurocComparison) -> list[str]:
        return judge(comparison, champion, gate, "predictions")["reasons"]

    assert reasons(AurocComparison(0.9, 0.9 - gate.max_auroc_loss)) == []
    assert "serving.gate.min_auroc" in reasons(AurocComparison(0.45, 0.45))[0]
    assert "serving.gate.max_auroc_loss" in reasons(AurocComparison(0.9, 0.7))[0]
    for unknown in (None, recorded - 0.01):
        others = measure_auroc(arrow(rows), unknown, old, new)
        assert others == AurocComparison(None, None)
        assert "'predictions' is not of version 7" in reasons(others)[0]


def test_images_of_a_folder_of_abnormal_ones_are_a_sentence(parameters: dict[str, Parameters], tmp_path: Path) -> None:
    rows = [("set", f"{label}/0.png", "image", 0, label) for label in ("normal", "abnormal")]
    sources = pd.DataFrame(rows, columns=SOURCES.names)
    with pytest.raises(UserError, match=r"but abnormal/0.png lies in a folder of abnormal images"):
        score_normal_video(sources, ModelVersion("cygnet", "1"), ScoreParts(tmp_path), parameters["scoring"])
