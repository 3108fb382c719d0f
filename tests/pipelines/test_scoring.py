"""The nodes of scoring through Spark with a registered toy detector: every frame once, nothing lost, nothing twice."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's own documentation uses

from cygnet.datasets.registry import RegisteredModelDataset
from cygnet.datasets.score_parts import ScorePartsDataset
from cygnet.datasets.table import TableDataset
from cygnet.datasets.video_file import VideoFileDataset
from cygnet.datasets.videos import list_sources
from cygnet.endpoints.versions import ModelVersion
from cygnet.errors import UserError
from cygnet.labels import match_labels
from cygnet.model.evaluation.events import EVENT_COLUMNS
from cygnet.model.evaluation.smoothing import smooth_scores
from cygnet.model.scoring.score_parts import MARKER, ScoreParts
from cygnet.model.serving.packaging import PackagedDetector
from cygnet.parameters.base import Parameters
from cygnet.parameters.scoring import Scoring
from cygnet.pipelines.scoring import nodes
from cygnet.pipelines.scoring.nodes import ScoringRun, annotate_videos, draw_timelines, list_scores, score_frames
from cygnet.pipelines.scoring.peak_nodes import draw_peaks
from cygnet.report.scoring_page import choose_peaks
from cygnet.reports import ScoringReport
from cygnet.tables import NORMAL
from cygnet.vision.codec import encode_jpeg, encode_png
from support.reports import assert_conforms
from support.toys import toy_image, toy_scorer, tracked


@pytest.fixture(scope="module")
def champion(parameters: dict[str, Parameters], store: Path) -> Iterator[ModelVersion]:
    """Give a registered version of a detector that was never fitted."""
    scorer = toy_scorer(parameters["training"])
    with tracked(store):
        dataset = RegisteredModelDataset(name="toy", alias="champion")
        dataset.save(PackagedDetector(scorer, encode_jpeg(toy_image(NORMAL), 95), {}))
        yield dataset.load()


@pytest.fixture
def media(write_video: Callable[..., Path], scene: Callable[..., np.ndarray], tmp_path: Path) -> Path:
    """Give a folder with a video, a truncated one, one that is none, and a folder of images beside."""
    folder = tmp_path / "media"
    folder.mkdir()
    write_video("whole.mp4", 40).rename(folder / "whole.mp4")
    cut = write_video("cut.avi", 30, codec="MJPG")
    (folder / "cut.avi").write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (folder / "none.mp4").write_bytes(b"no video")
    for index in range(5):
        (folder / f"{index}.png").write_bytes(encode_png(scene(index, size_px=80)) if index != 3 else b"no image")
    return folder


class Run:
    """The pipeline's nodes from sources to `scores`, with the parts of one test."""

    def __init__(self, champion: ModelVersion, parameters: dict[str, Parameters], folder: Path) -> None:
        self.champion, self.parameters, self.folder = champion, parameters, folder

    def __call__(self, path: Path, **changes: Any) -> tuple[DataFrame, ScoringRun]:
        """Score what is at a path; `changes` are of the parameters of scoring."""
        parts = ScorePartsDataset(filepath=str(self.folder / "parts")).load()
        scores, run = score_frames(list_sources(str(path)), self.champion, parts, self.scoring(**changes))
        table = TableDataset(filepath=str(self.folder / "scores"), table="scores")
        table.save(scores)
        return table.load(), run

    def scoring(self, **changes: Any) -> Scoring:
        """The parameters of scoring, some of them changed."""
        return self.parameters["scoring"].model_copy(update=changes)


@pytest.fixture
def run(champion: ModelVersion, parameters: dict[str, Parameters], spark: SparkSession, tmp_path: Path) -> Run:
    return Run(champion, parameters, tmp_path)


def collect(scores: DataFrame) -> pd.DataFrame:
    return scores.toPandas().sort_values(["source", "frame_index"], ignore_index=True)


def test_every_frame_of_every_source_is_a_row_and_what_fails_has_a_reason(media: Path, run: Run) -> None:
    scores, ran = run(media)
    rows = collect(scores)
    good, bad = rows[rows["reason"].isna()], rows[rows["reason"].notna()]
    frames = good.groupby("source")["frame_index"].apply(list)
    assert frames["whole"] == list(range(40))
    assert frames["cut"] == list(range(len(frames["cut"])))
    assert 0 < len(frames["cut"]) < 30
    assert frames["media"] == [0, 1, 2, 4]
    assert bad.set_index("source")["frame_index"].to_dict() == {"cut": len(frames["cut"]), "media": 3, "none": 0}
    assert good[["anomaly_score", "is_anomalous", "anomaly_map"]].notna().all(axis=None)
    assert bad[["anomaly_score", "is_anomalous", "anomaly_map"]].isna().all(axis=None)
    assert (good["is_anomalous"] == (good["anomaly_score"] >= np.float32(ran.threshold))).all()
    assert (ran.frames_before, ran.frames_now) == (0, len(rows))


def test_a_run_after_a_kill_scores_what_is_missing_alone_and_gives_the_same(media: Path, run: Run) -> None:
    undisturbed = collect(run(media)[0])
    parts = run.folder / "parts"
    lost = next(path for path in parts.glob("*/*.parquet") if path.stem == "000000-40")
    lost.unlink()
    (lost.parent / MARKER).unlink()
    (lost.parent / ".000000-40.123").write_bytes(b"half a part")
    scores, ran = run(media)
    pd.testing.assert_frame_equal(collect(scores), undisturbed, check_exact=True)
    assert (ran.frames_before, ran.frames_now) == (len(undisturbed) - 40, 40)


def test_what_is_scored_is_scored_again_only_if_something_changed(media: Path, run: Run) -> None:
    before = collect(run(media)[0])
    scores, ran = run(media, threshold=0.99)
    assert ran.frames_now == 0
    assert not collect(scores)["is_anomalous"].fillna(False).any()
    os.utime(media / "whole.mp4", (1, 1))
    assert run(media)[1].frames_now == 40
    scores, ran = run(media, interval_s=0.4)
    assert ran.frames_now == 10 + collect(scores).query("source != 'whole'").shape[0]
    assert collect(scores).query("source == 'whole'")["frame_index"].tolist() == list(range(0, 40, 4))
    assert len(list((run.folder / "parts").iterdir())) == 1 + 4  # the scorer and the items of the last run
    assert len(before) > len(collect(scores))


def test_videos_are_smoothed_and_images_are_not_and_other_smoothing_needs_no_scoring(media: Path, run: Run) -> None:
    alone = collect(run(media, smoothing_s=0.0)[0])
    threshold = float(alone["anomaly_score"].median())
    scores, ran = run(media, smoothing_s=0.35, threshold=threshold)
    smoothed = collect(scores)
    assert ran.frames_now == 0
    good = smoothed["reason"].isna()
    expected = smooth_scores(alone[good], 0.35).drop(columns="is_anomalous")
    pd.testing.assert_frame_equal(smoothed[good].drop(columns="is_anomalous"), expected, check_exact=True)
    assert (smoothed["is_anomalous"] == (smoothed["anomaly_score"] >= np.float32(threshold)))[good].all()
    is_changed = smoothed["anomaly_score"] != alone["anomaly_score"]
    assert set(smoothed["source"][is_changed & good]) == {"whole", "cut"}


def test_reports_count_what_the_table_has(media: Path, run: Run, parameters: dict[str, Parameters]) -> None:
    scores, ran = run(media)
    scoring = run.scoring()
    listed = list_scores(scores)
    threshold = float(np.sort(listed.loc[listed["source"] == "whole", "anomaly_score"])[20])
    scores, ran = run(media, threshold=threshold)
    listed = list_scores(scores)
    assert list(listed.columns) == ["source", "frame_index", "timestamp_s", "anomaly_score", "is_anomalous"]
    assert (listed["source"] == "whole").sum() == 40
    shifted = scores.withColumn("timestamp_s", F.col("timestamp_s") + 1e-9)
    pd.testing.assert_frame_equal(list_scores(shifted), listed, check_exact=True)
    labels = pd.DataFrame(
        [("whole_000001", "abnormal", "human"), ("whole_000777", "abnormal", "human"), ("x_000001", "normal", "llm")],
        columns=["image_name", "label", "source"],
    )
    _, frame_labels, _, label_rejects = match_labels(list_sources(str(media)), labels)
    events = nodes.find_scored_events(listed, ran, scoring)
    spans, unused = nodes.find_labelled_spans(listed, frame_labels, label_rejects, scoring, "normal")
    assert (len(spans), unused) == (1, 1)
    counts = nodes.count_frames(scores, listed, events)
    metrics = nodes.measure_labels(listed, events, spans, frame_labels, unused)
    report = nodes.write_scoring_report(counts, metrics, run.champion, ran, scoring)
    assert_conforms(report, ScoringReport)
    rows = collect(scores)
    assert report["frames"] == rows["reason"].isna().sum() == sum(each["frames"] for each in report["sources"].values())
    assert sum(report["failed_frames"].values()) == rows["reason"].notna().sum() == 3
    assert set(report["sources"]) == {"whole", "cut", "media", "none"}
    assert report["sources"]["none"] == {"frames": 0, "anomalous_frames": 0, "failed_frames": 1, "events": 0}
    assert report["sources"]["whole"]["anomalous_frames"] == 20
    assert report["labels"]["spans"] == 1
    assert report["events"] == len(events) >= 1
    assert report["model"] == {"name": "toy", "version": run.champion.version}


def test_timelines_and_annotated_videos_are_made_for_each_source_with_its_frames(media: Path, run: Run) -> None:
    scores, ran = run(media, threshold=0.01)
    listed, sources = list_scores(scores), list_sources(str(media))
    nothing = pd.DataFrame(columns=["source", "start_s", "end_s"])
    figures = draw_timelines(listed, nothing, nothing, ran)
    clips = annotate_videos(sources, scores, listed, ran, run.scoring())
    assert set(figures) == set(clips) == {"whole", "cut", "media"}
    assert figures["whole"]().axes[0].get_title(loc="left") == "whole"
    for source, frames in listed.groupby("source"):
        path = run.folder / "clips" / f"{source}.mp4"
        VideoFileDataset(filepath=str(path)).save(clips[str(source)]())
        capture, count = cv2.VideoCapture(str(path)), 0
        while capture.grab():
            count += 1
        assert count == len(frames)
        assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10, rel=0.01)
    assert annotate_videos(sources, scores, listed, ran, run.scoring(annotated_video=False)) == {}


def test_each_source_has_a_picture_of_each_peak(media: Path, run: Run) -> None:
    scores, ran = run(media, threshold=0.01)
    listed, sources = list_scores(scores), list_sources(str(media))
    events = pd.DataFrame([("whole", 1.0, 2.0, 0.9, 13)], columns=EVENT_COLUMNS)
    (media / "0.png").unlink()  # since it was scored
    drawn = draw_peaks(sources, scores, choose_peaks(listed, events), ran)
    assert set(drawn["source"]) == {"whole", "cut", "media"}
    assert drawn.set_index("source").loc["whole", "frame_index"] == 13
    pictures = drawn["picture"][(drawn["source"] != "media") | (drawn["frame_index"] != 0)]
    assert all(picture.startswith("data:image/jpeg") for picture in pictures)


def test_a_champion_of_another_version_of_cygnet_is_a_sentence(
    media: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_scorer(parts: ScoreParts, model_uri: str) -> str:
        folder = Path(parts.folder, "model-old")
        folder.mkdir(parents=True)
        (folder / "detector.json").write_text('{"runtime": "onnx"}')
        return str(folder)

    monkeypatch.setattr(ScoreParts, "add_scorer", add_scorer)
    with pytest.raises(UserError, match=r"can't be used: .* not of this version of Cygnet .* Train again"):
        run(media, threshold=0.5)


def test_a_run_stops_when_nothing_could_be_scored(media: Path, run: Run) -> None:
    scores, _ = run(media / "none.mp4")
    with pytest.raises(UserError, match=r"Nothing could be scored: none.mp4: nothing in it decodes"):
        list_scores(scores)
