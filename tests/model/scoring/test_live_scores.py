"""What scoring live promises: the scores, decisions and events of the recording, and nothing from before a gap."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cygnet.model.evaluation.events import EVENT_COLUMNS, find_events
from cygnet.model.evaluation.smoothing import SMOOTHED, smooth_scores
from cygnet.model.scoring.frame_scores import FrameScoring, list_items, score_item
from cygnet.model.scoring.live_scores import LiveScorer, LiveScores
from cygnet.model.serving.scorer import Scorer
from cygnet.parameters.base import Parameters
from cygnet.parameters.scoring import Scoring
from cygnet.parameters.training import Training
from cygnet.tables import WATCH_SCORES
from cygnet.vision.live import LiveFrame
from cygnet.vision.video import Sample, sample_video
from support.toys import toy_scorer

MODEL = {"name": "toy", "version": "3"}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
FRAMES = 60


@pytest.fixture(scope="module")
def moving(training: Training) -> Scorer:
    """Give a scorer of which motion has a part in the score."""
    scorer = toy_scorer(training, score="combined")
    return scorer.with_calibration(replace(scorer.calibration, normal_motions=[1.0, 2.0, 3.0, 8.0]))


@pytest.fixture
def video(tmp_path: Path, scene: Callable[..., np.ndarray]) -> Path:
    """Give a video that moves and changes."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (128, 96))
    for index in range(FRAMES):
        writer.write(np.roll(scene(index // 20, size_px=128)[:96], index % 7, axis=1))
    writer.release()
    return path


@pytest.fixture
def offline(video: Path, moving: Scorer, scoring: Scoring, tmp_path: Path) -> pd.DataFrame:
    """Give the scores of the recording."""
    moving.save(tmp_path / "parts" / "model-toy")
    settings = FrameScoring(
        parts_folder=str(tmp_path / "parts"),
        scorer_folder=str(tmp_path / "parts" / "model-toy"),
        view=moving.scene.view,
        interval_s=scoring.interval_s,
        scene=moving.scene,
    )
    sources = pd.DataFrame([("clip", str(video), "video", 0)], columns=["source", "path", "media", "file_index"])
    [item] = list_items(sources, settings).to_dict("records")
    list(score_item(item, settings, tasks=1))
    parts = sorted((tmp_path / "parts" / item["key"]).glob("*.parquet"))
    rows = pd.concat([pq.read_table(part).to_pandas() for part in parts], ignore_index=True)
    return smooth_scores(rows, scoring.smoothing_s)


@pytest.fixture(params=[None, 0.1])
def scoring(request: pytest.FixtureRequest, parameters: dict[str, Parameters]) -> Scoring:
    """Give the parameters of scoring, of every frame and of some."""
    values = parameters["scoring"].model_dump()
    return Scoring.model_validate({**values, "interval_s": request.param, "crop": None})


def live(samples: list[Sample], segment: int = 0) -> list[LiveFrame]:
    return [LiveFrame("clip", "video", segment, sample, NOW) for sample in samples]


def all_of(scorer: LiveScorer, batches: list[list[LiveFrame]]) -> LiveScores:
    """Score batches, and end."""
    found = LiveScores([], [], [])
    for batch in batches:
        scores = scorer.score(batch)
        found.rows.extend(scores.rows)
        found.certain.extend(scores.certain)
        found.over.extend(scores.over)
    found.over.extend(scorer.close())
    return found


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_scores_and_events_are_those_of_the_recording(
    batch: int, video: Path, offline: pd.DataFrame, moving: Scorer, scoring: Scoring
) -> None:
    threshold = float(offline["anomaly_score"].quantile(0.7))
    scoring = scoring.model_copy(update={"threshold": threshold})
    frames = live(list(sample_video(video, scoring.interval_s)))
    batches = [frames[start : start + batch] for start in range(0, len(frames), batch)]
    found = all_of(LiveScorer(moving, scoring, MODEL), batches)
    rows = pa.Table.from_pylist(found.rows, schema=WATCH_SCORES).to_pandas()
    assert len(rows) == len(offline) > 25
    for column in ("frame_id", "frame_index", "timestamp_s", "media", "width", "square_side_px", "motion"):
        pd.testing.assert_series_equal(rows[column], offline[column])
    for column in (*SMOOTHED, "classifier_margin", "normality_distance"):
        np.testing.assert_allclose(rows[column], offline[column], rtol=0, atol=1e-5)
    assert rows["anomaly_score"].std() > 0.001
    assert rows["motion"].notna().sum() > 20
    assert rows["is_anomalous"].tolist() == (rows["anomaly_score"] >= np.float32(threshold)).tolist()
    events = find_events(rows, threshold, scoring.events)
    assert len(events) > 0
    told = [
        (e.start.source, e.start.timestamp_s, e.end_s, e.peak.anomaly_score, e.peak.frame_index) for e in found.over
    ]
    pd.testing.assert_frame_equal(pd.DataFrame(told, columns=EVENT_COLUMNS), events, check_dtype=False, atol=2e-3)
    assert found.certain == found.over


def test_nothing_is_compared_or_averaged_over_a_gap(video: Path, moving: Scorer, scoring: Scoring) -> None:
    samples = list(sample_video(video, scoring.interval_s))
    half = len(samples) // 2
    scorer = LiveScorer(moving, scoring.model_copy(update={"threshold": 1e-6}), MODEL)
    found = all_of(scorer, [live(samples[:half]), live(samples[half:], segment=1)])
    alone = all_of(LiveScorer(moving, scoring, MODEL), [live(samples[half:])])
    assert found.rows[half].get("motion") is None
    assert [row["anomaly_score"] for row in found.rows[half:]] == [row["anomaly_score"] for row in alone.rows]
    assert [event.start.frame_index for event in found.over] == [samples[0].index, samples[half].index]


def test_a_frame_that_does_not_decode_has_a_reason_and_no_score(video: Path, moving: Scorer, scoring: Scoring) -> None:
    samples = list(sample_video(video, scoring.interval_s))
    samples[3] = Sample(samples[3].index, samples[3].timestamp_s, None, "broken")
    rows = all_of(LiveScorer(moving, scoring, MODEL), [live(samples)]).rows
    table = pa.Table.from_pylist(rows, schema=WATCH_SCORES).to_pandas()
    assert table.index[table["anomaly_score"].isna()].tolist() == [3]
    assert table["reason"].dropna().tolist() == ["broken"]


def test_the_picture_shows_the_peak(video: Path, moving: Scorer, scoring: Scoring) -> None:
    scorer = LiveScorer(moving, scoring.model_copy(update={"threshold": 1e-6}), MODEL)
    scores = scorer.score(live(list(sample_video(video, scoring.interval_s))))
    picture = cv2.imdecode(np.frombuffer(scorer.picture(scores.certain[0]), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] == 128
    assert picture.shape[0] > 96  # the bar with the score
