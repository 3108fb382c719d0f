"""What calibration promises: honest probabilities, and the threshold of the best F1."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from cygnet.model.calibrate import calibrate, max_f1_threshold, negative_log_likelihood
from cygnet.model.scorer import scores_of
from cygnet.tables import ABNORMAL, NORMAL


def honest(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn with the very probabilities that the logits say."""
    rng = np.random.default_rng(seed)
    margin = rng.normal(0, 2, count)
    labels = np.where(rng.random(count) < 1 / (1 + np.exp(-margin)), ABNORMAL, NORMAL)
    return np.stack([margin / 2, -margin / 2], axis=1).astype(np.float32), labels


def decisions(scores: np.ndarray, threshold: float) -> np.ndarray:
    return scores >= np.float32(threshold)


def best_f1(scores: np.ndarray, is_abnormal: np.ndarray) -> float:
    return max(f1_score(is_abnormal, scores >= score) for score in np.unique(scores))


@pytest.mark.parametrize("factor", [0.7, 1.0, 2.0, 4.0])
def test_overconfidence_is_found(factor: float) -> None:
    logits, labels = honest(20_000)
    assert calibrate(factor * logits, labels).temperature == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize(("factor", "bound"), [(0.05, 0.5), (50.0, 5.0)])
def test_temperature_stays_within_its_bounds(factor: float, bound: float) -> None:
    logits, labels = honest(2_000)
    temperature = calibrate(factor * logits, labels).temperature
    assert 0.5 <= temperature <= 5.0
    assert temperature == pytest.approx(bound, rel=0.001)


def test_perfect_separation_does_not_run_to_no_temperature() -> None:
    logits = np.array([[3.0, -3.0]] * 5 + [[-3.0, 3.0]] * 5)
    calibration = calibrate(logits, np.array([ABNORMAL] * 5 + [NORMAL] * 5))
    assert calibration.temperature == pytest.approx(0.5, rel=0.001)


@pytest.mark.parametrize("factor", [0.3, 1.0, 2.0, 8.0])
def test_nll_does_not_rise(factor: float) -> None:
    logits, labels = honest(300, seed=3)
    temperature = calibrate(factor * logits, labels).temperature
    before = negative_log_likelihood(factor * logits, labels)
    assert negative_log_likelihood(factor * logits / temperature, labels) <= before + 1e-9


def test_nll_is_that_of_the_softmax() -> None:
    logits, labels = honest(50)
    softmax = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(axis=1, keepdims=True)
    expected = -np.log(softmax[np.arange(50), labels]).mean()
    assert negative_log_likelihood(logits, labels) == pytest.approx(expected, rel=1e-12)
    assert negative_log_likelihood(np.array([[900.0, -900.0]]), np.array([NORMAL])) == 1800


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 7])
def test_threshold_gives_the_best_f1(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    is_abnormal = rng.random(80) < 0.3
    scores = np.clip(rng.normal(0.4 + 0.2 * is_abnormal, 0.2), 0, 1).round(decimals).astype(np.float32)
    threshold = max_f1_threshold(scores, is_abnormal)
    assert f1_score(is_abnormal, decisions(scores, threshold)) == best_f1(scores, is_abnormal)
    assert float(np.float32(threshold)) == threshold


def test_calibrated_threshold_fits_the_calibrated_scores() -> None:
    logits, labels = honest(200)
    calibration = calibrate(3 * logits, labels)
    rows = scores_of(3 * logits, calibration)
    reached = f1_score(labels == ABNORMAL, rows["is_anomalous"])
    assert reached == best_f1(rows["anomaly_score"].to_numpy(), labels == ABNORMAL)


def test_threshold_lies_half_way_between_the_classes() -> None:
    scores = np.array([0.125, 0.25, 0.75, 0.875], np.float32)
    assert max_f1_threshold(scores, np.array([False, False, True, True])) == 0.5


@pytest.mark.parametrize("lower", [1e-7, 0.1, 0.3, 0.5, 0.7, 0.99999976, 0.9999999])
def test_neighbouring_scores_are_told_apart(lower: float) -> None:
    normal = np.float32(lower)
    scores = np.array([normal, np.nextafter(normal, np.float32(1))], np.float32)
    threshold = max_f1_threshold(scores, np.array([False, True]))
    assert decisions(scores, threshold).tolist() == [False, True]


def test_everything_abnormal_is_flagged() -> None:
    scores = np.array([0.25, 0.5], np.float32)
    assert decisions(scores, max_f1_threshold(scores, np.array([True, True]))).all()
