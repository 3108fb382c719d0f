"""Evaluation on `test`, from `predictions` alone: anybody can recompute it from that table.

The abnormal class is the positive one in every metric. Rows of the control kind `null` appear in `by_kind` only:
nothing is drawn on them, so they are no anomalies. A kind, or a range of severities, is held against all normal images.
`macro_auroc` is the mean over the drawn kinds, each counting the same however many images it has; null without any.
The baselines are measured by the same function, from their own table.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from cygnet.model.evaluation.calibrate import negative_log_likelihood
from cygnet.model.evaluation.intervals import confidence_intervals
from cygnet.model.serving.scorer import Calibration
from cygnet.parameters.training import Evaluation
from cygnet.tables import ABNORMAL, KIND_NULL, KIND_REAL, NORMAL

FEWEST_FRAMES_FOR_1PCT = 100
CALIBRATION_BINS = 15
SEVERITIES = {"low": (0.0, 1 / 3), "middle": (1 / 3, 2 / 3), "high": (2 / 3, np.inf)}
"""Thirds of the range 0-1, and not of the rows, so that they mean the same for every kind and every run."""


def evaluate(
    predictions: pd.DataFrame,
    calibration: Calibration,
    training: dict[str, Any],
    settings: Evaluation,
    localisation: dict[str, dict[str, float] | None],
) -> dict[str, Any]:
    """Measure the detector on the rows of `test`.

    Args:
        predictions: The table `predictions`.
        calibration: What the scores were made with.
        training: `checkpoint`, `epochs`, `images`, `seconds`, `images_per_second`, passed on.
        settings: Of the intervals.
        localisation: By kind, as `cygnet.model.evaluation.localisation.localise` gives it.

    Returns:
        The content of `evaluation.json`, without `baselines`.
    """
    figures = measure(predictions, calibration, settings)
    by_kind = {
        kind: {**of_kind, "localisation": localisation[kind]} if kind in localisation else of_kind
        for kind, of_kind in figures["by_kind"].items()
    }
    return {**figures, "localisation": localisation[""], "by_kind": by_kind, "training": training}


def evaluate_baselines(
    baselines: pd.DataFrame, chosen: dict[str, dict[str, Any]], settings: Evaluation
) -> dict[str, dict[str, Any]]:
    """Measure every baseline on `test` as the detector is.

    Args:
        baselines: The table `baselines`.
        chosen: Name to `calibration` and `variant`.
        settings: Of the intervals.

    Returns:
        Name to its figures, with the `variant` that was chosen on `validation`.
    """
    return {
        name: {
            **measure(baselines[baselines["baseline"] == name], Calibration(**of_it["calibration"]), settings),
            "variant": of_it["variant"],
        }
        for name, of_it in chosen.items()
    }


def measure(rows: pd.DataFrame, calibration: Calibration, settings: Evaluation) -> dict[str, Any]:
    """Measure scores of `test`, whoever gave them.

    Args:
        rows: The columns of `predictions` without the map.
        calibration: What they were made with; passed on.
        settings: Of the intervals.
    """
    test = rows[rows["split"] == "test"]
    drawn = test[test["kind"] != KIND_NULL]
    abnormal, normal = drawn[drawn["label"] == ABNORMAL], drawn[drawn["label"] == NORMAL]
    by_kind = {
        str(kind): _of_kind(str(kind), normal, group, settings)
        for kind, group in test[test["label"] == ABNORMAL].groupby("kind")
    }
    aurocs = [figures["auroc"] for kind, figures in by_kind.items() if kind not in {KIND_NULL, KIND_REAL}]
    return {
        "counts": {
            "normal": len(normal),
            "abnormal": len(abnormal),
            "normal_frames": int(normal["frame_id"].nunique()),
            "abnormal_frames": int(abnormal["frame_id"].nunique()),
        },
        **_figures(drawn),
        "macro_auroc": float(np.mean(aurocs)) if aurocs else None,
        "intervals": _intervals(drawn, settings),
        "recall_at_fpr_1pct": _recall_at_fpr(drawn, 0.01)
        if normal["frame_id"].nunique() >= FEWEST_FRAMES_FOR_1PCT
        else None,
        "threshold": calibration.threshold,
        "threshold_rule": {"rule": calibration.rule, "promised_fpr": calibration.target_fpr},
        "temperature": calibration.temperature,
        "normal": describe_normal(normal["anomaly_score"]),
        "abnormal": describe_scores(abnormal["anomaly_score"]),
        "by_severity": {
            name: {**figures, "intervals": _intervals(group, settings, "auroc", "recall")}
            for name, (figures, group) in _by_severity(normal, abnormal).items()
        },
        "by_kind": by_kind,
    }


def _of_kind(kind: str, normal: pd.DataFrame, group: pd.DataFrame, settings: Evaluation) -> dict[str, Any]:
    """Measure one kind; of the control, whose label says nothing, only what the scores say."""
    both = pd.concat([normal, group])
    scores = describe_scores(group["anomaly_score"])
    figures = {"count": len(group), "auroc": auroc(both), **scores}
    if kind == KIND_NULL:
        return {**figures, "intervals": _intervals(both, settings, "auroc")}
    return {
        **figures,
        **_figures(both),
        "intervals": _intervals(both, settings),
        "by_severity": {name: figures for name, (figures, _) in _by_severity(normal, group).items()},
    }


def _figures(rows: pd.DataFrame) -> dict[str, float]:
    """How well rows of both classes are told apart and decided, and how far the scores can be believed."""
    is_abnormal, scores = rows["label"] == ABNORMAL, rows["anomaly_score"]
    return {
        "auroc": auroc(rows),
        "average_precision": float(average_precision_score(is_abnormal, scores)),
        "f1": float(f1_score(is_abnormal, rows["is_anomalous"], zero_division=0)),
        "recall": float(rows.loc[is_abnormal, "is_anomalous"].mean()),
        "nll": negative_log_likelihood(rows[["logit_abnormal", "logit_normal"]].to_numpy(), rows["label"].to_numpy()),
        "ece": expected_calibration_error(scores.to_numpy(), is_abnormal.to_numpy()),
    }


def _intervals(rows: pd.DataFrame, settings: Evaluation, *names: str) -> dict[str, dict[str, float | str]]:
    intervals = confidence_intervals(rows, settings.resamples, settings.seed)
    return {name: interval for name, interval in intervals.items() if not names or name in names}


def _by_severity(
    normal: pd.DataFrame, abnormal: pd.DataFrame
) -> dict[str, tuple[dict[str, float | int], pd.DataFrame]]:
    """Figures of each third of the severities that has rows, with these rows and the normal ones."""
    parts: dict[str, tuple[dict[str, float | int], pd.DataFrame]] = {}
    for name, (low, high) in SEVERITIES.items():
        group = abnormal[(abnormal["severity"] >= low) & (abnormal["severity"] < high)]
        if len(group):
            both = pd.concat([normal, group])
            figures = {
                "count": len(group),
                "auroc": auroc(both),
                "recall": float(group["is_anomalous"].mean()),
                "mean": float(group["anomaly_score"].mean()),
            }
            parts[name] = figures, both
    return parts


def auroc(rows: pd.DataFrame) -> float:
    """Area under the ROC curve, 0-1, of `anomaly_score` for `label` ABNORMAL."""
    return float(roc_auc_score(rows["label"] == ABNORMAL, rows["anomaly_score"]))


def expected_calibration_error(scores: np.ndarray, is_abnormal: np.ndarray) -> float:
    """Mean distance, 0-1, between what the scores say and how often images are abnormal; see `calibration_bins`."""
    said, was, counts = calibration_bins(scores, is_abnormal)
    return float(np.sum(counts * np.abs(said - was)) / np.sum(counts))


def calibration_bins(scores: np.ndarray, is_abnormal: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Divide scores into at most 15 bins of about equal mass; tied scores share a bin.

    Guo et al., "On Calibration of Modern Neural Networks", 2017, with the bins of Nguyen and O'Connor, "Posterior
    calibration and exploratory analysis", 2015: a detector's scores lie near 0 and 1, and of bins of equal width all
    but two would be empty.

    Args:
        scores: `(N,)`, 0-1.
        is_abnormal: `(N,)` bool.

    Returns:
        Mean score, share of abnormal images, and number of images of each bin.
    """
    place = (rankdata(scores) - 0.5) / len(scores)  # 0-1; of tied scores the middle of their places
    _, bin_of = np.unique(np.floor(CALIBRATION_BINS * place), return_inverse=True)
    counts = np.bincount(bin_of)
    said = np.bincount(bin_of, weights=scores.astype(np.float64)) / counts
    return said, np.bincount(bin_of, weights=is_abnormal) / counts, counts


def describe_normal(scores: pd.Series) -> dict[str, float]:
    """Describe normal images' scores as `describe_scores` does, with their 99th percentile."""
    return {**describe_scores(scores), "p99": float(np.percentile(scores, 99))}


def describe_scores(scores: pd.Series) -> dict[str, float]:
    """Mean, standard deviation, minimum and maximum of anomaly scores."""
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
