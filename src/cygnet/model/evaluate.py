"""Evaluation on `test`, from `predictions` alone: anybody can recompute it from that table.

The abnormal class is the positive one in every metric. Rows of the control kind `null` appear in `by_kind` only:
nothing is drawn on them, so they are no anomalies.
"""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from cygnet.model.calibrate import negative_log_likelihood
from cygnet.model.scorer import Calibration
from cygnet.tables import ABNORMAL, KIND_NULL, NORMAL

FEWEST_FRAMES_FOR_1PCT = 100


def evaluate(predictions: pd.DataFrame, calibration: Calibration, training: dict[str, Any]) -> dict[str, Any]:
    """Measure the detector on the rows of `test`.

    Args:
        predictions: The table `predictions`.
        calibration: What the scores were made with.
        training: `checkpoint`, `epochs`, `images`, `seconds`, `images_per_second`, passed on.

    Returns:
        The content of `evaluation.json`.
    """
    test = predictions[predictions["split"] == "test"]
    rows = test[test["kind"] != KIND_NULL]
    abnormal, normal = rows[rows["label"] == ABNORMAL], rows[rows["label"] == NORMAL]
    is_abnormal, scores = rows["label"] == ABNORMAL, rows["anomaly_score"]
    return {
        "counts": {
            "normal": len(normal),
            "abnormal": len(abnormal),
            "normal_frames": int(normal["frame_id"].nunique()),
            "abnormal_frames": int(abnormal["frame_id"].nunique()),
        },
        "auroc": auroc(rows),
        "average_precision": float(average_precision_score(is_abnormal, scores)),
        "f1": float(f1_score(is_abnormal, rows["is_anomalous"], zero_division=0)),
        "recall_at_fpr_1pct": _recall_at_fpr(rows, 0.01)
        if normal["frame_id"].nunique() >= FEWEST_FRAMES_FOR_1PCT
        else None,
        "threshold": calibration.threshold,
        "temperature": calibration.temperature,
        "nll": negative_log_likelihood(rows[["logit_abnormal", "logit_normal"]].to_numpy(), rows["label"].to_numpy()),
        "normal": describe_normal(normal["anomaly_score"]),
        "abnormal": describe_scores(abnormal["anomaly_score"]),
        "by_kind": {
            str(kind): {
                "count": len(group),
                "auroc": auroc(pd.concat([normal, group])),
                "mean": float(group["anomaly_score"].mean()),
                "min": float(group["anomaly_score"].min()),
            }
            for kind, group in test[test["label"] == ABNORMAL].groupby("kind")
        },
        "training": training,
    }


def auroc(rows: pd.DataFrame) -> float:
    """Area under the ROC curve, 0-1, of `anomaly_score` for `label` ABNORMAL."""
    return float(roc_auc_score(rows["label"] == ABNORMAL, rows["anomaly_score"]))


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
