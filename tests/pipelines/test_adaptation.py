"""What adaptation promises of the champion: fewer false alarms by distance, nothing fitted, and a way back."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import mlflow
import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from cygnet.datasets.registry import RegisteredModelDataset
from cygnet.datasets.table import TableDataset
from cygnet.endpoints.versions import PREVIOUS_CHAMPION
from cygnet.errors import UserError
from cygnet.model.scoring.frame_scores import FrameScoring
from cygnet.model.scoring.outside import Adaptation, see_again
from cygnet.model.serving.packaging import PackagedDetector, fetch_detector
from cygnet.parameters.base import Parameters
from cygnet.pipelines.adaptation.nodes import compare_subspaces
from cygnet.pipelines.calibration.gate import AurocComparison
from cygnet.reports import AdaptationReport
from cygnet.tables import NORMAL, SOURCES
from cygnet.vision.codec import encode_jpeg
from support.reports import assert_conforms
from support.runs import PLACES, run_here
from support.toys import SCENE, toy_image, toy_rows, toy_scorer, tracked

FRAMES = 60
MODEL = "cygnet-test"


def drawn(seed: int, square: bool) -> np.ndarray:
    """A dark noisy frame, with a bright square or without."""
    image = 60 + np.random.default_rng(seed).integers(-20, 21, (64, 64, 3))
    if square:
        image[:32, :32] = (250, 30, 250)
    return image.astype(np.uint8)


def write_video(path: Path, square_from: int, brightness: int = 0, seed: int = 0) -> Path:
    """Write a dark video; from a frame on, every third one shows the square."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 64))
    for index in range(FRAMES):
        image = drawn(seed + index, square=index >= square_from and index % 3 == 0)
        writer.write(cv2.add(image, np.full_like(image, brightness)))
    writer.release()
    return path


def seen(video: Path) -> list[np.ndarray]:
    """Give the images that the detector sees of a video."""
    rows = [(video.stem, str(video), "video", 0, "")]
    chosen = pd.DataFrame({"source": video.stem, "frame_index": range(FRAMES)})
    scoring = FrameScoring("", "", SCENE.view, None, SCENE)
    return [frame.images[0] for frame in see_again(chosen, pd.DataFrame(rows, columns=SOURCES.names), scoring)]


class Project:
    """The data of a run whose champion was never fitted, but calibrated on dark frames."""

    def __init__(self, data: Path, parameters: dict[str, Parameters]) -> None:
        self.data = data
        scorer = toy_scorer(parameters["training"], runtime="onnx", score="combined")
        dark = write_video(data / "dark.avi", square_from=FRAMES, seed=100)
        normal = scorer.measure(seen(dark)).images
        margins, distances = (sorted(normal[name].astype(float)) for name in normal)
        self.calibration = replace(
            scorer.calibration,
            threshold=0.95,
            target_fpr=0.05,
            normal_margins=margins,
            normal_distances=distances,
        )
        table = TableDataset(filepath=str(data / PLACES["training_set"]), table="training_set", load_as="arrow")
        table.save(toy_rows(8))
        with tracked(data):
            registered = RegisteredModelDataset(name=MODEL, alias="champion")
            metadata = {"auroc_test": 0.9, "note": "toy"}
            calibrated = scorer.with_calibration(self.calibration)
            registered.save(PackagedDetector(calibrated, encode_jpeg(toy_image(NORMAL), 95), metadata))

    def adapt(self, video: Path, **parameters: Any) -> dict[str, Any]:
        """Run the pipeline; give its report."""
        run_here(self.data, "adaptation", video=str(video), **parameters)
        report: dict[str, Any] = json.loads(self.report_path.read_text())
        return report

    def score(self, video: Path) -> pd.DataFrame:
        """Run the pipeline scoring, each frame by itself; give the frames."""
        alone = {"annotated_video": False, "smoothing_s": 0}
        run_here(self.data, "scoring", video=str(video), scoring=alone)
        return pd.read_csv(self.data / "07_model_output/scores.csv")

    @property
    def report_path(self) -> Path:
        """Where the report is."""
        return self.data / "08_reporting/adaptation_report.json"

    @property
    def client(self) -> mlflow.MlflowClient:
        """Its registry."""
        return mlflow.MlflowClient(f"sqlite:///{self.data}/mlflow.db")

    def state(self) -> tuple[str, int, bytes | None]:
        """The champion's version, the number of versions, and the report."""
        champion = str(self.client.get_model_version_by_alias(MODEL, "champion").version)
        versions = len(self.client.search_model_versions(f"name='{MODEL}'"))
        return champion, versions, self.report_path.read_bytes() if self.report_path.exists() else None

    def detector(self, version: str) -> PackagedDetector:
        """Read a version."""
        with tracked(self.data):
            return fetch_detector(f"models:/{MODEL}/{version}")


@pytest.fixture(scope="module")
def made(spark: SparkSession, parameters: dict[str, Parameters], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Give a project with its first champion."""
    return Project(tmp_path_factory.mktemp("adapted"), parameters)


def test_false_alarms_become_normal_a_second_run_adds_nothing_and_a_rollback_restores_the_champion(
    made: Project,
) -> None:
    video = write_video(made.data / "squares.avi", square_from=0)
    old_scores = made.score(video)
    with_square = old_scores["frame_index"] % 3 == 0
    assert old_scores["is_anomalous"][with_square].all()
    report = made.adapt(video)
    assert_conforms(report, AdaptationReport)
    assert (report["model"]["version"], report["decision"], report["passed"]) == ("1", "promote", True)
    assert (report["frames"], report["adapting_frames"], report["distant_frames"]) == (60, 30, 10)
    assert report["anomalous_frac"] < 0.1 < 1 / 3 <= report["old_anomalous_frac"]
    champion, versions, _ = made.state()
    assert (champion, versions) == ("2", 2)
    assert made.client.get_model_version(MODEL, "2").tags[PREVIOUS_CHAMPION] == "1"
    assert made.client.get_model_version_by_alias(MODEL, "adapted").version in {2, "2"}
    new_scores = made.score(video)
    assert new_scores["is_anomalous"][with_square].mean() < 0.1
    assert (new_scores["anomaly_score"] <= old_scores["anomaly_score"] + 1e-4).all()
    first, second = made.detector("1"), made.detector("2")
    assert first.scorer.calibration == second.scorer.calibration == made.calibration
    assert second.metadata == {**first.metadata, "adapted_version": "1"}
    assert second.scorer.runtime.basis.shape[1] == first.scorer.runtime.basis.shape[1] + report["axes"]
    before = made.state()
    with pytest.raises(UserError, match="There is nothing to adapt to: of the 30 frames"):
        made.adapt(video)
    assert made.state() == before
    run_here(made.data, "rollback")
    assert made.state()[0] == "1"
    pd.testing.assert_frame_equal(made.score(video), old_scores, check_exact=True)


def test_another_scene_is_a_sentence_and_changes_nothing(made: Project) -> None:
    before = made.state()
    with pytest.raises(UserError, match="differs from the champion's scene: in half of its frames at least 100%"):
        made.adapt(write_video(made.data / "bright.avi", square_from=FRAMES, brightness=190))
    assert made.state() == before


def test_axes_that_help_no_other_frame_are_refused_and_change_nothing_but_the_report(
    made: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the video shows another scene, each frame in its own way."""
    monkeypatch.setattr(
        "cygnet.model.scoring.outside._compare", lambda *_: {"old_anomalous_frac": 0.5, "anomalous_frac": 0.5}
    )
    before = made.state()
    with pytest.raises(UserError, match=r"change nothing .*, of which 50.0 % are anomalous and 50.0 % were"):
        made.adapt(write_video(made.data / "many.avi", square_from=5))
    assert made.state()[:2] == before[:2]
    assert json.loads(made.report_path.read_text())["decision"] == "refuse"


def test_axes_that_cost_too_much_auroc_are_refused_and_change_nothing_but_the_report(
    made: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    aurocs = iter([0.9, 0.7])
    monkeypatch.setattr("cygnet.model.evaluation.evaluate.auroc", lambda _: next(aurocs))
    before = made.state()
    with pytest.raises(UserError, match=r"keeps its subspace: AUROC 0.7000 is more than 0.1 .* rows of training_set"):
        made.adapt(write_video(made.data / "late.avi", square_from=10), serving={"gate": {"max_auroc_loss": 0.1}})
    assert made.state()[:2] == before[:2]
    assert json.loads(made.report_path.read_text())["decision"] == "refuse"


def test_the_gate_measures_both_subspaces(made: Project) -> None:
    champion = made.detector("1")
    whole = np.eye(len(champion.scorer.runtime.basis), dtype=np.float32)  # nothing lies outside
    blind = replace(champion.scorer.calibration, score="normality")
    champion = replace(champion, scorer=champion.scorer.with_calibration(blind))
    adaptation = Adaptation(champion.scorer.with_basis(whole), 16, ["a"], 1, 1, 1, 1.0, None, None)
    table = TableDataset(filepath=str(made.data / PLACES["training_set"]), table="training_set", load_as="arrow")
    expected = AurocComparison(0.0, 0.5)  # an unfitted network finds dark images the more distant ones
    assert compare_subspaces(table.load(), champion, adaptation) == expected
