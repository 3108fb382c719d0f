"""Parity: whether the served runtime agrees with torch in float32, on the same bytes of test images.

A runtime in float32 must reproduce every score up to rounding, and some images of each kind show whether it does. With
fewer bits scores move, so each side is calibrated on its own, and the check is whether on all images both make the same
decisions and find the hardest kind of anomaly equally well.
"""

import numpy as np
import pandas as pd
import pyarrow.dataset as pad

from cygnet.model.evaluation.evaluate import auroc
from cygnet.model.evaluation.predictions import EVALUATION_SPLITS, calibrate_scorer, measure_rows, score_rows
from cygnet.model.serving.runtimes import RUNTIMES, Runtime
from cygnet.model.serving.scorer import Scorer
from cygnet.model.training_set import sample_rows
from cygnet.parameters.serving import Parity
from cygnet.parameters.training import Threshold
from cygnet.reports import ParityMetrics, ParityReport
from cygnet.tables import ABNORMAL, KIND_NULL, NORMAL


def score_reference(
    torch_runtime: Runtime, served: Scorer, training_set: pad.Dataset, threshold: Threshold, images_per_kind: int
) -> pd.DataFrame:
    """Score `test`, or a sample of it, with torch in float32.

    A served runtime in float32 lends the reference its calibration; for any other the reference gets its own.

    Args:
        torch_runtime: The fitted detector in torch and float32.
        served: The scorer that will be served.
        training_set: The table.
        threshold: The rule that chooses the threshold.
        images_per_kind: Size of the sample, for a runtime in float32.

    Returns:
        The columns of `predictions`.
    """
    reference = Scorer(torch_runtime, served.calibration, served.scene, served.limits)
    if RUNTIMES[served.runtime.name].precision == "float32":
        sample = sample_rows(training_set, "test", images_per_kind)
        return score_rows(measure_rows(reference, sample, ["test"]), reference)
    rows = measure_rows(reference, training_set, EVALUATION_SPLITS)
    return score_rows(rows[rows["split"] == "test"], calibrate_scorer(reference, rows, threshold))


def compare_runtimes(reference: pd.DataFrame, served: pd.DataFrame, name: str, limits: Parity) -> ParityReport:
    """Compare the scores of two runtimes on the images of the reference.

    Args:
        reference: `image_id`, `label`, `kind`, `anomaly_score`, `is_anomalous` by torch in float32.
        served: `image_id`, `anomaly_score`, `is_anomalous` by the served runtime, at least of the same images.
        name: Of the served runtime.
        limits: The limits that it must keep.
    """
    columns = ["image_id", "anomaly_score", "is_anomalous"]
    both = reference.merge(served[columns], on="image_id", how="left", suffixes=("", "_served"), validate="1:1")
    difference = (both["anomaly_score"] - both["anomaly_score_served"]).abs().to_numpy(np.float64)
    kind, loss = _loss_on_hardest_kind(both)
    metrics: ParityMetrics = {
        "runtime": name,
        "rows": len(both),
        "max_abs_score_difference": float(difference.max()),
        "mean_abs_score_difference": float(difference.mean()),
        "decisions_agree_frac": float((both["is_anomalous"] == both["is_anomalous_served"]).mean()),
        "hardest_kind": kind,
        "auroc_loss_hardest_kind": loss,
    }
    reasons = _missed_limits(metrics, limits)
    return {**metrics, "passed": not reasons, "reasons": reasons}


def _loss_on_hardest_kind(both: pd.DataFrame) -> tuple[str, float]:
    """Find the kind with the reference's lowest AUROC, and how much lower the served runtime's is."""
    normal = both[both["label"] == NORMAL]
    anomalies = both[(both["label"] == ABNORMAL) & (both["kind"] != KIND_NULL)]
    by_kind = {str(kind): pd.concat([normal, rows]) for kind, rows in anomalies.groupby("kind")}
    aurocs = {kind: auroc(rows) for kind, rows in by_kind.items()}
    hardest = min(aurocs, key=lambda kind: aurocs[kind])
    served = by_kind[hardest].assign(anomaly_score=by_kind[hardest]["anomaly_score_served"])
    return hardest, aurocs[hardest] - auroc(served)


def _missed_limits(metrics: ParityMetrics, limits: Parity) -> list[str]:
    """Describe every limit that is missed; NaN misses every limit."""
    largest, mean = metrics["max_abs_score_difference"], metrics["mean_abs_score_difference"]
    agree, loss = metrics["decisions_agree_frac"], metrics["auroc_loss_hardest_kind"]
    if RUNTIMES[metrics["runtime"]].precision == "float32":
        checks = [
            (
                largest <= limits.max_abs_score_difference,
                f"scores differ from torch's by up to {largest:.2g}, the limit is {limits.max_abs_score_difference:g} "
                "(serving.parity.max_abs_score_difference)",
            )
        ]
    else:
        checks = [
            (
                mean <= limits.max_mean_abs_score_difference,
                f"scores differ from torch's by {mean:.2g} on average, the limit is "
                f"{limits.max_mean_abs_score_difference:g} (serving.parity.max_mean_abs_score_difference)",
            ),
            (
                agree >= limits.min_decisions_agree_frac,
                f"{agree:.2%} of the decisions agree with torch's, the limit is {limits.min_decisions_agree_frac:.2%} "
                "(serving.parity.min_decisions_agree_frac)",
            ),
            (
                loss <= limits.max_auroc_loss,
                f"AUROC on {metrics['hardest_kind']} is {loss:.4f} below torch's, the limit is "
                f"{limits.max_auroc_loss:g} (serving.parity.max_auroc_loss)",
            ),
        ]
    return [f"{metrics['runtime']}: {reason}" for holds, reason in checks if not holds]
