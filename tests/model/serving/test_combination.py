"""What the combined score promises: a rule without anomalies, no step, no tie, and a tail that goes on."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cygnet.model.serving.combination import combine, p_value
from cygnet.model.serving.scorer import Calibration, scores_of

NORMAL = np.sort(np.random.default_rng(0).gamma(4.0, size=59)).tolist()


def conformal(scores: np.ndarray, normal: list[float]) -> np.ndarray:
    """The p-value with steps."""
    return (1 + (np.array(normal) >= scores[:, None]).sum(axis=1)) / (len(normal) + 1)


def test_p_value_is_the_conformal_one_but_for_its_steps() -> None:
    scores = np.linspace(0, NORMAL[-1], 500)
    difference = p_value(scores, NORMAL) - conformal(scores, NORMAL)
    assert np.abs(difference).max() < 0.15  # in a gap between two normal scores
    assert abs(difference.mean()) < 0.02


@pytest.mark.parametrize("normal", [NORMAL, NORMAL[:2], [3.0], [3.0] * 5, [0.0], [-1e6, 0.0, 1e6], [1e-9, 2e-9]])
def test_p_value_falls_strictly_and_far_beyond_the_highest_normal_score(normal: list[float]) -> None:
    spread = max(float(np.std(normal)), 1e-3 * float(np.abs(normal).max()), 1e-9)
    scores = np.concatenate(
        [np.sort(normal)[0] + spread * np.linspace(0, 3, 50), normal[-1] + spread * 10.0 ** np.arange(1, 8)]
    )
    p_values = p_value(np.unique(scores), sorted(normal))
    assert (np.diff(p_values) < 0).all()
    assert (p_values > 0).all()
    assert (p_values < 1).all()


def test_normal_frames_reach_a_p_value_no_more_often_than_it_says() -> None:
    rng = np.random.default_rng(1)
    p_values = np.concatenate([p_value(rng.gamma(4.0, size=100), sorted(rng.gamma(4.0, size=99))) for _ in range(200)])
    reached = {p: (p_values <= p).mean() / p for p in (0.01, 0.02, 0.05, 0.1, 0.5)}
    assert max(reached.values()) < 1.1
    assert min(reached[p] for p in (0.05, 0.1, 0.5)) > 0.6


def test_unit_of_a_score_does_not_matter() -> None:
    scores = np.linspace(-1, 30, 80)
    moved = p_value(1000 * scores - 7000, (1000 * np.array(NORMAL) - 7000).tolist())
    np.testing.assert_allclose(moved, p_value(scores, NORMAL), rtol=1e-9)


def test_the_smaller_p_value_decides_and_counts_twice() -> None:
    p_values = np.array([[0.01, 0.9], [0.9, 0.01], [0.01, 0.02], [0.5, 0.5]])
    expected = 1 - (1 - p_values.min(axis=1)) ** 2
    np.testing.assert_allclose(1 / (1 + np.exp(combine(p_values))), expected, rtol=1e-9)
    missing = np.array([[0.01, 0.9, np.nan], [np.nan, 0.5, 0.5]])
    np.testing.assert_array_equal(combine(missing), combine(p_values[[0, 3]]))
    assert combine(np.array([[0.2]]))[0] == pytest.approx(np.log(0.8 / 0.2))
    assert np.isfinite(combine(np.array([[1e-12, 1.0 - 1e-9], [1 - 1e-9, 1 - 1e-9]]))).all()


PARTS = ("classifier_margin", "normality_distance", "motion")
COMBINED = Calibration(
    1.0, 0.5, score="combined", normal_margins=NORMAL, normal_distances=NORMAL, normal_motions=NORMAL
)


@pytest.mark.parametrize("part", PARTS)
def test_one_part_alone_finds_what_the_others_do_not_see(part: str) -> None:
    rng = np.random.default_rng(2)
    parts = pd.DataFrame({name: rng.gamma(4.0, size=200) for name in PARTS})
    parts.loc[100:, part] = 50.0 + np.arange(100)
    scores = scores_of(parts, COMBINED)["logit_abnormal"].to_numpy()
    assert roc_auc_score(np.arange(200) >= 100, scores) == 1
    assert (np.diff(scores[100:]) > 0).all()  # far above every normal frame, and still in order


def test_a_classifier_that_is_not_sure_does_not_decide() -> None:
    sure_of_normal = [-9.0, -8.5, -8.0]  # among them a margin of -1 is rare, and yet it says normal
    calibration = Calibration(1.0, 0.5, score="combined", normal_margins=sure_of_normal, normal_distances=NORMAL)
    parts = pd.DataFrame({"classifier_margin": [-1.0, 9.0], "normality_distance": [NORMAL[0], NORMAL[0]]})
    unsure, sure = scores_of(parts, calibration)["anomaly_score"]
    assert unsure < 0.5
    assert sure > 0.9


def test_score_of_one_part_keeps_its_order() -> None:
    parts = pd.DataFrame({"classifier_margin": [0.0, 1.0, 2.0], "normality_distance": [9.0, 1.0, 5.0]})
    for score, order in (("classifier", [0, 1, 2]), ("normality", [1, 2, 0])):
        calibration = Calibration(1.0, 0.5, score=score, normal_margins=NORMAL, normal_distances=NORMAL)
        assert scores_of(parts, calibration)["anomaly_score"].argsort().tolist() == order


def test_an_image_without_motion_has_the_score_of_the_other_two() -> None:
    rng = np.random.default_rng(3)
    parts = pd.DataFrame({name: rng.gamma(4.0, size=50).astype(np.float32) for name in PARTS})
    parts.loc[::2, "motion"] = np.nan
    of_two = scores_of(parts.drop(columns="motion"), COMBINED)
    pd.testing.assert_frame_equal(scores_of(parts, COMBINED)[::2], of_two[::2], check_exact=True)
    assert (scores_of(parts, COMBINED)[1::2] != of_two[1::2])["logit_abnormal"].all()
    for before in (replace(COMBINED, normal_motions=[]), replace(COMBINED, score="normality")):
        of_old = scores_of(parts, before)
        pd.testing.assert_frame_equal(of_old, scores_of(parts.drop(columns="motion"), before), check_exact=True)
