"""Annotated videos and stills of scored sources: each frame is decoded again, and drawn with its score."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cygnet.vision.annotate import FrameScore, annotated_frames
from cygnet.vision.clip import Clip
from cygnet.vision.codec import decode_map
from cygnet.vision.frame_squares import Square
from cygnet.vision.region import Area
from cygnet.vision.video import read_frames, read_samples

FRAMES_PER_S = (1.0, 120.0)
"""An annotated video plays in real time, within these bounds."""


@dataclass(frozen=True)
class Scored:
    """How the frames of a clip were scored."""

    interval_s: float | None  # seconds between scored frames; None: every frame
    threshold: float  # score from which a frame is anomalous, 0-1
    area: Area  # what of a frame was looked at


def annotated_clip(files: pd.DataFrame, scores: Iterable[dict[str, Any]], spacing_s: float, scored: Scored) -> Clip:
    """Annotate the scored frames of one source.

    Args:
        files: Its rows of the table of sources.
        scores: Its rows of `scores` that have a score, by frame index.
        spacing_s: Seconds between two scored frames.
        scored: How they were scored.
    """
    frames = annotated_frames(_scored_frames(files, scores, scored.interval_s), scored.threshold, scored.area)
    return Clip(frames, float(np.clip(1 / spacing_s, *FRAMES_PER_S)))


def annotated_stills(
    files: pd.DataFrame, scores: Iterable[dict[str, Any]], scored: Scored
) -> Iterator[tuple[int, np.ndarray]]:
    """Annotate single frames of one source.

    Args:
        files: Its rows of the table of sources.
        scores: Rows of `scores` of the frames.
        scored: `threshold` and `area`.

    Yields:
        The index and the picture, `(H, W, 3)` uint8 BGR, of each frame that still decodes.
    """
    by_index = {row["frame_index"]: frame_score(row) for row in scores}
    for file in files.to_dict("records"):
        for sample in read_frames({str(name): value for name, value in file.items()}, by_index):
            if sample.image is not None:
                frame = sample.image, by_index[sample.index]
                yield sample.index, next(annotated_frames([frame], scored.threshold, scored.area))


def _scored_frames(
    files: pd.DataFrame, scores: Iterable[dict[str, Any]], interval_s: float | None
) -> Iterator[tuple[np.ndarray, FrameScore]]:
    rows = ({str(name): value for name, value in row.items()} for row in files.to_dict("records"))
    samples = (sample for row in rows for sample in read_samples(row, interval_s))
    images = (sample.image for sample in samples if sample.image is not None)
    for image, score in zip(images, scores, strict=True):
        yield image, frame_score(score)


def frame_score(row: dict[str, Any]) -> FrameScore:
    """Give what is drawn of a row of `scores` that has a score."""
    square = Square(row["square_left_px"], row["square_top_px"], row["square_side_px"])
    anomaly_map = decode_map(bytes(row["anomaly_map"]))
    return FrameScore(row["timestamp_s"], row["anomaly_score"], row["is_anomalous"], square, anomaly_map)
