"""Rows of `training_set` as arrays: decoded once, kept as uint8."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad
import torch

from cygnet.errors import UserError
from cygnet.model.preprocessing import Preprocessing
from cygnet.tables import KIND_NULL, LABELS, NORMAL
from cygnet.vision.codec import decode_image, decode_mask

KEYS = ["image_id", "frame_id", "split", "label", "kind"]


@dataclass(frozen=True)
class Examples:
    """One split's images, labels and masks, in the order of their `image_id`s."""

    images: torch.Tensor  # (N, S, S, 3) uint8 RGB
    labels: torch.Tensor  # (N,) int64
    coverage: torch.Tensor  # (N, G, G) float32: share of each patch that the mask covers, 0-1; NaN where unknown


def load_examples(
    training_set: pad.Dataset, split: str, preprocessing: Preprocessing, patches_per_side: int
) -> Examples:
    """Decode and resize one split, without the control kind `null`.

    The order follows from the keys, so that it does not depend on how Spark happened to partition the table.

    Args:
        training_set: The table.
        split: `train`, `validation` or `test`.
        preprocessing: The model's.
        patches_per_side: G, of the model.

    Raises:
        UserError: The split has no row of a class.
    """
    keys = read_keys(training_set, split)
    check_classes(keys, split)
    keys = keys[keys["kind"] != KIND_NULL].reset_index(drop=True)
    place_of = {image_id: place for place, image_id in enumerate(keys["image_id"])}
    images = np.empty((len(keys), preprocessing.size_px, preprocessing.size_px, 3), np.uint8)
    coverage = np.empty((len(keys), patches_per_side, patches_per_side), np.float32)
    for rows in iterate_rows(training_set, [split], with_masks=True):
        for image_id, label, image, mask in rows[["image_id", "label", "image", "mask"]].to_numpy():
            place = place_of.get(image_id)
            if place is not None:
                images[place] = preprocessing.resize(decode_image(image))
                coverage[place] = _coverage(mask, label, patches_per_side)
    labels = torch.from_numpy(keys["label"].to_numpy(np.int64))
    return Examples(torch.from_numpy(images), labels, torch.from_numpy(coverage))


def _coverage(mask: bytes | None, label: int, patches_per_side: int) -> np.ndarray:
    """Share of each patch that is abnormal, `(G, G)`: none of a normal image, unknown for a labelled abnormal one."""
    if mask:
        shrunk = cv2.resize(decode_mask(mask), (patches_per_side, patches_per_side), interpolation=cv2.INTER_AREA)
        return shrunk.astype(np.float32) / 255
    return np.full((patches_per_side, patches_per_side), 0 if label == NORMAL else np.nan, np.float32)


def check_classes(keys: pd.DataFrame, split: str) -> None:
    """Make sure that a split has both classes, `null` not counted.

    Raises:
        UserError: A class has no row.
    """
    present = set(keys.loc[keys["kind"] != KIND_NULL, "label"])
    for name, label in LABELS.items():
        if label not in present:
            rows = f"The split {split} of training_set has no {name} image"
            msg = f"{rows}: check the labels and synthesis.kinds.{split}."
            raise UserError(msg)


def read_keys(training_set: pad.Dataset, *splits: str) -> pd.DataFrame:
    """Read everything but the pixels of some splits (of all, if none is named), in the order of the `image_id`s."""
    chosen = pad.field("split").isin(splits) if splits else None
    keys = training_set.to_table(columns=KEYS, filter=chosen).to_pandas()
    return keys.sort_values("image_id", ignore_index=True)


def iterate_rows(
    training_set: pad.Dataset, splits: list[str], batch_rows: int = 64, *, with_masks: bool = False
) -> Iterator[pd.DataFrame]:
    """Read rows of some splits in full batches (but the last): never more images in memory than a few batches."""
    columns = [*KEYS, "image", "mask"] if with_masks else [*KEYS, "image"]
    pending = pa.Table.from_batches([], schema=pa.schema([training_set.schema.field(name) for name in columns]))
    for batch in training_set.to_batches(
        columns=columns,
        filter=pad.field("split").isin(splits),
        batch_size=batch_rows,
        batch_readahead=2,
        fragment_readahead=1,
    ):
        pending = pa.concat_tables([pending, pa.Table.from_batches([batch])])
        while pending.num_rows >= batch_rows:
            yield pending.slice(0, batch_rows).to_pandas()
            pending = pending.slice(batch_rows)
    if pending.num_rows:
        yield pending.to_pandas()
