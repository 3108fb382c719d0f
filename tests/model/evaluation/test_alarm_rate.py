"""What calibration on normal video promises: the lowest threshold that keeps a rate, and no rate beyond its proof."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from cygnet.errors import UserError
from cygnet.model.evaluation.alarm_rate import (
    count_allowed,
    lowest_threshold,
    rate_upper_bound,
    recalibrate,
)
from cygnet.model.evaluation.events import find_events
from cygnet.model.evaluation.smoothing import smooth_scores
from cygnet.model.serving.scorer import Calibration, scores_of
from cygnet.parameters.scoring import Events, Scoring
from cygnet.tables import frame_id_of

EVENTS = Events(close_frac=0.8, max_gap_s=0.5, min_duration_s=0.0)
OLD = Calibration(1.3, 0.9, "target_fpr", 0.05, "combined", 0.02, [-1.0, 0.0, 1.0], [0.9, 1.0, 1.1])


def normal_frames(
    count: int, seed: int = 0, brighter: float = 0.0, spacing_s: float = 1.0, source: str = "a"
) -> pd.DataFrame:
    """What a network says of normal frames; of brighter ones both parts are higher."""
    rng = np.random.default_rng(seed)
    place = np.arange(count)
    return pd.DataFrame(
        {
            "frame_id": [frame_id_of(source, index) for index in place],
            "source": source,
            "media": "video",
            "frame_index": place,
            "timestamp_s": spacing_s * place,
            "classifier_margin": rng.normal(brighter, 1, count).astype(np.float32),
            "normality_distance": (rng.normal(1 + brighter, 0.1, count) ** 2).astype(np.float32),
            "motion": rng.exponential(1 + brighter, count).astype(np.float32),
        }
    )


def rule(max_alarms_per_hour: float | None = None, smoothing_s: float = 0.0) -> Scoring:
    """The parameters of scoring that calibration reads."""
    return Scoring(
        interval_s=None,
        crop=None,
        threshold=None,
        max_alarms_per_hour=max_alarms_per_hour,
        smoothing_s=smoothing_s,
        events=EVENTS,
        annotated_video=False,
    )


def with_scores(frames: pd.DataFrame, calibration: Calibration = OLD) -> pd.DataFrame:
    return frames.join(scores_of(frames, calibration))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("most_events", [0, 1, 4])
def test_the_threshold_is_the_lowest_with_so_few_events_at_it_and_above(seed: int, most_events: int) -> None:
    scores = with_scores(normal_frames(120, seed))
    found = lowest_threshold(scores, most_events, EVENTS, at_least=1e-6)
    tried = np.nextafter(np.unique(scores["anomaly_score"]), np.float32(np.inf))
    events = {float(threshold): len(find_events(scores, float(threshold), EVENTS)) for threshold in tried}
    assert all(count <= most_events for threshold, count in events.items() if threshold >= found)
    below = [threshold for threshold in events if threshold < found]
    assert events[max(below)] > most_events


def test_a_threshold_so_low_that_all_frames_are_one_event_is_not_taken() -> None:
    scores = with_scores(normal_frames(200))
    lowest = float(scores["anomaly_score"].min())
    assert len(find_events(scores, lowest, EVENTS)) == 1
    assert lowest_threshold(scores, 1, EVENTS, at_least=1e-6) > np.median(scores["anomaly_score"])
    assert lowest_threshold(scores, 1000, EVENTS, at_least=0.7) >= 0.7


@pytest.mark.parametrize("events", [0, 1, 2, 7, 30])
def test_the_bound_is_where_so_few_events_have_a_probability_of_5_percent(events: int) -> None:
    mean = rate_upper_bound(events, hours=2.5) * 2.5
    so_few = sum(math.exp(-mean) * mean**count / math.factorial(count) for count in range(events + 1))
    assert so_few == pytest.approx(0.05, rel=1e-9)


def test_no_event_proves_three_events_over_the_hours() -> None:
    assert rate_upper_bound(0, 6.0) == pytest.approx(3.0 / 6.0, rel=0.01)


def test_more_normal_video_never_promises_less() -> None:
    hours = np.linspace(0.01, 50, 400)
    assert (np.diff([rate_upper_bound(0, each) for each in hours]) < 0).all()
    rate = 2.0
    enough = [each for each in hours if each >= rate_upper_bound(0, 1.0) / rate]
    allowed = [count_allowed(rate, each) for each in enough]
    assert (np.diff(allowed) >= 0).all()
    with pytest.raises(UserError):
        count_allowed(rate, enough[0] - 0.2)


def test_the_threshold_keeps_the_rate_that_was_asked_for() -> None:
    frames = normal_frames(8000, spacing_s=10.0)
    found = recalibrate(frames, OLD, 0.05, rule(1.0))
    second = with_scores(frames.iloc[4000:], found.calibration)
    alarms = len(find_events(second, found.calibration.threshold, EVENTS))
    assert found.alarms == alarms == math.floor(found.threshold_hours)  # one per hour
    assert found.threshold_hours == pytest.approx(4000 * 10 / 3600)
    assert (found.frames, found.threshold_frames) == (8000, 4000)
    assert found.calibration.rule == "max_alarms_per_hour"
    assert found.anomalous_frac <= found.calibration.target_fpr == 0.05
    stricter = recalibrate(frames, OLD, 0.05, rule(0.3))
    assert stricter.calibration.threshold > found.calibration.threshold


@pytest.mark.parametrize(
    ("frames", "rate", "told"),
    [
        (400, 1.0, r"1=1: its second half, 3 min, can promise at best 53.9 alarms per hour: give 6 hours"),
        (20, None, r"the second half of its frames, 10, can promise that no more than 0.0909 .* promises 0.05"),
        (1, None, "at least two normal frames"),
    ],
)
def test_too_short_a_video_is_a_sentence_with_what_it_can_promise(frames: int, rate: float | None, told: str) -> None:
    with pytest.raises(UserError, match=told.replace("1=1", "max_alarms_per_hour=1")) as refused:
        recalibrate(normal_frames(frames), OLD, 0.05, rule(rate))
    assert "\n" not in refused.value.message
    assert refused.value.message.count(". ") == 0


def test_the_hours_that_the_sentence_asks_for_are_enough_and_less_is_not() -> None:
    enough = math.ceil(3600 * 6.0)  # the sentence above, a frame per second
    recalibrate(normal_frames(enough), OLD, 0.05, rule(1.0))
    with pytest.raises(UserError, match="too short"):
        recalibrate(normal_frames(enough - 100), OLD, 0.05, rule(1.0))


@pytest.mark.parametrize("seed", range(3))
def test_brighter_video_raises_false_alarms_before_and_keeps_the_rate_after(seed: int) -> None:
    before = recalibrate(normal_frames(2000, seed), OLD, 0.05, rule()).calibration
    more = normal_frames(20_000, 100 + seed, brighter=1.5)
    assert (with_scores(more, before)["anomaly_score"] >= before.threshold).mean() > 0.3
    found = recalibrate(normal_frames(2000, 50 + seed, brighter=1.5), before, 0.05, rule())
    after = found.calibration
    share = float((with_scores(more, after)["anomaly_score"] >= after.threshold).mean())
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)  # of 1000 frames that set it
    assert found.old_anomalous_frac > 0.3
    assert found.anomalous_frac <= 0.05


def test_temperature_and_what_the_score_is_made_of_stay() -> None:
    found = recalibrate(normal_frames(100), OLD, 0.05, rule()).calibration
    changed = {"threshold", "rule", "target_fpr", "normal_margins", "normal_distances", "normal_motions"}
    for field in dataclasses.fields(Calibration):
        if field.name not in changed:
            assert getattr(found, field.name) == getattr(OLD, field.name)
    assert len(found.normal_margins) == len(found.normal_distances) == len(found.normal_motions) == 50


def test_each_half_of_each_source_counts() -> None:
    frames = pd.concat([normal_frames(100, 1), normal_frames(40, 2, source="b")], ignore_index=True)
    found = recalibrate(frames, OLD, 0.05, rule())
    first = pd.concat([frames.iloc[:50], frames.iloc[100:120]])
    assert found.calibration.normal_margins == sorted(first["classifier_margin"].astype(float))
    assert found.sources == ["a", "b"]


def test_motion_of_normal_video_is_renewed_and_images_have_none() -> None:
    frames = normal_frames(100)
    frames.loc[:9, "motion"] = np.nan
    found = recalibrate(frames, OLD, 0.05, rule()).calibration
    assert found.normal_motions == sorted(frames["motion"][10:50].astype(float))
    images = recalibrate(frames.assign(media="image", motion=np.nan), found, 0.05, rule()).calibration
    assert images.normal_motions == []


def test_threshold_and_alarms_are_of_smoothed_scores() -> None:
    frames = normal_frames(4000, spacing_s=0.1)
    found = recalibrate(frames, OLD, 0.05, rule(smoothing_s=0.5))
    second = with_scores(frames, found.calibration)[2000:]
    smoothed = smooth_scores(second, 0.5)
    threshold = found.calibration.threshold
    assert found.alarms == len(find_events(smoothed, threshold, EVENTS))
    assert found.anomalous_frac == pytest.approx((smoothed["anomaly_score"] >= threshold).mean(), abs=1e-9)
    assert threshold < recalibrate(frames, OLD, 0.05, rule()).calibration.threshold
    as_images = recalibrate(frames.assign(media="image"), OLD, 0.05, rule(smoothing_s=0.5))
    assert as_images.calibration.threshold == recalibrate(frames, OLD, 0.05, rule()).calibration.threshold
