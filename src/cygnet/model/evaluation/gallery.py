"""Chooses the images that the contact sheet, the anomaly maps and the suspicious frames show, and decodes them."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad
from matplotlib.figure import Figure

from cygnet.model.evaluation.counted import counted_rows
from cygnet.model.evaluation.plots import MapCell, SheetCell, draw_contact_sheet
from cygnet.model.training_set import read_keys, spread_evenly
from cygnet.reports import title_of
from cygnet.tables import ABNORMAL, KIND_NORMAL, NORMAL
from cygnet.vision.codec import decode_image, decode_map, decode_mask
from cygnet.vision.region import blank_outside

EXAMPLES_PER_CLASS = 12
HARDEST_PER_CLASS = 5
CALM_FRAMES = 3
"""Number of train frames that are shown if none is suspicious."""


def training_examples(training_set: pad.Dataset) -> list[SheetCell]:
    """Choose normal and then abnormal `train` images, evenly spread over their keys, each titled by frame and kind."""
    keys = read_keys(training_set, "train")
    chosen: list[str] = []
    for label in (NORMAL, ABNORMAL):
        image_ids = keys.loc[keys["label"] == label, "image_id"].to_numpy()
        positions = spread_evenly(len(image_ids), EXAMPLES_PER_CLASS)
        chosen += list(image_ids[positions])
    rows = rows_by_id(training_set, chosen, ["frame_id", "kind", "image", "mask"])
    return [(_sheet_title(rows[image_id]), *_decoded(rows[image_id])) for image_id in chosen]


def hardest_images(predictions: pad.Dataset, training_set: pad.Dataset) -> tuple[list[MapCell], list[MapCell]]:
    """Choose the normal `test` images with the highest scores and the abnormal ones with the lowest.

    Args:
        predictions: The table.
        training_set: The table, for the images and masks.

    Returns:
        The normal images, the highest score first; the abnormal ones, the lowest score first.
    """
    rows = predictions.to_table(
        columns=["image_id", "frame_id", "label", "kind", "anomaly_score", "is_anomalous", "severity", "anomaly_map"],
        filter=pad.field("split") == "test",
    ).to_pandas()
    rows = counted_rows(rows).sort_values(["anomaly_score", "image_id"])
    normal = rows[rows["label"] == NORMAL].tail(HARDEST_PER_CLASS)[::-1].to_dict("records")
    abnormal = rows[rows["label"] == ABNORMAL].head(HARDEST_PER_CLASS).to_dict("records")
    images = rows_by_id(training_set, [row["image_id"] for row in (*normal, *abnormal)], ["image", "mask"])

    def cell(row: dict[Any, Any]) -> MapCell:
        image, mask = _decoded(images[row["image_id"]])
        return _map_title(row), image, decode_map(row["anomaly_map"]), mask

    return [cell(row) for row in normal], [cell(row) for row in abnormal]


def distant_frames(
    frames: pd.DataFrame, maps: Mapping[str, np.ndarray], limit: float, train_frames: pad.Dataset
) -> list[MapCell]:
    """Choose the suspicious train frames that have a map, or if none is suspicious, the most distant frames.

    Args:
        frames: `image_id`, `distance`, the most distant frame first.
        maps: Squared distance of each patch, `(G, G)` float32, by `image_id`; of the most distant frames.
        limit: Distance above which a frame is suspicious; a patch at the limit is 0.5 in the map that is shown.
        train_frames: The table `images`.
    """
    suspicious = frames[frames["distance"] > limit]
    shown = (suspicious if len(suspicious) else frames.head(CALM_FRAMES)).head(len(maps))
    images = rows_by_id(train_frames, shown["image_id"], ["image", "area"])

    def cell(image_id: str, distance: float) -> MapCell:
        row, distances = images[image_id], maps[image_id]
        area = decode_mask(row["area"]) if row["area"] else None
        shown_map = blank_outside(distances / (distances + limit), area)
        return f"{image_id}: {distance:.3g}", decode_image(row["image"]), shown_map, None

    return [cell(*named) for named in shown[["image_id", "distance"]].to_numpy()]


def draw_rows(rows: pd.DataFrame, columns: int = 6) -> Figure:
    """Draw rows of any table of images in a grid, masks outlined, each titled by its key and its kind.

    Args:
        rows: `image`; of `image_id`, `frame_id`, `kind` and `mask` those that the table has.
        columns: Images per row.
    """
    return draw_contact_sheet([_cell(row) for row in rows.to_dict("records")], columns)


def _cell(row: dict[Any, Any]) -> SheetCell:
    title = str(row.get("image_id", row.get("frame_id")))
    kind = row.get("kind", KIND_NORMAL)
    mask = row.get("mask")
    is_named = kind == KIND_NORMAL or f"/{kind}-" in title
    shown = title if is_named else f"{title} {title_of(kind)}"
    return shown, decode_image(row["image"]), decode_mask(mask) if mask else None


def rows_by_id(table: pad.Dataset, image_ids: Iterable[str], columns: list[str]) -> dict[str, dict[str, Any]]:
    """Read some columns of the rows with these `image_id`s, and no other row: a row as a dict, by `image_id`."""
    chosen = pa.array(image_ids, pa.string())  # of no names Arrow would not know the type
    rows = table.to_table(columns=["image_id", *columns], filter=pad.field("image_id").isin(chosen))
    return {row["image_id"]: row for row in rows.to_pylist()}


def _decoded(row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray | None]:
    return decode_image(row["image"]), decode_mask(row["mask"]) if row["mask"] else None


def _sheet_title(row: dict[str, Any]) -> str:
    return str(row["frame_id"]) if row["kind"] == KIND_NORMAL else f"{row['frame_id']} {title_of(row['kind'])}"


def _map_title(row: dict[Any, Any]) -> str:
    """Name kind, severity and score of an image, and the mistake if the decision is wrong."""
    is_normal = row["label"] == NORMAL
    severity = "" if pd.isna(row["severity"]) else f", severity {row['severity']:.2f}"
    mistake = ", false alarm" if is_normal else ", missed"
    scored = f"{row['anomaly_score']:.3f}{mistake if row['is_anomalous'] == is_normal else ''}"
    return f"{title_of(row['kind'])}{severity}: {scored}"
