"""What the intervals promise: they cover, the frame is the unit, and they never claim certainty."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, f1_score, recall_score, roc_auc_score

from cygnet.model.evaluation import intervals
from cygnet.model.evaluation.intervals import confidence_intervals, weighted_metrics
from cygnet.tables import ABNORMAL, NORMAL
from support.toys import toy_predictions

RESAMPLES = 200


def frames_of(rng: np.random.Generator, frames: int, per_frame: int, own_share: float) -> pd.DataFrame:
    """Rows of frames: one normal image, some abnormal ones; `own_share` of a score's variance is the frame's own."""
    parts = []
    for frame in range(frames):
        own = rng.normal(0, own_share**0.5, 2)  # of the frame's normal and of its abnormal images
        noise = rng.normal(0, (1 - own_share) ** 0.5, 1 + per_frame)
        scores = np.concatenate([[own[0] + noise[0]], 1 + own[1] + noise[1:]])
        parts.append(
            pd.DataFrame(
                {
                    "frame_id": f"video/{frame:06}",
                    "label": [NORMAL] + [ABNORMAL] * per_frame,
                    "anomaly_score": 1 / (1 + np.exp(-scores)),
                    "is_anomalous": scores > 0.5,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def width(interval: dict[str, float | str]) -> float:
    return float(interval["high"]) - float(interval["low"])


@pytest.mark.parametrize("decimals", [1, 9])
def test_weighted_metrics_equal_those_of_repeated_rows(decimals: int) -> None:
    rng = np.random.default_rng(0)
    scores, is_abnormal = rng.random(60).round(decimals), rng.random(60) < 0.4
    flagged = scores > 0.5
    weights = rng.integers(0, 4, (3, 60))
    metrics = weighted_metrics(scores, is_abnormal, flagged, weights.astype(float))
    for place, times in enumerate(weights):
        repeated = [np.repeat(values, times) for values in (is_abnormal, scores, flagged)]
        assert metrics["auroc"][place] == pytest.approx(roc_auc_score(repeated[0], repeated[1]), abs=1e-12)
        expected = average_precision_score(repeated[0], repeated[1])
        assert metrics["average_precision"][place] == pytest.approx(expected, abs=1e-12)
        assert metrics["f1"][place] == pytest.approx(f1_score(repeated[0], repeated[2]), abs=1e-12)
        assert metrics["recall"][place] == pytest.approx(recall_score(repeated[0], repeated[2]), abs=1e-12)


@pytest.mark.parametrize("own_share", [0.0, 0.8])
def test_intervals_cover_the_truth(own_share: float) -> None:
    rng = np.random.default_rng(1)
    world = frames_of(rng, 5_000, 1, own_share)
    expected = roc_auc_score(world["label"] == ABNORMAL, world["anomaly_score"])
    covered = 0
    for _ in range(60):
        interval = confidence_intervals(frames_of(rng, 40, 4, own_share), RESAMPLES, 0)["auroc"]
        covered += interval["low"] <= expected <= interval["high"]
    assert covered >= 52


def test_rows_of_one_frame_widen_the_interval() -> None:
    rows = frames_of(np.random.default_rng(2), 40, 8, own_share=0.9)
    apart = rows.assign(frame_id=[f"video/{row:06}" for row in range(len(rows))])
    grouped, alone = (confidence_intervals(table, RESAMPLES, 0)["recall"] for table in (rows, apart))
    assert width(grouped) > 2 * width(alone)


@pytest.mark.parametrize("frames", [5, 59])
def test_perfect_metrics_get_an_exact_bound(frames: int) -> None:
    rows = toy_predictions([0.1] * frames, [0.9] * frames)
    rows["frame_id"] = [f"video/{frame:06}" for frame in range(frames)] * 2
    found = confidence_intervals(rows, RESAMPLES, 0)
    assert {interval["method"] for interval in found.values()} == {"clopper_pearson"}
    assert {interval["high"] for interval in found.values()} == {1.0}
    exact = binomtest(frames, frames).proportion_ci(0.95, "exact").low
    assert found["recall"]["low"] == pytest.approx(exact)
    assert found["auroc"]["low"] == pytest.approx(exact**2)
    assert all(0 < interval["low"] < 1 for interval in found.values())


def test_more_rows_of_the_same_frames_do_not_tighten_the_exact_bound() -> None:
    few = toy_predictions([0.1] * 10, [0.9] * 10).assign(frame_id=[f"video/{frame:06}" for frame in range(10)] * 2)
    many = pd.concat([few] * 5, ignore_index=True)
    bounds = [confidence_intervals(rows, RESAMPLES, 0)["auroc"]["low"] for rows in (few, many)]
    assert bounds[0] == pytest.approx(bounds[1])


def test_a_constant_score_has_an_interval_around_one_half() -> None:
    interval = confidence_intervals(toy_predictions([0.5] * 30, [0.5] * 30), RESAMPLES, 0)["auroc"]
    assert interval["low"] < 0.5 < interval["high"]


def test_same_seed_same_interval_however_many_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = frames_of(np.random.default_rng(3), 30, 3, own_share=0.5)
    whole = confidence_intervals(rows, RESAMPLES, 0)
    assert confidence_intervals(rows, RESAMPLES, 0) == whole
    assert confidence_intervals(rows, RESAMPLES, 1) != whole
    monkeypatch.setattr(intervals, "CELLS_AT_ONCE", 7 * len(rows))
    assert confidence_intervals(rows, RESAMPLES, 0) == whole
