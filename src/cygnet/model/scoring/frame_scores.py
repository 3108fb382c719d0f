"""Scoring the frames of videos and images in Spark's workers.

An item is a video, or up to `PART_ROWS` images of a folder, and one Spark row. A video is not divided among workers:
what a container says about its frames can't be trusted, so the index of a frame is known only by decoding all frames
before it. Within a video one thread decodes and cuts while another runs the detector, which has all cores that Spark
does not use otherwise.

A frame goes the way of an image of `training_set`: encoded as part of its frame, cropped, and encoded as often as that
table's images were. So it gets the score that it has in `predictions`.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cygnet.model.network.threads import bound_threads
from cygnet.model.scoring.score_parts import PART_ROWS, ScoreParts, digest
from cygnet.model.serving.scorer import Scorer, scores_of
from cygnet.parameters.scoring import Crop
from cygnet.storage import folder_on_disk, state_of
from cygnet.vision.codec import decode_image, encode_jpeg, encode_map
from cygnet.vision.squares import Square, cut_square, squares_of
from cygnet.vision.video import Sample, expected_samples, read_samples

BATCH_IMAGES = 32
"""Of 196,608 bytes each: what waits between the two threads is bounded by this, however large the frames are."""

SCORED_ITEMS = pa.schema([pa.field("key", pa.string()), pa.field("rows", pa.int64())])
"""What a worker answers for an item; the scores themselves are in its parts."""

Row = dict[str, Any]


@dataclass(frozen=True)
class FrameScoring:
    """How frames are read and scored: the same for all items of a run."""

    parts_folder: str
    scorer_folder: str
    crop: Crop
    interval_s: float | None  # between scored frames of a video; None: every frame
    image_interval_s: float  # between two images of a folder
    frame_jpeg_quality: int
    image_jpeg_qualities: tuple[int, ...]  # of the encodings of a cropped image, one after the other

    def interval_of(self, media: str) -> float | None:
        """Give the interval of `video` or `image`."""
        return self.interval_s if media == "video" else self.image_interval_s


@dataclass(frozen=True)
class SeenFrame:
    """A frame as the detector sees it: a 256x256 image of each of its squares; none, if it did not decode."""

    index: int
    timestamp_s: float
    height: int = 0
    width: int = 0
    squares: list[Square] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)  # (256, 256, 3) uint8 BGR
    reason: str | None = None


def list_items(sources: pd.DataFrame, scoring: FrameScoring) -> pd.DataFrame:
    """Divide the sources into items, the largest first, so that the last task to end is a small one.

    Args:
        sources: The table of sources: a row per file, the images of a folder in their order.
        scoring: How they will be scored.

    Returns:
        `key` (names files with size and time of change, scorer and settings: what the scores depend on), `source`,
        `media`, `paths`, `first_index` (of the first file), `expected_frames` (about), `size_bytes`.
    """
    items = []
    for source, files in sources.groupby("source", sort=False):
        media = files["media"].iloc[0]
        for start in range(0, len(files), PART_ROWS):
            group = files.iloc[start : start + PART_ROWS]
            paths = [str(path) for path in group["path"]]
            states = [(path, *state_of(path)) for path in paths]
            is_video = media == "video"
            frames = expected_samples(paths[0], scoring.interval_s) if is_video else len(paths)
            items.append(
                {
                    "key": digest([source, states, asdict(scoring)]),
                    "source": source,
                    "media": media,
                    "paths": paths,
                    "first_index": int(group["file_index"].iloc[0]),
                    "expected_frames": frames,
                    "size_bytes": sum(size_bytes for _, size_bytes, _ in states),
                }
            )
    return pd.DataFrame(items).sort_values("size_bytes", ascending=False, kind="stable", ignore_index=True)


def score_item(item: Row, scoring: FrameScoring, tasks: int) -> Iterator[Row]:
    """Score an item, from where a run before this one stopped, into its parts.

    Args:
        item: `key`, `source`, `media`, `paths`, `first_index`.
        scoring: How it is scored.
        tasks: How many items may be scored at once, on all machines together.

    Yields:
        One row of `SCORED_ITEMS`.
    """
    bound_threads(tasks)
    scorer = _load_scorer(scoring.scorer_folder)
    parts = ScoreParts(scoring.parts_folder).item(item["key"])
    rows: list[Row] = []
    with ThreadPoolExecutor(1, "decode") as decoder:
        for batch in _ahead(_batches(_see_frames(item, scoring, scorer, parts.next_index())), decoder):
            for row in score_batch(batch, scorer):
                frame_id = f"{item['source']}/{row['frame_index']:06d}"
                rows.append({"frame_id": frame_id, "source": item["source"], **row})
            if len(rows) == PART_ROWS:
                parts.append(rows)
                rows = []
    if rows:
        parts.append(rows)
    parts.end()
    yield {"key": item["key"], "rows": parts.count_rows()}


def score_batch(batch: list[SeenFrame], scorer: Scorer) -> list[Row]:
    """Score frames; that of a frame with several squares is the highest, with its square and its map.

    Returns:
        A row of `cygnet.model.scoring.score_parts.PART` per frame, without `frame_id` and `source`.
    """
    logits, maps = scorer.infer([image for frame in batch for image in frame.images])
    scores = scores_of(logits, scorer.calibration).drop(columns="is_anomalous").to_dict("records")
    rows, start = [], 0
    for frame in batch:
        row: Row = {
            "frame_index": frame.index,
            "timestamp_s": frame.timestamp_s,
            "width": frame.width,
            "height": frame.height,
            "reason": frame.reason,
        }
        if frame.images:
            best = max(range(len(frame.images)), key=lambda place: scores[start + place]["anomaly_score"])
            square = frame.squares[best]
            row.update({str(name): value for name, value in scores[start + best].items()})
            row.update({f"square_{name}": value for name, value in asdict(square).items()})
            row["anomaly_map"] = encode_map(maps[start + best])
        rows.append(row)
        start += len(frame.images)
    return rows


def see_frame(sample: Sample, scoring: FrameScoring, horizontal_bias: float) -> SeenFrame:
    """Cut the squares of a decoded frame, and take each through the encodings that a training image had."""
    if sample.image is None:
        return SeenFrame(sample.index, sample.timestamp_s, reason=sample.reason)
    height, width = sample.image.shape[:2]
    squares = squares_of(scoring.crop, height, width, horizontal_bias)
    images = [cut_square(sample.image, square, scoring.frame_jpeg_quality) for square in squares]
    for quality in scoring.image_jpeg_qualities:
        images = [decode_image(encode_jpeg(image, quality)) for image in images]
    return SeenFrame(sample.index, sample.timestamp_s, height, width, squares, images)


@lru_cache(maxsize=1)
def _load_scorer(folder: str) -> Scorer:
    """Load the scorer once in each worker process; its folder is named by its content."""
    with folder_on_disk(folder) as local:
        return Scorer.load(local)


def _see_frames(item: Row, scoring: FrameScoring, scorer: Scorer, next_index: int) -> Iterator[SeenFrame]:
    for number, path in enumerate(item["paths"]):
        source = {"path": path, "media": item["media"], "file_index": int(item["first_index"]) + number}
        if item["media"] == "image" and source["file_index"] < next_index:
            continue
        for sample in read_samples(source, scoring.interval_of(item["media"]), next_index):
            yield see_frame(sample, scoring, scorer.crop_horizontal_bias)


def _batches(frames: Iterator[SeenFrame]) -> Iterator[list[SeenFrame]]:
    """Gather frames of `BATCH_IMAGES` images or little more, never of two parts: a resumed run has the same batches."""
    batch: list[SeenFrame] = []
    for number, frame in enumerate(frames, start=1):
        batch.append(frame)
        if sum(len(each.images) for each in batch) >= BATCH_IMAGES or number % PART_ROWS == 0:
            yield batch
            batch = []
    if batch:
        yield batch


def _ahead(batches: Iterator[list[SeenFrame]], decoder: ThreadPoolExecutor) -> Iterator[list[SeenFrame]]:
    """Make the next batch in the other thread while this one is worked on."""
    coming = decoder.submit(next, batches, None)
    while (batch := coming.result()) is not None:
        coming = decoder.submit(next, batches, None)
        yield batch
