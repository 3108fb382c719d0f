"""Whether the runtime that is served says what torch in float32 says, on the same bytes of every test image.

In float32 every score must be the same but for rounding. Fewer bits move scores, so that what counts is whether they
still decide the same and still find the hardest kind of anomaly; each side then has a calibration of its own.
"""

from typing import Any

import numpy as np
import pandas as pd

from cygnet.model.evaluation.evaluate import auroc
from cygnet.model.serving.runtimes import RUNTIMES
from cygnet.parameters.serving import Parity, RuntimeName
from cygnet.tables import ABNORMAL, KIND_NULL, NORMAL


def compare_runtimes(
    of_torch: pd.DataFrame, of_runtime: pd.DataFrame, name: RuntimeName, limits: Parity
) -> dict[str, Any]:
    """Compare the scores of two runtimes on `test`.

    Args:
        of_torch: Columns of `predictions`, by torch in float32.
        of_runtime: The same of the runtime that is served.
        name: Which that is.
        limits: What must hold for it.

    Returns:
        The content of `parity.json`: `passed` says whether the model may be promoted, `reasons` why not.
    """
    columns = ["image_id", "anomaly_score", "is_anomalous"]
    both = of_torch.merge(of_runtime[columns], on="image_id", how="outer", suffixes=("", "_served"), validate="1:1")
    difference = (both["anomaly_score"] - both["anomaly_score_served"]).abs().to_numpy(np.float64)
    kind, loss = _loss_on_hardest_kind(both)
    figures = {
        "runtime": name,
        "rows": len(both),
        "max_abs_score_difference": float(difference.max()),
        "mean_abs_score_difference": float(difference.mean()),
        "decisions_agree_frac": float((both["is_anomalous"] == both["is_anomalous_served"]).mean()),
        "hardest_kind": kind,
        "auroc_loss_hardest_kind": loss,
    }
    reasons = _missed(figures, limits)
    return {**figures, "passed": not reasons, "reasons": reasons}


def _loss_on_hardest_kind(both: pd.DataFrame) -> tuple[str, float]:
    """Find the kind with torch's lowest AUROC, and how much lower the served runtime's is."""
    normal = both[both["label"] == NORMAL]
    anomalies = both[(both["label"] == ABNORMAL) & (both["kind"] != KIND_NULL)]
    of_kind = {str(kind): pd.concat([normal, rows]) for kind, rows in anomalies.groupby("kind")}
    of_torch = {kind: auroc(rows) for kind, rows in of_kind.items()}
    hardest = min(of_torch, key=lambda kind: of_torch[kind])
    served = of_kind[hardest].assign(anomaly_score=of_kind[hardest]["anomaly_score_served"])
    return hardest, of_torch[hardest] - auroc(served)


def _missed(figures: dict[str, Any], limits: Parity) -> list[str]:
    """Name every limit that is missed; a figure that is no number misses it too."""
    key = "serving.parity"
    most, mean = figures["max_abs_score_difference"], figures["mean_abs_score_difference"]
    if RUNTIMES[figures["runtime"]].precision == "float32":
        checks = [
            (
                most <= limits.max_abs_score_difference,
                f"scores differ from torch's by up to {most:.2g}, allowed are {limits.max_abs_score_difference:g} "
                f"({key}.max_abs_score_difference)",
            )
        ]
    else:
        agree, loss = figures["decisions_agree_frac"], figures["auroc_loss_hardest_kind"]
        checks = [
            (
                mean <= limits.max_mean_abs_score_difference,
                f"scores differ from torch's by {mean:.2g} in the mean, allowed are "
                f"{limits.max_mean_abs_score_difference:g} ({key}.max_mean_abs_score_difference)",
            ),
            (
                agree >= limits.min_decisions_agree_frac,
                f"{agree:.2%} of the decisions agree with torch's, needed are {limits.min_decisions_agree_frac:.2%} "
                f"({key}.min_decisions_agree_frac)",
            ),
            (
                loss <= limits.max_auroc_loss,
                f"AUROC on {figures['hardest_kind']} is {loss:.4f} below torch's, allowed are "
                f"{limits.max_auroc_loss:g} ({key}.max_auroc_loss)",
            ),
        ]
    return [f"{figures['runtime']}: {reason}" for holds, reason in checks if not holds]
