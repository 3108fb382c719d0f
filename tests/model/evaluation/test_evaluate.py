"""What the evaluation promises: `predictions` are enough to recompute it, and abnormal is the positive class."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cygnet.model.evaluation.evaluate import calibration_bins, evaluate, evaluate_baselines, expected_calibration_error
from cygnet.model.evaluation.results import FittedBaseline, LocalisationByKind, LocalisationByPart
from cygnet.model.serving.scorer import Calibration, scores_of
from cygnet.parameters.training import Evaluation
from cygnet.reports import BaselineMetrics, DetectorMetrics
from cygnet.tables import ABNORMAL, KIND_NULL, NORMAL
from support.reports import assert_conforms
from support.toys import toy_predictions

TRAINING = {"checkpoint": None, "epochs": 2, "images": 20, "seconds": 1.5, "images_per_second": 13.3, "seed": 1}
SETTINGS = Evaluation(seed=0, resamples=100, normal_frames=1, memory_patches=1)
NORMAL_DISTANCES = [1.0, 2.0, 3.0]
CALIBRATION = Calibration(1.25, 0.5, normal_margins=[-3.0, -1.0, 0.0], normal_distances=NORMAL_DISTANCES)
DRAWN = LocalisationByKind(
    {"pixel_average_precision": 0.5, "pro_at_fpr_30pct": 0.6},
    {"polygon": {"pixel_average_precision": 0.7, "pro_at_fpr_30pct": 0.8}},
)
LOCALISATION = LocalisationByPart(DRAWN, LocalisationByKind(None, {}))


def overlapping(normal: int = 60, abnormal: int = 40, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = toy_predictions(
        np.clip(rng.normal(0.35, 0.15, normal), 0.01, 0.99).tolist(),
        np.clip(rng.normal(0.6, 0.2, abnormal), 0.01, 0.99).tolist(),
    )
    rows.loc[rows["label"] == ABNORMAL, "kind"] = ["polygon", "real"] * (abnormal // 2)
    return rows


def controls(count: int = 10) -> pd.DataFrame:
    rows = toy_predictions([], np.linspace(0.1, 0.9, count).tolist())
    return rows.assign(kind=KIND_NULL, image_id=[f"null-{place}" for place in range(count)])


def validation(frames: int) -> pd.DataFrame:
    """Make rows of which the threshold's half has so many normal frames."""
    rows = toy_predictions([0.1] * 2 * frames, [0.9] * 2 * frames).assign(split="validation")
    return rows.assign(frame_id=[f"video/{row % (2 * frames):06}" for row in range(4 * frames)])


def judge(rows: pd.DataFrame) -> dict[str, Any]:
    report = evaluate(rows, CALIBRATION, TRAINING, SETTINGS, LOCALISATION)
    assert_conforms(report, DetectorMetrics)
    return report


def pairwise_auroc(normal: np.ndarray, abnormal: np.ndarray) -> float:
    difference = abnormal[:, None].astype(float) - normal[None, :]
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


def steps(normal: np.ndarray, abnormal: np.ndarray) -> list[tuple[float, float, float]]:
    """False-positive rate, recall and precision at every score as a threshold, the highest first."""
    every = np.concatenate([normal, abnormal])
    flagged = [(np.sum(normal >= score), np.sum(abnormal >= score)) for score in np.unique(every)[::-1]]
    return [(false / len(normal), true / len(abnormal), true / (true + false)) for false, true in flagged]


def plain_recall_at_1pct(normal: np.ndarray, abnormal: np.ndarray) -> float:
    return max([recall for fpr, recall, _ in steps(normal, abnormal) if fpr <= 0.01], default=0.0)


def test_metrics_equal_a_plain_computation() -> None:
    rows = overlapping()
    normal = rows.loc[rows["label"] == NORMAL, "anomaly_score"].to_numpy()
    abnormal = rows.loc[rows["label"] == ABNORMAL, "anomaly_score"].to_numpy()
    report = judge(rows)
    assert report["counts"] == {"normal": 60, "abnormal": 40, "normal_frames": 60, "abnormal_frames": 40}
    assert report["auroc"] == pytest.approx(pairwise_auroc(normal, abnormal), abs=1e-12)
    recalls = [0.0, *(recall for _, recall, _ in steps(normal, abnormal))]
    precisions = [precision for _, _, precision in steps(normal, abnormal)]
    assert report["average_precision"] == pytest.approx(np.sum(np.diff(recalls) * precisions), abs=1e-12)
    true, false, missed = np.sum(abnormal >= 0.5), np.sum(normal >= 0.5), np.sum(abnormal < 0.5)
    assert report["f1"] == pytest.approx(2 * true / (2 * true + false + missed), abs=1e-12)
    nll = -np.concatenate([np.log1p(-normal.astype(float)), np.log(abnormal.astype(float))]).mean()
    assert report["nll"] == pytest.approx(nll, abs=1e-6)
    assert report["normal"]["p99"] == pytest.approx(np.percentile(normal, 99), abs=1e-6)
    for name, scores in (("normal", normal), ("abnormal", abnormal)):
        plain = [getattr(scores.astype(float), statistic)() for statistic in ("mean", "std", "min", "max")]
        assert [report[name][key] for key in ("mean", "std", "min", "max")] == pytest.approx(plain)
    assert (report["threshold"], report["temperature"]) == (0.5, 1.25)
    assert report["training"] == TRAINING


def test_each_kind_is_compared_with_all_normal_images() -> None:
    rows = pd.concat([overlapping(), controls()])
    normal = rows.loc[rows["label"] == NORMAL, "anomaly_score"].to_numpy()
    report = judge(rows)["by_kind"]
    assert set(report) == {"polygon", "real", KIND_NULL}
    for kind, metrics in report.items():
        scores = rows.loc[rows["kind"] == kind, "anomaly_score"].to_numpy()
        assert metrics["count"] == len(scores)
        assert metrics["auroc"] == pytest.approx(pairwise_auroc(normal, scores), abs=1e-12)
        assert (metrics["mean"], metrics["min"]) == pytest.approx((scores.mean(), scores.min()))


def test_macro_auroc_weighs_each_synthetic_kind_the_same() -> None:
    rows = pd.concat([overlapping(abnormal=8), overlapping(abnormal=40, seed=1), controls()], ignore_index=True)
    kinds = rows.loc[rows["kind"].isin(["polygon"]), "kind"]
    rows.loc[kinds.index[:3], "kind"] = "scar"
    report = judge(rows)
    assert set(report["by_kind"]) == {"polygon", "scar", "real", KIND_NULL}
    of_kinds = [report["by_kind"][kind]["auroc"] for kind in ("polygon", "scar")]
    assert of_kinds[0] != of_kinds[1]
    assert report["macro_auroc"] == pytest.approx(sum(of_kinds) / 2)
    assert judge(rows[rows["kind"].isin(["none", "real"])])["macro_auroc"] is None


@pytest.mark.parametrize(("rule", "promised"), [("max_f1", None), ("target_fpr", 0.04)])
def test_rule_and_guaranteed_rate_of_the_threshold_are_reported(rule: str, promised: float | None) -> None:
    calibration = replace(CALIBRATION, rule=rule, target_fpr=promised)
    rows = pd.concat([overlapping(), validation(50)], ignore_index=True)
    report = evaluate(rows, calibration, TRAINING, SETTINGS, LOCALISATION)
    assert_conforms(report, DetectorMetrics)
    assert (report["threshold_rule"]["rule"], report["threshold_rule"]["promised_fpr"]) == (rule, promised)
    assert report["threshold_rule"]["frames"] == (None if promised is None else 50)


@pytest.mark.parametrize(
    ("alarms", "frames", "promised", "kept"),
    [
        (0, 28, 0.05, True),
        (5, 28, 0.05, True),  # the threshold fell low by chance
        (5, 2000, 0.05, False),
        (6, 28, 0.05, False),
        (8, 28, None, None),
    ],
)
def test_a_promise_is_broken_by_more_false_alarms_than_chance_explains(
    alarms: int, frames: int, promised: float | None, kept: bool | None
) -> None:
    rows = toy_predictions([0.9] * 2 * alarms + [0.1] * 2 * (33 - alarms), [0.9] * 33)
    rows["frame_id"] = [f"video/{row // 2:06}" for row in range(66)] + [f"video/{row:06}" for row in range(33)]
    rows = pd.concat([rows, validation(frames)], ignore_index=True)
    report = evaluate(rows, replace(CALIBRATION, target_fpr=promised), TRAINING, SETTINGS, LOCALISATION)
    assert report["threshold_rule"]["false_alarm_frames"] == alarms  # frames, though each has two images
    assert report["threshold_rule"]["is_kept"] is kept


def test_controls_and_other_splits_change_no_overall_metric() -> None:
    rows = overlapping()
    elsewhere = overlapping(seed=5).assign(split="validation")
    plain, mixed = judge(rows), judge(pd.concat([controls(), rows, elsewhere], ignore_index=True))
    assert mixed["by_kind"].pop(KIND_NULL)["count"] == 10
    for score in mixed["scores"].values():
        assert score["by_kind"].pop(KIND_NULL) is not None
    assert mixed == plain


def test_the_highest_tile_counts_for_a_frame_that_is_labelled_abnormal() -> None:
    rows = overlapping()
    lower = rows.assign(anomaly_score=rows["anomaly_score"] / 2, image_id=rows["image_id"] + "/tile-1")
    plain, tiled = judge(rows), judge(pd.concat([rows, lower], ignore_index=True))
    assert tiled["by_kind"]["real"]["auroc"] == plain["by_kind"]["real"]["auroc"]
    assert tiled["by_kind"]["real"]["count"] == plain["by_kind"]["real"]["count"]
    assert tiled["by_kind"]["polygon"]["count"] == 2 * plain["by_kind"]["polygon"]["count"]


def test_the_other_tiles_of_a_frame_that_is_labelled_abnormal_are_no_misses() -> None:
    rows = overlapping()
    real = rows[rows["kind"] == "real"]
    lowest = {"classifier_margin": -9.0, "normality_distance": 0.0, "anomaly_score": np.float32(0)}
    lower = real.assign(image_id=real["image_id"] + "/tile-1", **lowest)
    assert judge(pd.concat([lower, rows], ignore_index=True)) == judge(rows)


def test_abnormal_is_the_positive_class() -> None:
    rows = overlapping()
    flipped = rows.assign(anomaly_score=1 - rows["anomaly_score"])
    assert judge(rows)["auroc"] > 0.8
    assert judge(flipped)["auroc"] == pytest.approx(1 - judge(rows)["auroc"], abs=1e-6)


def test_recall_at_one_percent_needs_a_hundred_normal_frames() -> None:
    assert judge(overlapping(normal=99))["recall_at_fpr_1pct"] is None
    assert judge(overlapping(normal=100))["recall_at_fpr_1pct"] is not None
    one_frame_twice = overlapping(normal=101)
    one_frame_twice.loc[1:2, "frame_id"] = "frame-0"
    assert judge(one_frame_twice)["recall_at_fpr_1pct"] is None


@pytest.mark.parametrize("seed", range(4))
def test_recall_at_one_percent_equals_a_plain_computation(seed: int) -> None:
    rows = overlapping(normal=300, seed=seed)
    normal, abnormal = (rows.loc[rows["label"] == label, "anomaly_score"].to_numpy() for label in (NORMAL, ABNORMAL))
    assert judge(rows)["recall_at_fpr_1pct"] == pytest.approx(plain_recall_at_1pct(normal, abnormal))


def test_recall_at_one_percent_counts_tied_scores() -> None:
    tied = np.linspace(0.01, 0.99, 200)  # each abnormal image scores as one normal image does
    assert judge(toy_predictions(tied.tolist(), tied.tolist()))["recall_at_fpr_1pct"] == pytest.approx(0.01)


def test_report_has_the_agreed_keys() -> None:
    report = judge(overlapping())
    assert set(report) >= {
        *("counts", "auroc", "average_precision", "f1", "recall_at_fpr_1pct", "threshold", "temperature", "nll"),
        *("normal", "abnormal", "by_kind", "training"),
    }
    assert set(report["counts"]) >= {"normal", "abnormal", "normal_frames", "abnormal_frames"}
    assert set(report["normal"]) >= {"mean", "std", "min", "p99", "max"}
    assert set(report["abnormal"]) >= {"mean", "std", "min", "max"}
    metrics = {"auroc", "average_precision", "f1", "recall", "nll", "ece", "intervals", "localisation", "by_severity"}
    assert set(report) >= metrics
    assert set(report["by_kind"]["polygon"]) >= {"count", "mean", "min", *metrics}
    assert set(report["intervals"]) == {"auroc", "average_precision", "f1", "recall"}
    assert report["localisation"] == DRAWN.overall
    assert report["classifier_localisation"] is None
    assert report["by_kind"]["polygon"]["localisation"] == DRAWN.by_kind["polygon"]
    assert "localisation" not in report["by_kind"]["real"]
    assert set(report["training"]) >= {"checkpoint", "epochs", "images", "seconds", "images_per_second"}


def test_report_survives_json() -> None:
    report = judge(pd.concat([overlapping(normal=120), controls()]))
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_every_metric_lies_in_its_interval() -> None:
    report = judge(pd.concat([overlapping(), controls()]))
    for metrics in (report, *report["by_kind"].values(), *report["by_severity"].values()):
        for name, interval in metrics["intervals"].items():
            assert interval["low"] <= metrics[name] <= interval["high"]
    control = report["by_kind"][KIND_NULL]
    assert set(control["intervals"]) == {"auroc"}
    assert not {"f1", "nll", "recall"} & set(control)


def test_severities_are_thirds_of_the_range_overall_and_by_kind() -> None:
    rows = overlapping(normal=20, abnormal=40)
    abnormal = rows["label"] == ABNORMAL
    rows.loc[abnormal, "severity"] = np.linspace(0, 1, 40)
    rows.loc[abnormal, "anomaly_score"] = np.linspace(0.2, 0.9, 40)
    report = judge(rows)
    assert {name: metrics["count"] for name, metrics in report["by_severity"].items()} == {
        "low": 13, "middle": 13, "high": 14,
    }  # fmt: skip
    by_kind = [report["by_kind"][kind]["by_severity"] for kind in ("polygon", "real")]
    for name, metrics in report["by_severity"].items():
        assert metrics["count"] == sum(of_kind[name]["count"] for of_kind in by_kind)
    aurocs = [metrics["auroc"] for metrics in report["by_severity"].values()]
    assert aurocs == sorted(aurocs)
    normal = rows.loc[~abnormal, "anomaly_score"].to_numpy()
    high = rows.loc[abnormal & (rows["severity"] > 2 / 3), "anomaly_score"].to_numpy()
    assert report["by_severity"]["high"]["auroc"] == pytest.approx(pairwise_auroc(normal, high), abs=1e-12)


def test_anomalies_without_a_severity_are_in_no_third() -> None:
    rows = overlapping()
    rows.loc[rows["kind"] == "real", "severity"] = np.nan
    report = judge(rows)
    assert report["by_severity"]["middle"]["count"] == 20
    assert report["by_kind"]["real"]["by_severity"] == {}


def test_calibrated_scores_have_a_small_calibration_error_and_overconfident_ones_a_large_one() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    is_abnormal = rng.random(20_000) < scores
    assert expected_calibration_error(scores, is_abnormal) < 0.02
    assert expected_calibration_error((scores > 0.5).astype(float), is_abnormal) == pytest.approx(0.25, abs=0.02)


def test_calibration_bins_have_equal_mass_and_tied_scores_share_one() -> None:
    scores = np.random.default_rng(0).random(1500) ** 9
    said, _, counts = calibration_bins(scores, scores > 0.5)
    assert len(counts) == 15
    assert counts.min() >= 99
    assert (np.diff(said) > 0).all()
    tied = np.repeat([0.0, 1.0], [900, 100])
    _, was, counts = calibration_bins(tied, tied > 0.5)
    assert (counts.tolist(), was.tolist()) == ([900, 100], [0, 1])


def test_a_baseline_is_measured_as_the_detector_is() -> None:
    rows = pd.concat([overlapping(), controls()], ignore_index=True)
    table = pd.concat([rows.assign(baseline="twin"), overlapping(seed=9).assign(baseline="other")])
    fitted = {name: FittedBaseline({"k": 3}, CALIBRATION) for name in ("twin", "other")}
    report, twin = judge(rows), evaluate_baselines(table, fitted, SETTINGS)["twin"]
    assert_conforms(twin, BaselineMetrics)
    assert twin.pop("variant") == {"k": 3}
    for kind in report["by_kind"].values():
        kind.pop("localisation", None)
    of_detector = {"training", "localisation", "classifier_localisation", "score", "scores"}
    assert twin == {name: value for name, value in report.items() if name not in of_detector}


def test_each_setting_of_the_score_is_measured_as_a_run_with_it_would_be() -> None:
    rows = overlapping()
    rows["normality_distance"] = np.random.default_rng(2).gamma(2.0, size=len(rows)).astype(np.float32)
    report = judge(rows)
    assert list(report["scores"]) == ["combined", "classifier", "normality"]
    for name, measured in report["scores"].items():
        scores = scores_of(rows, replace(CALIBRATION, score=name))
        alone = judge(rows.assign(anomaly_score=scores["anomaly_score"]))
        for figure in ("auroc", "average_precision", "macro_auroc"):
            assert measured[figure] == pytest.approx(alone[figure], abs=1e-3)  # float32 may tie what float64 does not
        assert measured["by_kind"] == pytest.approx(
            {kind: figures["auroc"] for kind, figures in alone["by_kind"].items()}, abs=1e-3
        )
    is_abnormal = (rows["label"] == ABNORMAL).to_numpy()
    assert report["scores"]["normality"]["auroc"] == pytest.approx(
        roc_auc_score(is_abnormal, rows["normality_distance"]), abs=1e-9
    )
