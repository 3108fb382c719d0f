"""What calibration promises: calibrated probabilities, and the threshold with the best F1."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, kstest
from sklearn.metrics import f1_score

from cygnet.errors import UserError
from cygnet.model.evaluation.calibrate import (
    MOST_NORMAL_FRAMES,
    UNCALIBRATED,
    beta_of_rate,
    calibrate,
    conformal_threshold,
    fit_temperature,
    in_first_half,
    max_f1_threshold,
    negative_log_likelihood,
    score_at,
    thin,
)
from cygnet.model.serving.scorer import scores_of
from cygnet.parameters.training import Threshold
from cygnet.tables import ABNORMAL, NORMAL


def honest(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels sampled with exactly the probabilities of the logits."""
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
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize(("factor", "bound"), [(0.05, 0.5), (50.0, 5.0)])
def test_temperature_stays_within_its_bounds(factor: float, bound: float) -> None:
    logits, labels = honest(2_000)
    temperature = fit_temperature(factor * logits, labels)
    assert 0.5 <= temperature <= 5.0
    assert temperature == pytest.approx(bound, rel=0.001)


def test_perfect_separation_keeps_the_temperature_in_bounds() -> None:
    logits = np.array([[3.0, -3.0]] * 5 + [[-3.0, 3.0]] * 5)
    assert fit_temperature(logits, np.array([ABNORMAL] * 5 + [NORMAL] * 5)) == pytest.approx(0.5, rel=0.001)


@pytest.mark.parametrize("factor", [0.3, 1.0, 2.0, 8.0])
def test_nll_does_not_rise(factor: float) -> None:
    logits, labels = honest(300, seed=3)
    temperature = fit_temperature(factor * logits, labels)
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


def rows_of(logits: np.ndarray, labels: np.ndarray, per_frame: int = 5) -> pd.DataFrame:
    frames = [f"video/{place // per_frame:06d}" for place in range(len(labels))]
    return pd.DataFrame(
        {
            "frame_id": frames,
            "label": labels,
            "kind": "polygon",
            "classifier_margin": logits[:, ABNORMAL] - logits[:, NORMAL],
        }
    )


def test_temperature_is_of_the_first_half_and_threshold_of_the_second() -> None:
    logits, labels = honest(400)
    rows = rows_of(3 * logits, labels)
    calibration = calibrate(rows, Threshold(rule="max_f1", target_fpr=0.01))
    assert calibration.temperature == fit_temperature(3 * logits[:200], labels[:200])
    scores = scores_of(rows[200:], calibration)
    reached = f1_score(labels[200:] == ABNORMAL, scores["is_anomalous"])
    assert reached == best_f1(scores["anomaly_score"].to_numpy(), labels[200:] == ABNORMAL)
    assert (calibration.rule, calibration.target_fpr) == ("max_f1", None)


def test_controls_do_not_count() -> None:
    logits, labels = honest(100)
    rows = rows_of(logits, labels)
    controls = rows.assign(kind="null", label=ABNORMAL, classifier_margin=9.0)
    rule = Threshold(rule="max_f1", target_fpr=0.01)
    assert calibrate(pd.concat([rows, controls]), rule) == calibrate(rows, rule)


@pytest.mark.parametrize("rule", ["max_f1", "target_fpr"])
def test_the_lower_tiles_of_frames_that_are_labelled_abnormal_do_not_count(rule: str) -> None:
    logits, labels = honest(100)
    rows = rows_of(logits, labels, per_frame=1)
    rows.loc[rows["label"] == ABNORMAL, "kind"] = "real"
    real = rows[rows["kind"] == "real"]
    lower = real.assign(classifier_margin=real["classifier_margin"] - 5)
    threshold = Threshold(rule=rule, target_fpr=0.1)
    assert calibrate(pd.concat([lower, rows], ignore_index=True), threshold) == calibrate(rows, threshold)


def test_halves_share_no_frame_and_go_by_time_in_each_source() -> None:
    frames = [f"{source}/{frame:06d}" for source in ("b", "a/c") for frame in (30, 1, 7, 20, 5) for _ in range(3)]
    is_first = in_first_half(pd.Series(frames))
    first = {frame for frame, chosen in zip(frames, is_first, strict=True) if chosen}
    second = {frame for frame, chosen in zip(frames, is_first, strict=True) if not chosen}
    assert first == {"b/000001", "b/000005", "a/c/000001", "a/c/000005"}
    assert not first & second


def test_a_half_without_a_class_is_a_user_error() -> None:
    logits = np.zeros((4, 2), np.float32)
    rows = rows_of(logits, np.array([ABNORMAL, NORMAL, NORMAL, NORMAL]), per_frame=2)
    with pytest.raises(UserError, match=r"second half of the validation frames \(1 frames\) has no abnormal image"):
        calibrate(rows, Threshold(rule="max_f1", target_fpr=0.01))


@pytest.mark.parametrize(
    ("count", "target_fpr", "rank"), [(99, 0.05, 95), (100, 0.05, 96), (19, 0.05, 19), (9, 0.5, 5)]
)
def test_conformal_threshold_is_just_above_its_rank(count: int, target_fpr: float, rank: int) -> None:
    scores = np.random.default_rng(0).permutation(np.linspace(0.1, 0.9, count).astype(np.float32))
    threshold, fpr = conformal_threshold(scores, target_fpr)
    assert (scores >= np.float32(threshold)).sum() == count - rank
    assert decisions(np.sort(scores)[rank - 1 : rank], threshold).tolist() == [False]
    assert fpr == target_fpr


def test_too_few_frames_guarantee_the_lowest_rate_they_can() -> None:
    scores = np.array([0.1, 0.3, 0.2], np.float32)
    threshold, fpr = conformal_threshold(scores, 0.01)
    assert fpr == 1 / 4
    assert not decisions(scores, threshold).any()
    assert threshold == np.nextafter(np.float32(0.3), np.float32(1))


def test_new_normal_images_pass_the_conformal_threshold_at_most_at_its_rate() -> None:
    rng = np.random.default_rng(1)
    draws = rng.random((4000, 20)).astype(np.float32)
    passed = [scores[-1] >= np.float32(conformal_threshold(scores[:-1], 0.2)[0]) for scores in draws]
    assert 0.17 < np.mean(passed) < 0.215


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


@pytest.mark.parametrize("count", [1, 2, MOST_NORMAL_FRAMES, MOST_NORMAL_FRAMES + 1, 10_000])
def test_thinning_keeps_order_ends_and_distribution(count: int) -> None:
    values = np.random.default_rng(count).normal(size=count)
    thinned = thin(values)
    assert thinned == sorted(thinned)
    assert len(thinned) == min(count, MOST_NORMAL_FRAMES)
    assert (thinned[0], thinned[-1]) == (values.min(), values.max())
    assert np.median(thinned) == pytest.approx(np.median(values), abs=0.02)


COMBINED = dataclasses.replace(UNCALIBRATED, score="combined")


def parts_of(frames: int, seed: int = 0, tiles: int = 1) -> pd.DataFrame:
    """Rows with both parts of the score: every second frame is abnormal, which neither part sees well."""
    rng = np.random.default_rng(seed)
    count = frames * tiles
    label = np.repeat([NORMAL, ABNORMAL] * (frames // 2), tiles)
    return pd.DataFrame(
        {
            "frame_id": np.repeat([f"video/{number:06d}" for number in range(frames)], tiles),
            "label": label,
            "kind": "polygon",
            "classifier_margin": rng.normal(np.where(label == ABNORMAL, 1, -1), 1).astype(np.float32),
            "normality_distance": rng.gamma(9, 1 / 9, count).astype(np.float32) + (label == ABNORMAL),
        }
    )


def test_distances_of_train_frames_are_counted_among_those_of_validation_frames() -> None:
    rows, rule = parts_of(80), Threshold(rule="target_fpr", target_fpr=0.1)
    alone = calibrate(rows, rule, COMBINED)
    far = [9.0, 10.0, 11.0]
    both = calibrate(rows, rule, dataclasses.replace(COMBINED, left_out_distances=far))
    assert both.normal_distances == [*alone.normal_distances, *far]
    assert both.normal_margins == alone.normal_margins
    assert both.left_out_distances == far


def test_of_a_frame_with_several_images_the_largest_value_counts() -> None:
    rows = parts_of(80, tiles=3)
    calibration = calibrate(rows, Threshold(rule="target_fpr", target_fpr=0.1), COMBINED)
    first = rows[in_first_half(rows["frame_id"]) & (rows["label"] == NORMAL)].groupby("frame_id")
    for name, kept in (
        ("classifier_margin", calibration.normal_margins),
        ("normality_distance", calibration.normal_distances),
    ):
        assert kept == sorted(first[name].max().astype(float))


@pytest.mark.parametrize("temperature", [0.6, 1.0, 3.0])
def test_no_frame_that_is_usual_by_its_p_value_is_anomalous(temperature: float) -> None:
    combined = dataclasses.replace(COMBINED, temperature=temperature)
    for p, is_anomalous in ((0.051, False), (0.049, True)):
        margin = np.log((1 - p) / p) / temperature
        score = np.float32(1 / (1 + np.exp(-margin)))
        assert bool(score >= np.float32(score_at(0.05, combined))) is is_anomalous
    assert score_at(0.05, UNCALIBRATED) == 0  # a classifier has no p-value


@pytest.mark.parametrize("seed", range(4))
def test_a_calm_second_half_does_not_lower_the_threshold_below_the_promise(seed: int) -> None:
    rows, rule = parts_of(200, seed), Threshold(rule="target_fpr", target_fpr=0.1)
    calm = ~in_first_half(rows["frame_id"]) & (rows["label"] == NORMAL).to_numpy()
    rows.loc[calm, "normality_distance"] = 0.1
    rows.loc[calm, "classifier_margin"] = -9.0
    calibration = calibrate(rows, rule, COMBINED)
    assert calibration.threshold == score_at(0.1, calibration)
    first = rows[in_first_half(rows["frame_id"]) & (rows["label"] == NORMAL)]
    assert scores_of(first, calibration)["is_anomalous"].mean() < 0.2


@pytest.mark.parametrize(("count", "target_fpr"), [(10, 0.05), (28, 0.05), (100, 0.1)])
def test_false_positive_rates_of_conformal_thresholds_have_the_stated_distribution(
    count: int, target_fpr: float
) -> None:
    rng = np.random.default_rng(0)
    found = [conformal_threshold(rng.random(count), target_fpr) for _ in range(4000)]
    rates = [1 - threshold for threshold, _ in found]  # of uniform scores
    (promised,) = {promise for _, promise in found}
    distribution = beta(*beta_of_rate(count, promised))
    assert kstest(rates, distribution.cdf).pvalue > 0.001
    assert distribution.mean() <= promised + 1e-12
