"""The gate of calibration: a new calibration must reach the AUROC that a new model must.

The network stays, and `predictions` hold what it said of every test image. Their scores are computed again with either
calibration, which takes no endpoint and no image.
"""

from dataclasses import dataclass

import pyarrow.dataset as pad

from cygnet.endpoints.versions import ModelVersion
from cygnet.model.serving.scorer import Calibration, scores_of
from cygnet.parameters.serving import Gate
from cygnet.tables import KIND_NULL

SAME_AUROC = 1e-6
"""A model's AUROC computed twice from the same rows differs by less."""


@dataclass(frozen=True)
class AurocComparison:
    """AUROC on the test rows of `predictions`, 0-1, with either calibration; None: the rows are another model's."""

    old: float | None
    new: float | None


def measure_auroc(
    predictions: pad.Dataset, recorded_auroc: float | None, old: Calibration, new: Calibration
) -> AurocComparison:
    """Measure two calibrations of the champion.

    Args:
        predictions: The table.
        recorded_auroc: What the champion records of itself on its test rows. Where the table gives another value, a
            later training has replaced it.
        old: The champion's own calibration.
        new: The one that may follow.
    """
    from cygnet.model.evaluation.evaluate import auroc

    rows = predictions.to_table(
        columns=["label", "classifier_margin", "normality_distance"],
        filter=(pad.field("split") == "test") & (pad.field("kind") != KIND_NULL),
    ).to_pandas()
    before, after = (
        auroc(rows.assign(anomaly_score=scores_of(rows, calibration)["anomaly_score"])) for calibration in (old, new)
    )
    if recorded_auroc is None or abs(before - recorded_auroc) > SAME_AUROC:
        return AurocComparison(None, None)
    return AurocComparison(before, after)


def refusal_reasons(
    comparison: AurocComparison, champion: ModelVersion, gate: Gate, table: str = "predictions"
) -> list[str]:
    """Name what speaks against a new calibration, or a new subspace; `table` is what they were compared on."""
    if comparison.old is None or comparison.new is None:
        return [
            f"the table '{table}' is not of version {champion.version}, so there is nothing to compare by "
            "(serving.gate.mode=off leaves that out)"
        ]
    reasons = []
    if comparison.new < gate.min_auroc:
        reasons.append(f"AUROC {comparison.new:.4f} is below {gate.min_auroc:g} (serving.gate.min_auroc)")
    if comparison.new < comparison.old - gate.max_auroc_loss:
        reasons.append(
            f"AUROC {comparison.new:.4f} is more than {gate.max_auroc_loss:g} (serving.gate.max_auroc_loss) below the "
            f"{comparison.old:.4f} of version {champion.version}, on the test rows of {table}"
        )
    return reasons
