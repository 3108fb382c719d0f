"""Chooses the test images that a report shows as hits, misses and false alarms, and draws them with their maps."""

from typing import Any, TypedDict

import pandas as pd
import pyarrow.dataset as pad

from cygnet.model.evaluation.counted import counted_rows
from cygnet.model.evaluation.gallery import rows_by_id
from cygnet.model.evaluation.plots import overlaid
from cygnet.report.pictures import jpeg_uri
from cygnet.tables import ABNORMAL, NORMAL
from cygnet.vision.annotate import outlined
from cygnet.vision.codec import decode_image, decode_map, decode_mask

MOST_EXAMPLES = 8
"""Of each group."""


class Example(TypedDict):
    """A test image."""

    image_id: str
    frame_id: str
    kind: str
    severity: float | None  # 0-1; None unless synthetic
    anomaly_score: float  # 0-1
    picture: str  # data URI: the image, under its map, and with its mask outlined if it has one


class Examples(TypedDict):
    """What the detector did on `test`; each group holds at most `MOST_EXAMPLES`."""

    hits: list[Example]  # of each kind the one with the middle score
    misses: list[Example]  # of each kind the one with the lowest score
    false_alarms: list[Example]  # the highest scores
    calm: list[Example]  # without a false alarm: the normal images with the highest scores


def choose_examples(predictions: pad.Dataset, training_set: pad.Dataset) -> Examples:
    """Choose by the scores; only the chosen rows are read with their pixels.

    Args:
        predictions: The table.
        training_set: The table, for images and masks.
    """
    rows = predictions.to_table(
        columns=["image_id", "frame_id", "label", "kind", "severity", "anomaly_score", "is_anomalous"],
        filter=pad.field("split") == "test",
    ).to_pandas()
    rows = counted_rows(rows).sort_values(["anomaly_score", "image_id"])
    abnormal, normal = rows[rows["label"] == ABNORMAL], rows[rows["label"] == NORMAL]
    found, missed = abnormal[abnormal["is_anomalous"]], abnormal[~abnormal["is_anomalous"]]
    alarms = normal[normal["is_anomalous"]]
    of_kind = found.groupby("kind")
    groups = {
        "hits": found[of_kind.cumcount() == of_kind["kind"].transform("size") // 2][::-1],
        "misses": missed.groupby("kind").head(1),
        "false_alarms": alarms[::-1],
        "calm": normal[::-1] if alarms.empty else normal.head(0),
    }
    shown = {name: group.head(MOST_EXAMPLES) for name, group in groups.items()}
    image_ids = pd.concat(shown.values())["image_id"]
    images = rows_by_id(training_set, image_ids, ["image", "mask"])
    maps = rows_by_id(predictions, image_ids, ["anomaly_map"])

    def example(row: dict[Any, Any]) -> Example:
        image_id = row["image_id"]
        return {
            "image_id": image_id,
            "frame_id": row["frame_id"],
            "kind": row["kind"],
            "severity": None if pd.isna(row["severity"]) else float(row["severity"]),
            "anomaly_score": float(row["anomaly_score"]),
            "picture": _picture(images[image_id]["image"], maps[image_id]["anomaly_map"], images[image_id]["mask"]),
        }

    examples = {name: [example(row) for row in group.to_dict("records")] for name, group in shown.items()}
    return Examples(**examples)  # type: ignore[typeddict-item]


def _picture(encoded: bytes, anomaly_map: bytes, mask: bytes | None) -> str:
    image = decode_image(encoded)
    panels = [image, overlaid(image, decode_map(anomaly_map))]
    return jpeg_uri(*panels, outlined(image, decode_mask(mask))) if mask else jpeg_uri(*panels)
