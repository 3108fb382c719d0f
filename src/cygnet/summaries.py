"""What a run says at its end: for each kind of result one line, which the catalog names in the metadata of the entry.

A summary takes what was saved. `cygnet.hooks` prints those of a run, the last result first: that is the verdict. An
entry may name a warning too, which is None where all is well.
"""

from typing import TYPE_CHECKING

from cygnet import progress
from cygnet.errors import counted
from cygnet.reports import (
    AdaptationReport,
    CalibrationReport,
    EvaluationReport,
    LabellingReport,
    Model,
    PretrainingReport,
    ScoringReport,
    ServingReport,
    WatchReport,
)

if TYPE_CHECKING:
    import pandas as pd

    from cygnet.endpoints.versions import ModelVersion

MOST_EVENTS = 5


def champion(version: "ModelVersion") -> str:
    """Say which version is the champion now."""
    return f"{version.name} version {version.version} is the champion."


def rejects(rows: "pd.DataFrame") -> str:
    """Say how much ingestion set aside, and why."""
    counts = rows.groupby("reason")["count"].sum().sort_values(ascending=False)
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in counts.items())
    return f"Set aside: {reasons or 'nothing'}."


def evaluation(report: EvaluationReport) -> str:
    """Say how well anomalies are found."""
    counts, interval = report["counts"], report["intervals"]["auroc"]
    at_1pct = report["recall_at_fpr_1pct"]
    recall = f"{report['recall']:.2f} at its threshold" if at_1pct is None else f"{at_1pct:.2f} at 1 % false alarms"
    return (
        f"AUROC {report['auroc']:.3f} ({interval['low']:.3f}-{interval['high']:.3f}) on {counts['normal']} normal and "
        f"{counts['abnormal']} abnormal test images; recall {recall}."
    )


def broken_promise(report: EvaluationReport) -> str | None:
    """Warn if there are more false alarms on test than the threshold promises."""
    rule, frames = report["threshold_rule"], report["counts"]["normal_frames"]
    if rule["promised_fpr"] is None or rule["is_kept"]:
        return None
    return (
        f"{rule['false_alarm_frames']} of {frames} normal test frames are called anomalous, though the threshold "
        f"promises at most {_percent(rule['promised_fpr'])}: the test split is unlike the others, or train frames are "
        "contaminated, see suspicious_frames.png."
    )


def serving_report(report: ServingReport) -> str:
    """Say whether the challenger passed the gate."""
    alarms = report["false_alarm_frac"]
    figures = "" if alarms is None else f"; it calls {_percent(alarms)} of the normal test images anomalous"
    if report["decision"] == "refuse":
        return f"{_name(report['model'])} is refused{figures}: {'; '.join(report['reasons'])}."
    passed = {True: "passed the gate", False: "is promoted despite the gate", None: "is promoted without a gate"}
    return f"{_name(report['model'])} {passed[report['passed']]}{figures}."


def scoring_report(report: ScoringReport) -> str:
    """Say what was scored, and how the events agree with labels."""
    labels, failed = report["labels"], sum(report["failed_frames"].values())
    found = ""
    if labels:
        found = f" {labels['found']} of {labels['spans']} labelled spans found, {labels['false_alarms']} false alarms."
    return (
        f"{report['frames']:,} frames scored with {_name(report['model'])}, {report['anomalous_frames']:,} of them "
        f"anomalous; {failed:,} without a score.{found}"
    )


def events(rows: "pd.DataFrame") -> str:
    """Name the first events."""
    named = [
        f"{row.source} {row.start_s:.1f}-{row.end_s:.1f} s (peak {row.peak_score:.2f})"
        for row in rows.head(MOST_EVENTS).itertuples()
    ]
    more = [f"{len(rows) - MOST_EVENTS} more"] if len(rows) > MOST_EVENTS else []
    return f"{counted(len(rows), 'event')}: {'; '.join(named + more)}." if named else "No events."


def watch_report(report: WatchReport) -> str:
    """Say what was seen, and what became of the alerts."""
    alerts, failed = report["alerts"], sum(report["failed_frames"].values())
    return (
        f"{counted(report['frames'], 'frame')} of {report['source']} scored with {_name(report['model'])}, "
        f"{report['frames_left_out']:,} left out to keep up, {failed:,} without a score; "
        f"{counted(report['events'], 'event')}, {counted(alerts['sent'], 'alert')} sent, "
        f"{alerts['waiting']} waiting, {alerts['refused']} refused."
    )


def calibration_report(report: CalibrationReport) -> str:
    """Say what the threshold is now, or why it stays."""
    if report["decision"] == "refuse":
        return f"{_name(report['model'])} keeps its threshold: {'; '.join(report['reasons'])}."
    now, before = _percent(report["anomalous_frac"]), _percent(report["old_anomalous_frac"])
    return (
        f"Threshold {report['new_threshold']:.4f} (was {report['old_threshold']:.4f}): {now} of "
        f"{report['threshold_frames']:,} normal frames are anomalous (were {before}), {report['alarms']} alarms in "
        f"{progress.spell(3600 * report['threshold_hours'])}."
    )


def adaptation_report(report: AdaptationReport) -> str:
    """Say what the new axes changed, or why nothing changes."""
    if report["decision"] == "refuse":
        return f"{_name(report['model'])} keeps its subspace: {'; '.join(report['reasons'])}."
    before, now, changed = report["old_anomalous_frac"], report["anomalous_frac"], ""
    if before is not None and now is not None:
        changed = f": {_percent(now)} of the other frames are anomalous (were {_percent(before)})"
    return f"{report['axes']} axes added to the normal subspace{changed}."


def labelling_report(report: LabellingReport) -> str:
    """Say how many labels there are, and how far they can be trusted."""
    labels, agreement = report["labels"], report["agreement"]
    agrees = (
        f" It agrees with people on {_percent(agreement['agree_frac'])} of {agreement['frames']}." if agreement else ""
    )
    return (
        f"{report['model']} labels {labels['abnormal']} frames abnormal and {labels['normal']} normal; "
        f"{report['review_frames']} need a person, {sum(report['failed_frames'].values())} failed.{agrees}"
    )


def pretraining_report(report: PretrainingReport) -> str:
    """Say what the checkpoint is worth."""
    return (
        f"AUROC {report['held_out']['auroc']:.3f} on scenes of unseen textures, {report['swan']['auroc']:.3f} on the "
        "sample video."
    )


def _name(model: Model) -> str:
    return f"{model['name']} version {model['version']}"


def _percent(frac: float) -> str:
    return f"{100 * frac:.1f} %"
