"""Metrics on `test`, computed from the table `predictions` alone: anyone can recompute them from it.

`cygnet.reports` describes every value. The abnormal class is the positive one. A kind of anomaly, or a third of the
severities, is compared with all normal images. The control kind `null` has no anomaly, so it counts in `by_kind` only.
The same function measures the baselines, from their own table.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast, get_args

import numpy as np
import pandas as pd
from scipy.stats import beta, betabinom, rankdata
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from cygnet.model.evaluation.calibrate import beta_of_rate, negative_log_likelihood, threshold_frames
from cygnet.model.evaluation.counted import counted_rows
from cygnet.model.evaluation.intervals import LEVEL, confidence_intervals
from cygnet.model.evaluation.results import FittedBaseline, LocalisationByPart
from cygnet.model.serving.scorer import Calibration, ScoreName
from cygnet.parameters.training import Evaluation
from cygnet.reports import (
    BaselineMetrics,
    ControlMetrics,
    DetectorMetrics,
    ImageCounts,
    KindMetrics,
    MetricIntervals,
    Metrics,
    NormalScoreStatistics,
    OverallSeverityMetrics,
    RateInterval,
    ScoreMetrics,
    ScoreStatistics,
    SeverityMetrics,
    SystemMetrics,
    ThresholdRule,
    TrainingSummary,
)
from cygnet.tables import ABNORMAL, KIND_NULL, KIND_REAL, NORMAL

SCORES: tuple[ScoreName, ...] = get_args(ScoreName)
FEWEST_FRAMES_FOR_1PCT = 100
CALIBRATION_BINS = 15
SEVERITIES = {"low": (0.0, 1 / 3), "middle": (1 / 3, 2 / 3), "high": (2 / 3, np.inf)}
"""Thirds of the range 0-1 and not of the rows: they mean the same for every kind and every run."""


def evaluate(
    predictions: pd.DataFrame,
    calibration: Calibration,
    training: TrainingSummary,
    settings: Evaluation,
    localisation: LocalisationByPart,
) -> DetectorMetrics:
    """Measure the detector on the rows of `test`.

    Args:
        predictions: The table `predictions`.
        calibration: The one that its scores were computed with.
        training: How the detector was fitted; passed through.
        settings: `resamples` and `seed` of the intervals.
        localisation: What `cygnet.model.evaluation.localisation.localise` measured of each map.
    """
    metrics = measure(predictions, calibration, settings)
    by_kind, of_kind = metrics["by_kind"], localisation.drawn.by_kind
    for kind in by_kind.keys() & of_kind.keys():  # never the control
        by_kind[kind] = {**cast(KindMetrics, by_kind[kind]), "localisation": of_kind[kind]}
    return {
        **metrics,
        "localisation": localisation.drawn.overall,
        "classifier_localisation": localisation.classifier.overall,
        "score": calibration.score,
        "scores": {name: _measure_score(predictions, replace(calibration, score=name)) for name in SCORES},
        "training": training,
    }


def _measure_score(predictions: pd.DataFrame, calibration: Calibration) -> ScoreMetrics:
    """Measure what one setting of `training.score` would give on `test`; no threshold is involved."""
    test = predictions[predictions["split"] == "test"]
    rows = test.assign(anomaly_score=calibration.margins(test))  # ranked as its softmax, without ties by rounding
    normal, counted = rows[rows["label"] == NORMAL], counted_rows(rows)
    abnormal = rows[rows["label"] == ABNORMAL]
    by_kind = {
        str(kind): auroc(pd.concat(_comparable(normal, group, str(kind)))) for kind, group in abnormal.groupby("kind")
    }
    return {
        "auroc": auroc(counted),
        "average_precision": float(average_precision_score(counted["label"] == ABNORMAL, counted["anomaly_score"])),
        "macro_auroc": _macro(by_kind),
        "by_kind": by_kind,
    }


def _comparable(normal: pd.DataFrame, abnormal: pd.DataFrame, kind: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare images with images; but of a frame that is labelled abnormal nobody knows which tile it is: frames."""
    if kind != KIND_REAL:
        return normal, abnormal
    frames = [rows.sort_values("anomaly_score").drop_duplicates("frame_id", keep="last") for rows in (normal, abnormal)]
    return frames[0].sort_index(), frames[1].sort_index()


def _macro(aurocs: Mapping[str, float]) -> float | None:
    """Average over the synthetic kinds, if there are any."""
    synthetic = [value for kind, value in aurocs.items() if kind not in {KIND_NULL, KIND_REAL}]
    return float(np.mean(synthetic)) if synthetic else None


def evaluate_baselines(
    baselines: pd.DataFrame, fitted: dict[str, FittedBaseline], settings: Evaluation
) -> dict[str, BaselineMetrics]:
    """Measure every baseline on `test` as the detector is measured.

    Args:
        baselines: The table `baselines`.
        fitted: How each baseline was fitted, by its name.
        settings: `resamples` and `seed` of the intervals.
    """
    rows_by_name = dict(iter(baselines.groupby("baseline")))
    return {
        name: {**measure(rows_by_name[name], baseline.calibration, settings), "variant": baseline.variant}
        for name, baseline in fitted.items()
    }


def measure(rows: pd.DataFrame, calibration: Calibration, settings: Evaluation) -> SystemMetrics:
    """Measure the scores of one system on `test`.

    Args:
        rows: The columns of `predictions`, except the map; of `validation`, only the normal frames behind a promised
            rate are counted.
        calibration: The one that the scores were computed with.
        settings: `resamples` and `seed` of the intervals.
    """
    test = rows[rows["split"] == "test"]
    counted = counted_rows(test)
    abnormal, normal = counted[counted["label"] == ABNORMAL], counted[counted["label"] == NORMAL]
    by_kind = {
        str(kind): _measure_control(normal, group, settings)
        if kind == KIND_NULL
        else _measure_kind(*_comparable(normal, group, str(kind)), settings)
        for kind, group in test[test["label"] == ABNORMAL].groupby("kind")
    }
    has_enough = normal["frame_id"].nunique() >= FEWEST_FRAMES_FOR_1PCT
    return {
        "counts": _count(normal, abnormal),
        **_metrics(counted),
        "macro_auroc": _macro({kind: metrics["auroc"] for kind, metrics in by_kind.items()}),
        "intervals": _intervals(counted, settings),
        "recall_at_fpr_1pct": _recall_at_fpr(counted, 0.01) if has_enough else None,
        "threshold": calibration.threshold,
        "threshold_rule": _check_threshold(rows, normal, calibration),
        "temperature": calibration.temperature,
        "normal": describe_normal(normal["anomaly_score"]),
        "abnormal": describe_scores(abnormal["anomaly_score"]),
        "by_severity": {
            name: _with_intervals(_measure_severity(normal, group), pd.concat([normal, group]), settings)
            for name, group in _by_severity(abnormal).items()
        },
        "by_kind": by_kind,
    }


def _check_threshold(rows: pd.DataFrame, normal: pd.DataFrame, calibration: Calibration) -> ThresholdRule:
    """Compare the false alarms among the normal frames of `test` with what the threshold promises.

    The threshold itself is a matter of chance: the number of alarms follows a beta-binomial distribution.
    """
    is_alarm, promised = normal.groupby("frame_id")["is_anomalous"].any(), calibration.target_fpr
    rule: ThresholdRule = {
        "rule": calibration.rule,
        "promised_fpr": promised,
        "frames": None,
        "fpr_interval": None,
        "false_alarm_frames": int(is_alarm.sum()),
        "is_kept": None,
    }
    if promised is None:
        return rule
    frames = threshold_frames(rows[rows["split"] == "validation"])
    of_rate, tail = beta_of_rate(frames, promised), (1 - LEVEL) / 2
    low, high = beta.ppf([tail, 1 - tail], *of_rate)
    chance = betabinom.sf(rule["false_alarm_frames"] - 1, len(is_alarm), *of_rate)
    interval: RateInterval = {"low": float(low), "high": float(high)}
    return {**rule, "frames": frames, "fpr_interval": interval, "is_kept": bool(chance >= tail)}


def _count(normal: pd.DataFrame, abnormal: pd.DataFrame) -> ImageCounts:
    return {
        "normal": len(normal),
        "abnormal": len(abnormal),
        "normal_frames": int(normal["frame_id"].nunique()),
        "abnormal_frames": int(abnormal["frame_id"].nunique()),
    }


def _measure_control(normal: pd.DataFrame, group: pd.DataFrame, settings: Evaluation) -> ControlMetrics:
    both = pd.concat([normal, group])
    return {
        "count": len(group),
        "auroc": auroc(both),
        **describe_scores(group["anomaly_score"]),
        "intervals": {"auroc": _intervals(both, settings)["auroc"]},
    }


def _measure_kind(normal: pd.DataFrame, group: pd.DataFrame, settings: Evaluation) -> KindMetrics:
    both = pd.concat([normal, group])
    return {
        "count": len(group),
        "auroc": auroc(both),
        **describe_scores(group["anomaly_score"]),
        **_metrics(both),
        "intervals": _intervals(both, settings),
        "by_severity": {name: _measure_severity(normal, third) for name, third in _by_severity(group).items()},
    }


def _measure_severity(normal: pd.DataFrame, group: pd.DataFrame) -> SeverityMetrics:
    return {
        "count": len(group),
        "auroc": auroc(pd.concat([normal, group])),
        "recall": float(group["is_anomalous"].mean()),
        "mean": float(group["anomaly_score"].mean()),
    }


def _with_intervals(metrics: SeverityMetrics, rows: pd.DataFrame, settings: Evaluation) -> OverallSeverityMetrics:
    intervals = _intervals(rows, settings)
    return {**metrics, "intervals": {"auroc": intervals["auroc"], "recall": intervals["recall"]}}


def _metrics(rows: pd.DataFrame) -> Metrics:
    """Compute the main metrics of rows of both classes."""
    is_abnormal, scores = rows["label"] == ABNORMAL, rows["anomaly_score"]
    return {
        "auroc": auroc(rows),
        "average_precision": float(average_precision_score(is_abnormal, scores)),
        "f1": float(f1_score(is_abnormal, rows["is_anomalous"], zero_division=0)),
        "recall": float(rows.loc[is_abnormal, "is_anomalous"].mean()),
        "nll": negative_log_likelihood(rows[["logit_abnormal", "logit_normal"]].to_numpy(), rows["label"].to_numpy()),
        "ece": expected_calibration_error(scores.to_numpy(), is_abnormal.to_numpy()),
    }


def _intervals(rows: pd.DataFrame, settings: Evaluation) -> MetricIntervals:
    return confidence_intervals(rows, settings.resamples, settings.seed)


def _by_severity(abnormal: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Group rows by thirds of the severities; a third without rows is left out."""
    severity = abnormal["severity"]
    thirds = {name: abnormal[(severity >= low) & (severity < high)] for name, (low, high) in SEVERITIES.items()}
    return {name: rows for name, rows in thirds.items() if len(rows)}


def auroc(rows: pd.DataFrame) -> float:
    """Compute the area under the ROC curve, 0-1, of `anomaly_score` for `label` ABNORMAL."""
    return float(roc_auc_score(rows["label"] == ABNORMAL, rows["anomaly_score"]))


def expected_calibration_error(scores: np.ndarray, is_abnormal: np.ndarray) -> float:
    """Compute the mean distance, 0-1, between mean score and share of abnormal images, over `calibration_bins`."""
    mean_scores, abnormal_shares, counts = calibration_bins(scores, is_abnormal)
    return float(np.sum(counts * np.abs(mean_scores - abnormal_shares)) / np.sum(counts))


def calibration_bins(scores: np.ndarray, is_abnormal: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Divide scores into at most 15 bins of about equal mass; tied scores share a bin.

    Guo et al., "On Calibration of Modern Neural Networks", 2017, with the bins of Nguyen and O'Connor, "Posterior
    calibration and exploratory analysis", 2015. With bins of equal width all but two would be empty, because a
    detector's scores lie near 0 and 1.

    Args:
        scores: `(N,)`, 0-1.
        is_abnormal: `(N,)` bool.

    Returns:
        Mean score, share of abnormal images, and number of images of each bin.
    """
    quantile = (rankdata(scores) - 0.5) / len(scores)  # 0-1; tied scores share the mean of their ranks
    _, bin_of = np.unique(np.floor(CALIBRATION_BINS * quantile), return_inverse=True)
    counts = np.bincount(bin_of)
    mean_scores = np.bincount(bin_of, weights=scores.astype(np.float64)) / counts
    return mean_scores, np.bincount(bin_of, weights=is_abnormal) / counts, counts


def describe_normal(scores: pd.Series) -> NormalScoreStatistics:
    """Describe the anomaly scores of normal images."""
    return {**describe_scores(scores), "p99": float(np.percentile(scores, 99))}


def describe_scores(scores: pd.Series) -> ScoreStatistics:
    """Describe anomaly scores."""
    values = scores.to_numpy(np.float64)
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
    }


def _recall_at_fpr(rows: pd.DataFrame, fpr: float) -> float:
    fprs, recalls, _ = roc_curve(rows["label"] == ABNORMAL, rows["anomaly_score"], drop_intermediate=False)
    return float(recalls[fprs <= fpr].max())
