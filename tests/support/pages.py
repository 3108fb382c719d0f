"""Small runs for the pages to show, and what a page then holds."""

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad

from cygnet.endpoints.versions import ModelVersion
from cygnet.model.evaluation.events import EVENT_COLUMNS, SPAN_COLUMNS
from cygnet.model.scoring.summary import count_frames
from cygnet.reports import ScoringReport
from cygnet.tables import ABNORMAL, NORMAL, PREDICTIONS, SUSPICIOUS_FRAMES_COLUMNS, TRAINING_SET
from support.reports import assert_conforms
from support.toys import toy_predictions, toy_row

HOSTILE = '<script>alert("x")</script>'
SCORES = toy_predictions([0.1, 0.2, 0.3, 0.6, 0.7], [0.3, 0.4, 0.7, 0.8, 0.9])
SCORES["kind"] = SCORES["kind"].where(SCORES.index != 9, "scar")
PASSED = {
    "model": {"name": "pond", "version": "7"},
    "requests": 1024,
    "retries": 3,
    "request_bytes": {"mean": 165219.2, "max": 168864},
    "latency_ms": {"p50": 17.16, "p95": 2129.21},
    "normal": {"mean": 0.38, "std": 0.2, "min": 0.1, "max": 0.7, "p99": 0.6961},
    "abnormal": {"mean": 0.62, "std": 0.2, "min": 0.3, "max": 0.9},
    "false_alarm_frac": 0.4,
    "auroc": 0.78,
    "champion": {"version": "3", "auroc": 0.7512},
    "max_abs_score_difference": 5.96e-08,
    "parity": None,
    "gate": {
        **{"mode": "enforce", "min_auroc": 0.5, "max_normal_p99": 0.99, "max_false_alarm_frac": 0.45},
        **{"max_auroc_loss": 0.1, "max_abs_score_difference": 0.001},
    },
    "passed": True,
    "reasons": [],
    "decision": "promote",
}
REASONS = ["AUROC 0.78 is below 0.9 (serving.gate.min_auroc)", HOSTILE]
UNASKED = {
    **dict.fromkeys(("request_bytes", "latency_ms", "normal", "abnormal", "false_alarm_frac", "auroc")),
    **{"requests": 0, "retries": 0, "champion": None, "max_abs_score_difference": None},
    **{"passed": False, "decision": "refuse", "reasons": ["the endpoint did not start"]},
}


class StoredVersion(ModelVersion):
    """A version with what training stores."""

    made_at = "2026-11-30 08:29"
    metadata = {  # noqa: RUF012
        "checkpoint": "dinov2-small",
        "input": "a whole frame",
        "runtime": "onnx",
        "parity": {"runtime": "onnx", "rows": 80, "max_abs_score_difference": 2.13e-05, "decisions_agree_frac": 0.9875},
        "versions": {"python": "3.11.9", "torch": "2.13.0"},
        "made_with": {"scene.view": "tiles", "scene.region": None},
    }


CHALLENGER = StoredVersion("pond", "7")


def dataset(rows: list[dict[str, Any]], schema: pa.Schema) -> pad.Dataset:
    return pad.dataset(pa.Table.from_pylist(rows, schema=schema))


def predictions_of(scores: pd.DataFrame) -> pad.Dataset:
    return pad.dataset(pa.Table.from_pandas(scores[PREDICTIONS.names], schema=PREDICTIONS, preserve_index=False))


def images_of(scores: pd.DataFrame) -> pad.Dataset:
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 255
    rows = [
        toy_row(row.image_id, row.label, "test", kind=row.kind, mask=mask if row.label == ABNORMAL else None)
        for row in scores.itertuples()
    ]
    return dataset(rows, TRAINING_SET)


def image(image_id: str, split: str, label: int = NORMAL, label_source: str = "default") -> dict[str, Any]:
    frame_id = image_id.partition("/tile-")[0]
    keys = {"image_id": image_id, "frame_id": frame_id, "tile": 0, "tiles": 1}
    return {**keys, "split": split, "label": label, "label_source": label_source, "image": b"never decoded"}


IMAGES_ROWS = [
    *(image(f"pond/{index:06d}/tile-{tile}", "train") for index in range(3) for tile in range(2)),
    image("pond/000007", "test"),
    image("pond/000008", "test", ABNORMAL, "human"),
    image(f"{HOSTILE}/000001", "validation"),
]
NO_SUSPECTS = pd.DataFrame(columns=SUSPICIOUS_FRAMES_COLUMNS)
REJECTS = pd.DataFrame({"reason": ["gap", HOSTILE, "gap"], "count": [7, 2, 4]})


HOSTILE_SOURCE = '</script><script>alert("x")</script>'
THRESHOLD = 0.6
LABELS = {
    **{"spans": 2, "found": 1, "event_recall": 0.5, "delay_s": {"median": 0.07, "max": 0.07}, "false_alarms": 1},
    **{"normal_hours": 0.01, "false_alarms_per_hour": 98.76, "normal_in_events_frac": 0.123, "unused_labels": 0},
}
NO_EVENTS = pd.DataFrame(columns=EVENT_COLUMNS)
NO_SPANS = pd.DataFrame(columns=SPAN_COLUMNS)


def scores_of(**sources: list[float]) -> pd.DataFrame:
    """Frames a tenth of a second apart."""
    parts = [
        pd.DataFrame({"source": name, "frame_index": range(len(scores)), "anomaly_score": np.array(scores, np.float32)})
        for name, scores in sources.items()
    ]
    rows = pd.concat(parts, ignore_index=True)
    return rows.assign(timestamp_s=rows["frame_index"] / 10, is_anomalous=rows["anomaly_score"] >= THRESHOLD)


def report_of(scores: pd.DataFrame, events: pd.DataFrame, labels: dict[str, Any] | None = None) -> ScoringReport:
    failures = pd.DataFrame([("pond", HOSTILE_SOURCE, 3)], columns=["source", "reason", "count"])
    report = {
        **{"model": {"name": "swan", "version": "4"}, "threshold": THRESHOLD, "crop": "tiles", "interval_s": None},
        **count_frames(scores, failures, events),
        **{"frames_of_runs_before": 0, "seconds": 9.0, "frames_per_s": 12.34, "labels": labels},
    }
    assert_conforms(report, ScoringReport)
    return report


SCORED = scores_of(pond=[0.1, 0.7, 0.9, 0.2, 0.65, 0.1], **{HOSTILE_SOURCE: [0.2, 0.3, 0.1]})
EVENTS = pd.DataFrame([("pond", 0.1, 0.3, 0.9, 2), ("pond", 0.4, 0.5, 0.65, 4)], columns=EVENT_COLUMNS)
SPANS = pd.DataFrame([("pond", 0.1, 0.25)], columns=SPAN_COLUMNS)


class Page(HTMLParser):
    """What a page holds: its text, its numbers, its tags with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.numbers, self.tags = "", [], []
        self._open: dict[str, str] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag; the text of a number follows it."""
        found: dict[str, Any] = dict(attrs)
        self.tags.append((tag, found))
        if tag == "data":
            self.numbers.append({**found, "text": ""})
            self._open = self.numbers[-1]

    def handle_endtag(self, tag: str) -> None:
        """End a number."""
        if tag == "data":
            self._open = None

    def handle_data(self, data: str) -> None:
        """Note the text."""
        self.text += data
        if self._open is not None:
            self._open["text"] += data

    def named(self, tag: str) -> list[dict[str, Any]]:
        """The attributes of each tag of a name."""
        return [attributes for name, attributes in self.tags if name == tag]

    def addresses(self) -> list[str]:
        """What the page refers to."""
        return [
            each[key] for _, each in self.tags for key in ("src", "href", "action", "data", "srcset") if key in each
        ]


def is_rounded(text: str, value: float) -> bool:
    """Whether a text shows a value, rounded to the digits that it has; as a share, in a unit or in thousands."""
    figure, _, unit = text.replace(",", "").replace("\xa0", " ").partition(" ")
    shown = value * {"%": 100, "kB": 1e-3}.get(unit.strip(), 1)
    mantissa, _, exponent = figure.partition("e")
    digits = len(mantissa.partition(".")[2])
    return abs(float(figure) - shown) <= 0.5000001 * 10.0 ** (int(exponent or 0) - digits)
