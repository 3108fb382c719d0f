"""The gate of a champion's successor, which has another calibration or subspace: AUROC counts, as for a new model.

A new calibration keeps the network, and `predictions` hold what that said of every test image. Their scores are
computed again with either calibration, which takes no endpoint and no image.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow.dataset as pad

from cygnet.endpoints.versions import ModelVersion
from cygnet.errors import UserError
from cygnet.model.serving.scorer import Calibration, scores_of
from cygnet.parameters.serving import Gate
from cygnet.reports import SuccessorVerdict

logger = logging.getLogger(__name__)

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
    from cygnet.model.evaluation.counted import counted_rows
    from cygnet.model.evaluation.evaluate import auroc

    rows = predictions.to_table(
        columns=["frame_id", "label", "kind", "classifier_margin", "normality_distance"],
        filter=pad.field("split") == "test",
    ).to_pandas()
    before, after = (
        auroc(counted_rows(rows.assign(anomaly_score=scores_of(rows, calibration)["anomaly_score"])))
        for calibration in (old, new)
    )
    if recorded_auroc is None or abs(before - recorded_auroc) > SAME_AUROC:
        return AurocComparison(None, None)
    return AurocComparison(before, after)


def judge(
    comparison: AurocComparison, champion: ModelVersion, gate: Gate, table: str, more_reasons: Sequence[str] = ()
) -> SuccessorVerdict:
    """Decide whether the successor may follow the champion.

    Args:
        comparison: Of the two.
        champion: The version that the successor comes from.
        gate: `mode`, `min_auroc`, `max_auroc_loss`.
        table: What they were compared on.
        more_reasons: What else speaks against the successor.
    """
    is_off = gate.mode == "off"
    reasons = [] if is_off else [*more_reasons, *_refusal_reasons(comparison, champion, gate, table)]
    return {
        "model": {"name": champion.name, "version": champion.version},
        "old_auroc": comparison.old,
        "auroc": comparison.new,
        "gate": gate.model_dump(include={"mode", "min_auroc", "max_auroc_loss"}),
        "passed": None if is_off else not reasons,
        "reasons": reasons,
        "decision": "refuse" if reasons and gate.mode == "enforce" else "promote",
    }


def check_verdict(verdict: SuccessorVerdict, part: str) -> None:
    """Warn if the successor is promoted against a reason.

    Args:
        verdict: What `judge` gave.
        part: What is new in the successor: `calibration` or `subspace`.

    Raises:
        UserError: It was refused, with the reasons.
    """
    model, reasons = verdict["model"], "; ".join(verdict["reasons"])
    if verdict["decision"] == "refuse":
        msg = f"{model['name']} version {model['version']} keeps its {part}: {reasons}."
        raise UserError(msg)
    if reasons:
        logger.warning("%s version %s gets a new %s, though %s.", model["name"], model["version"], part, reasons)


def _refusal_reasons(comparison: AurocComparison, champion: ModelVersion, gate: Gate, table: str) -> list[str]:
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
