"""Frames, scores and labels to show on the page, in the tables of a small catalog."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from kedro_datasets.json import JSONDataset

from cygnet.datasets.labels import LabelsDataset
from cygnet.datasets.table import TableDataset
from cygnet.tables import FRAMES, IMAGES, SCORES, frame_id_of
from cygnet.vision.codec import encode_jpeg, encode_map

WIDTH_PX, HEIGHT_PX = 96, 64
THRESHOLD = 0.5


def frame_rows(counts: dict[str, int]) -> pd.DataFrame:
    """Give rows of `frames`: each fourth frame of a video; the grey level of a picture is twice its row."""
    rows = [
        (frame_id_of(source, 4 * number), source, 4 * number, number / 4, WIDTH_PX, HEIGHT_PX)
        for source, count in counts.items()
        for number in range(count)
    ]
    table = pd.DataFrame(rows, columns=[name for name in FRAMES.names if name not in {"image", "reason"}])
    picture = [encode_jpeg(np.full((HEIGHT_PX, WIDTH_PX, 3), 2 * (row % 128), np.uint8), 90) for row in range(128)]
    return table.assign(image=[picture[row % 128] for row in range(len(table))], reason=None)


def score_rows(frames: pd.DataFrame, scores: np.ndarray) -> pd.DataFrame:
    """Give rows of `scores` for frames, with a map that is 1 in its upper left quarter."""
    anomaly_map = np.zeros((4, 4), np.float32)
    anomaly_map[:2, :2] = 1
    logits = np.log(scores / (1 - scores))
    values = {
        "media": "video",
        "logit_abnormal": logits,
        "logit_normal": 0.0,
        "anomaly_score": scores,
        "is_anomalous": scores >= THRESHOLD,
        "square_left_px": 32,
        "square_top_px": 0,
        "square_side_px": 64,
        "anomaly_map": encode_map(anomaly_map),
    }
    return frames.drop(columns="image").assign(**values).reindex(columns=SCORES.names)


def image_rows(frames: pd.DataFrame) -> pd.DataFrame:
    """Give rows of `images` for frames that are images of a folder: they have no time."""
    values = {"image_id": frames["frame_id"], "tile": 0, "tiles": 1, "split": "train", "label": 1}
    return frames.assign(**values, label_source="default", timestamp_s=None).reindex(columns=IMAGES.names)


def make_catalog(
    folder: Path, counts: dict[str, int], scores: np.ndarray | None = None, labels: str | None = None
) -> dict[str, Any]:
    """Make tables of some frames of each source, scores of all with their report, and `labels.csv` with a content."""
    csv = folder / "labels.csv"
    if labels is not None:
        csv.write_text(labels)
    entries: dict[str, Any] = {
        name: TableDataset(filepath=str(folder / name), table=name) for name in ("frames", "images", "scores")
    }
    entries["scoring_report"] = JSONDataset(filepath=str(folder / "scoring_report.json"))
    entries["labels"] = LabelsDataset(filepath=csv, default={"filepath": str(csv)})
    frames = frame_rows(counts)
    entries["frames"].save(frames)
    if scores is not None:
        entries["scores"].save(score_rows(frames, scores))
        entries["scoring_report"].save({"threshold": THRESHOLD})
    return entries
