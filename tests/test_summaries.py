"""What the summaries promise: each entry that has one names a function, and a refusal says why."""

import inspect
from typing import Any

import pandas as pd
import pytest
import yaml

from cygnet import summaries
from cygnet.endpoints.versions import ModelVersion
from support.runs import PROJECT

MODEL = {"name": "swan", "version": "3"}
SERVED = {"model": MODEL, "false_alarm_frac": 0.0169, "reasons": [], "passed": True, "decision": "promote"}
REFUSED = {"model": MODEL, "decision": "refuse", "reasons": ["AUROC is low", "so is recall"]}
SCORED = {"model": MODEL, "frames": 1604, "anomalous_frames": 31, "failed_frames": {"cut off": 2}, "labels": None}
EVALUATED = {
    "auroc": 0.8992,
    "recall": 0.717,
    "recall_at_fpr_1pct": None,
    "counts": {"normal": 118, "abnormal": 531},
    "intervals": {"auroc": {"low": 0.8875, "high": 0.9106}},
}
CALIBRATED = {
    "model": MODEL,
    "decision": "promote",
    "new_threshold": 0.91,
    "old_threshold": 0.9,
    "anomalous_frac": 0.001,
    "old_anomalous_frac": 0.021,
    "threshold_frames": 2000,
    "alarms": 1,
    "threshold_hours": 0.5555,
}
ADAPTED = {"model": MODEL, "decision": "promote", "axes": 34, "old_anomalous_frac": 0.9, "anomalous_frac": 0.13}
LABELLED = {
    "model": "gpt-eye",
    "labels": {"abnormal": 3, "normal": 117},
    "review_frames": 5,
    "failed_frames": {"a": 1, "b": 1},
    "agreement": None,
}


WATCHED = {
    "model": MODEL,
    "source": "yard",
    "frames": 1604,
    "frames_left_out": 30,
    "failed_frames": {"cut off": 2},
    "events": 3,
    "alerts": {"sent": 2, "waiting": 1, "refused": 0},
}


def test_the_catalog_names_every_summary() -> None:
    catalog = yaml.safe_load((PROJECT / "conf/base/catalog.yml").read_text())
    metadata = [entry.get("metadata", {}) for entry in catalog.values()]
    named = [entry[key] for entry in metadata for key in ("summary", "warning") if key in entry]
    functions = dict(inspect.getmembers(summaries, inspect.isfunction))
    written = [name for name, each in functions.items() if each.__module__ == summaries.__name__ and name[0] != "_"]
    assert sorted(named) == [f"cygnet.summaries.{name}" for name in sorted(written)]


@pytest.mark.parametrize(
    ("name", "report", "said"),
    [
        ("champion", ModelVersion("swan", "3"), "swan version 3 is the champion."),
        (
            "serving_report",
            SERVED,
            "swan version 3 passed the gate; it calls 1.7 % of the normal test images anomalous.",
        ),
        ("serving_report", {**SERVED, "passed": None}, "swan version 3 is promoted without a gate; it calls "),
        ("serving_report", {**SERVED, "passed": False}, "swan version 3 is promoted despite the gate; it calls "),
        (
            "serving_report",
            {**REFUSED, "false_alarm_frac": None},
            "swan version 3 is refused: AUROC is low; so is recall.",
        ),
        (
            "evaluation",
            EVALUATED,
            "AUROC 0.899 (0.887-0.911) on 118 normal and 531 abnormal test images; recall 0.72 at its threshold.",
        ),
        ("evaluation", {**EVALUATED, "recall_at_fpr_1pct": 0.65}, "; recall 0.65 at 1 % false alarms."),
        (
            "scoring_report",
            SCORED,
            "1,604 frames scored with swan version 3, 31 of them anomalous; 2 without a score.",
        ),
        (
            "scoring_report",
            {**SCORED, "labels": {"found": 2, "spans": 3, "false_alarms": 1}},
            "without a score. 2 of 3 labelled spans found, 1 false alarms.",
        ),
        ("calibration_report", REFUSED, "swan version 3 keeps its threshold: AUROC is low; so is recall."),
        (
            "calibration_report",
            CALIBRATED,
            "Threshold 0.9100 (was 0.9000): 0.1 % of 2,000 normal frames are anomalous (were 2.1 %), 1 alarms in 33 "
            "min.",
        ),
        ("adaptation_report", REFUSED, "swan version 3 keeps its subspace: AUROC is low; so is recall."),
        (
            "adaptation_report",
            ADAPTED,
            "34 axes added to the normal subspace: 13.0 % of the other frames are anomalous (were 90.0 %).",
        ),
        (
            "adaptation_report",
            {**ADAPTED, "old_anomalous_frac": None, "anomalous_frac": None},
            "34 axes added to the normal subspace.",
        ),
        (
            "labelling_report",
            LABELLED,
            "gpt-eye labels 3 frames abnormal and 117 normal; 5 need a person, 2 failed.",
        ),
        (
            "labelling_report",
            {**LABELLED, "agreement": {"agree_frac": 0.955, "frames": 44}},
            "2 failed. It agrees with people on 95.5 % of 44.",
        ),
        (
            "pretraining_report",
            {"held_out": {"auroc": 0.888}, "swan": {"auroc": 0.95}},
            "AUROC 0.888 on scenes of unseen textures, 0.950 on the sample video.",
        ),
        (
            "watch_report",
            WATCHED,
            "1,604 frames of yard scored with swan version 3, 30 left out to keep up, 2 without a score; 3 events, "
            "2 alerts sent, 1 waiting, 0 refused.",
        ),
        (
            "watch_report",
            {**WATCHED, "frames": 1, "events": 1, "alerts": {"sent": 1, "waiting": 0, "refused": 0}},
            "1 frame of yard scored with swan version 3, 30 left out to keep up, 2 without a score; 1 event, "
            "1 alert sent, 0 waiting, 0 refused.",
        ),
    ],
)
def test_a_result_is_summed_up_in_a_line(name: str, report: Any, said: str) -> None:
    summary = getattr(summaries, name)(report)
    assert said in summary
    assert "\n" not in summary


@pytest.mark.parametrize(("promised", "kept"), [(0.05, False), (0.05, True), (None, None)])
def test_a_broken_promise_is_a_warning_and_a_kept_one_is_not(promised: float | None, kept: bool | None) -> None:
    rule = {"rule": "target_fpr", "promised_fpr": promised, "false_alarm_frames": 8, "is_kept": kept}
    report: Any = {"counts": {"normal_frames": 33}, "threshold_rule": rule}
    warning = summaries.broken_promise(report)
    assert (warning is None) == (kept is not False)
    if warning:
        assert warning.startswith(
            "8 of 33 normal test frames are called anomalous, though the threshold promises at most 5.0 %"
        )


def test_rejects_are_counted_by_reason_the_most_frequent_first() -> None:
    rows = pd.DataFrame({"reason": ["cut off", "in the gap", "cut off"], "count": [1, 7, 1]})
    assert summaries.rejects(rows) == "Set aside: 7 in the gap; 2 cut off."
    assert summaries.rejects(rows.head(0)) == "Set aside: nothing."


def test_the_first_events_are_named() -> None:
    rows = pd.DataFrame({"source": "swan", "start_s": range(7), "end_s": 9.25, "peak_score": 0.991})
    assert summaries.events(rows).startswith("7 events: swan 0.0-9.2 s (peak 0.99); swan 1.0-9.2 s")
    assert summaries.events(rows).endswith("; 2 more.")
    assert summaries.events(rows.head(1)).startswith("1 event: swan 0.0-9.2 s")
    assert summaries.events(rows.head(0)) == "No events."
