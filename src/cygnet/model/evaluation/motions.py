"""The motion of normal validation frames: among these values the motion of a scored frame gets its p-value.

As the other parts of the score, they are of the first half of every source's validation frames. A frame has a motion if
the one before it in the table is normal too, and one sampling interval away.
"""

from itertools import groupby
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pad

from cygnet.model.evaluation.calibrate import in_first_half
from cygnet.model.training_set import read_batches, spread_evenly
from cygnet.scene import TrainingScene
from cygnet.tables import NORMAL, parse_frame_id
from cygnet.vision.codec import decode_image, encode_jpeg
from cygnet.vision.motion import MotionMeter, shrink

RUN_FRAMES = 50
MOST_RUNS = 40
"""Of longer video, runs of consecutive frames are measured: they bound the memory."""


def measure_normal_motions(images: pad.Dataset, scene: TrainingScene) -> list[float]:
    """Measure the motion of normal validation frames as scoring does, on images encoded as often.

    Args:
        images: The table `images`.
        scene: `interval_s`, `training_jpeg_quality`.

    Returns:
        A value per image, ascending; empty if no frame has one, as of folders of images.
    """
    keys = images.to_table(["frame_id", "label", "timestamp_s"], filter=pad.field("split") == "validation").to_pandas()
    counts = in_first_half(keys["frame_id"]) & (keys["label"] == NORMAL) & keys["timestamp_s"].notna()
    seen: dict[tuple[str, int], tuple[float, dict[int, np.ndarray]]] = {}
    frame_ids = sorted(set(keys.loc[counts, "frame_id"]), key=parse_frame_id)
    chosen = pad.field("frame_id").isin(pa.array(_spread_runs(frame_ids), pa.string()))
    for batch in read_batches(images, ["frame_id", "tile", "timestamp_s", "image"], chosen):
        for row in batch.to_pylist():
            _, tiles = seen.setdefault(parse_frame_id(row["frame_id"]), (row["timestamp_s"], {}))
            image = decode_image(encode_jpeg(decode_image(row["image"]), scene.training_jpeg_quality))
            tiles[row["tile"]] = shrink(image)
    motions: list[float] = []
    for _, frames in groupby(sorted(seen.items(), key=itemgetter(0)), key=lambda frame: frame[0][0]):
        meter = MotionMeter(scene.interval_s)
        for _, (timestamp_s, tiles) in frames:
            motions += meter.measure(timestamp_s, [tiles[number] for number in sorted(tiles)])
    return sorted(motions)


def _spread_runs(frame_ids: list[str]) -> list[str]:
    """Choose at most `MOST_RUNS` runs of `RUN_FRAMES` consecutive frames, evenly spread."""
    starts = np.arange(0, len(frame_ids), RUN_FRAMES)[spread_evenly(-(-len(frame_ids) // RUN_FRAMES), MOST_RUNS)]
    return [frame_id for start in starts for frame_id in frame_ids[start : start + RUN_FRAMES]]
