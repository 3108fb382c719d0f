"""Scores the frames of videos and images inside Spark's workers.

The unit of work is an item, one Spark row: a video, or up to `PART_ROWS` images of a folder. A video is not split among
workers: containers misstate their frames, so the index of a frame is known only after all frames before it have been
decoded. Within a video, one thread decodes and crops while another runs the detector.

A frame passes through the same steps as an image of `training_set`: encoded as part of its frame, cropped, and encoded
as often as that table's images. Of an image its score is therefore the one it has in `predictions`; of a frame of video
motion takes part in it: see `cygnet.vision.motion`.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cygnet.model.network.threads import bound_threads
from cygnet.model.scoring.score_parts import PART, PART_ROWS, ScoreParts, digest
from cygnet.model.serving.scorer import Scorer, scores_of
from cygnet.scene import TrainingScene
from cygnet.storage import folder_on_disk, state_of
from cygnet.tables import frame_id_of
from cygnet.vision.codec import decode_image, encode_jpeg, encode_map
from cygnet.vision.crop import cut_areas, decoded_size_px
from cygnet.vision.frame_squares import Square, cut_square, squares_of
from cygnet.vision.motion import MotionMeter, shrink
from cygnet.vision.region import blank_outside
from cygnet.vision.video import Sample, expected_samples, read_samples

BATCH_IMAGES = 32
"""Bounds what waits between the two threads, however large the frames are: an image has 196,608 bytes."""

ITEMS = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("source", pa.string()),
        pa.field("media", pa.string()),  # video or image
        pa.field("paths", pa.list_(pa.string())),
        pa.field("first_index", pa.int32()),  # frame index of the first path
        pa.field("position", pa.int32()),  # in the order in which the items are started
    ]
)
"""What a worker receives."""

SCORED_ITEMS = pa.schema([pa.field("key", pa.string()), pa.field("rows", pa.int64())])
"""What a worker returns for an item; the scores themselves are in its parts."""

Row = dict[str, Any]


@dataclass(frozen=True)
class FrameScoring:
    """How frames are read and scored, the same for all items of a run."""

    parts_folder: str
    scorer_folder: str
    view: str  # square, whole or tiles
    interval_s: float | None  # seconds between scored frames of a video; None: every frame
    scene: TrainingScene  # what the images have gone through that the detector was fitted on

    def interval_of(self, media: str) -> float | None:
        """Return the interval, in seconds, for media `video` or `image`; None: every frame."""
        return self.interval_s if media == "video" else self.interval_s or self.scene.interval_s


@dataclass(frozen=True)
class SeenFrame:
    """A frame as the detector sees it: one 256x256 image per square, none if it did not decode or all is outside."""

    index: int
    timestamp_s: float
    height: int = 0
    width: int = 0
    squares: list[Square] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)  # (256, 256, 3) uint8 BGR
    motions: list[float] = field(default_factory=list)  # of each image, see `cygnet.vision.motion`; empty: none
    reason: str | None = None
    areas: list[np.ndarray] = field(default_factory=list)  # what of each image is looked at; empty: all of it


def list_items(sources: pd.DataFrame, scoring: FrameScoring) -> pd.DataFrame:
    """Divide the sources into items, the largest first: a small item that ends last keeps few cores idle.

    Args:
        sources: The table of sources; the images of a folder in their order.
        scoring: How they will be scored.

    Returns:
        `key` (a digest of all that the scores depend on: files with size and modification time, scorer, settings),
        `source`, `media`, `paths`, `first_index` (of the first file), `expected_frames` (an estimate), `size_bytes`.
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
                    "key": digest([source, states, asdict(scoring), PART.names]),
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
    """Score an item and write its parts, continuing where an earlier run stopped.

    Args:
        item: A row of `ITEMS`; `position` is not read.
        scoring: How it is scored.
        tasks: How many items may be scored at the same time, on all machines together.

    Yields:
        One row of `SCORED_ITEMS`.
    """
    bound_threads(tasks)
    scorer = _load_scorer(scoring.scorer_folder)
    parts = ScoreParts(scoring.parts_folder).item(item["key"])
    rows: list[Row] = []
    meter = MotionMeter(scoring.scene.interval_s)
    frames = see_frames(item, scoring, parts.next_index(), parts.index_before_end(meter.reach_s))
    with ThreadPoolExecutor(1, "decode") as decoder:
        for batch in _ahead(_batches(frames), decoder):
            for row in score_batch(batch, scorer):
                frame_id = frame_id_of(item["source"], row["frame_index"])
                rows.append({"frame_id": frame_id, "source": item["source"], "media": item["media"], **row})
            if len(rows) == PART_ROWS:
                parts.append(rows)
                rows = []
    if rows:
        parts.append(rows)
    parts.end()
    yield {"key": item["key"], "rows": parts.count_rows()}


def score_batch(batch: list[SeenFrame], scorer: Scorer) -> list[Row]:
    """Score frames; a frame with several squares takes score, square and map of the one that scores highest.

    Returns:
        One row of `cygnet.model.scoring.score_parts.PART` per frame, without `frame_id`, `source` and `media`.
    """
    parts = scorer.measure([image for frame in batch for image in frame.images])
    motions = [motion for frame in batch for motion in frame.motions or [np.nan] * len(frame.images)]
    measured = parts.images.assign(motion=np.array(motions, np.float32))
    scores = scores_of(measured, scorer.calibration).drop(columns="is_anomalous").to_dict("records")
    maps = scorer.anomaly_maps(parts)
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
            best = max(range(len(frame.images)), key=lambda number: scores[start + number]["anomaly_score"])
            square = frame.squares[best]
            largest = measured[start : start + len(frame.images)].max().dropna()
            row.update({str(name): value for name, value in (*scores[start + best].items(), *largest.items())})
            row.update({f"square_{name}": value for name, value in asdict(square).items()})
            area = frame.areas[best] if frame.areas else None
            row["anomaly_map"] = encode_map(blank_outside(maps[start + best], area))
        rows.append(row)
        start += len(frame.images)
    return rows


def see_frame(sample: Sample, scoring: FrameScoring) -> SeenFrame:
    """Crop the squares of a decoded frame, and encode and decode each as often as a training image was."""
    if sample.image is None:
        return SeenFrame(sample.index, sample.timestamp_s, reason=sample.reason)
    height, width = sample.image.shape[:2]
    scene = scoring.scene
    try:
        squares = squares_of(scoring.view, height, width, scene.crop_horizontal_bias, scene.area)
    except ValueError as error:
        return SeenFrame(sample.index, sample.timestamp_s, height, width, reason=str(error))
    areas = cut_areas(scoring.view, *decoded_size_px(height, width), scene.crop_horizontal_bias, scene.area)
    images = [cut_square(sample.image, square, scene.frame_jpeg_quality, scene.area) for square in squares]
    for quality in scene.image_jpeg_qualities:
        images = [decode_image(encode_jpeg(image, quality)) for image in images]
    return SeenFrame(sample.index, sample.timestamp_s, height, width, squares, images, areas=areas)


def with_motion(frame: SeenFrame, meter: MotionMeter) -> SeenFrame:
    """Measure the motion of the next frame of a video."""
    if not frame.images:
        return frame
    return replace(frame, motions=meter.measure(frame.timestamp_s, [*map(shrink, frame.images)]))


@lru_cache(maxsize=1)
def _load_scorer(folder: str) -> Scorer:
    """Load the scorer once per worker process; its folder is named by a digest, so the cache can't be stale."""
    with folder_on_disk(folder) as local:
        return Scorer.load(local)


def see_frames(item: Row, scoring: FrameScoring, next_index: int = 0, lead_index: int = 0) -> Iterator[SeenFrame]:
    """Read the frames of an item as the detector sees them.

    Args:
        item: A row of `ITEMS`.
        scoring: How it is scored.
        next_index: The first frame index.
        lead_index: The frame index from which frames of a video are looked at for the motion of later ones.
    """
    for number, path in enumerate(item["paths"]):
        source = {"path": path, "media": item["media"], "file_index": int(item["first_index"]) + number}
        if item["media"] == "image" and source["file_index"] < next_index:
            continue
        meter = MotionMeter(scoring.scene.interval_s)
        for sample in read_samples(source, scoring.interval_of(item["media"]), lead_index):
            frame = see_frame(sample, scoring)
            if item["media"] == "video":
                frame = with_motion(frame, meter)
            if frame.index >= next_index:
                yield frame


def _batches(frames: Iterator[SeenFrame]) -> Iterator[list[SeenFrame]]:
    """Group frames into batches of about `BATCH_IMAGES` images that end with each part: a resumed run batches alike."""
    batch: list[SeenFrame] = []
    for number, frame in enumerate(frames, start=1):
        batch.append(frame)
        if sum(len(each.images) for each in batch) >= BATCH_IMAGES or number % PART_ROWS == 0:
            yield batch
            batch = []
    if batch:
        yield batch


def _ahead(batches: Iterator[list[SeenFrame]], decoder: ThreadPoolExecutor) -> Iterator[list[SeenFrame]]:
    """Prepare the next batch in the decoding thread while the caller processes the current one."""
    coming = decoder.submit(next, batches, None)
    while (batch := coming.result()) is not None:
        coming = decoder.submit(next, batches, None)
        yield batch
