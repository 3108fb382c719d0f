"""What smoothing promises: less noise in each video, nothing from the future, and the score of the logits."""

import numpy as np
import pandas as pd
import pytest

from cygnet.model.evaluation.smoothing import SMOOTHED, smooth_scores
from cygnet.model.serving.scorer import softmax_abnormal


def scores_of(count: int, source: str = "a", media: str = "video", spacing_s: float = 0.04) -> pd.DataFrame:
    logit = np.random.default_rng(count).normal(0, 2, count).astype(np.float32)
    return pd.DataFrame(
        {
            "source": source,
            "media": media,
            "frame_index": np.arange(count),
            "timestamp_s": spacing_s * np.arange(count),
            "logit_abnormal": logit,
            "logit_normal": -logit,
            "anomaly_score": softmax_abnormal(logit, -logit),
        }
    )


@pytest.mark.parametrize(("smoothing_s", "frames"), [(0.2, 5), (0.12, 3), (0.1, 3), (0.05, 2)])
def test_a_frame_is_the_mean_of_the_frames_within_the_time_up_to_it(smoothing_s: float, frames: int) -> None:
    scores = scores_of(60)
    smoothed = smooth_scores(scores, smoothing_s)
    expected = scores["logit_abnormal"].astype(float).rolling(frames, min_periods=1).mean()
    np.testing.assert_allclose(smoothed["logit_abnormal"], expected, atol=1e-6)
    assert (smoothed["logit_normal"] == -smoothed["logit_abnormal"]).all()
    of_logits = softmax_abnormal(smoothed["logit_abnormal"].to_numpy(), smoothed["logit_normal"].to_numpy())
    assert (smoothed["anomaly_score"] == of_logits).all()
    assert smoothed["anomaly_score"].dtype == np.float32
    assert smoothed["logit_abnormal"].std() < scores["logit_abnormal"].std()


def test_no_later_frame_and_no_other_source_counts() -> None:
    scores = scores_of(40)
    whole = smooth_scores(scores, 0.2)
    pd.testing.assert_frame_equal(smooth_scores(scores[:25], 0.2), whole[:25], check_exact=True)
    both = pd.concat([scores, scores_of(30, "b")], ignore_index=True).sample(frac=1, random_state=0)
    again = smooth_scores(both, 0.2)
    assert again.index.tolist() == both.index.tolist()
    pd.testing.assert_frame_equal(again.sort_index()[:40], whole, check_exact=True)


@pytest.mark.parametrize(
    ("changes", "smoothing_s"),
    [({"media": "image"}, 0.2), ({}, 0.0), ({"spacing_s": 0.2}, 0.2), ({"spacing_s": 1.0}, 0.9)],
)
def test_images_and_frames_that_are_far_apart_keep_their_scores(changes: dict[str, float], smoothing_s: float) -> None:
    scores = scores_of(20, **changes)
    scores["anomaly_score"] += np.float32(0.25)  # it would be seen if it were computed again
    pd.testing.assert_frame_equal(smooth_scores(scores, smoothing_s), scores, check_exact=True)


def test_a_gap_is_not_bridged() -> None:
    scores = scores_of(20)
    scores.loc[10:, "timestamp_s"] += 1.0
    smoothed = smooth_scores(scores, 0.2)
    assert smoothed.loc[10, SMOOTHED].tolist() == scores.loc[10, SMOOTHED].tolist()
    assert smoothed.loc[11, "logit_abnormal"] == pytest.approx(scores.loc[10:11, "logit_abnormal"].mean())
