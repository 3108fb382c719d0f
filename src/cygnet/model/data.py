"""Rows of `training_set` as arrays: decoded once, kept as uint8."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.dataset as pad
import torch

from cygnet.errors import UserError
from cygnet.model.preprocessing import Preprocessing
from cygnet.tables import KIND_NULL, LABELS
from cygnet.vision.codec import decode_image

KEYS = ["image_id", "frame_id", "split", "label", "kind"]


@dataclass(frozen=True)
class Examples:
    """Images `(N, S, S, 3)` uint8 RGB and labels `(N,)` int64, in the order of their `image_id`s."""

    images: torch.Tensor
    labels: torch.Tensor


def load_examples(training_set: pad.Dataset, split: str, preprocessing: Preprocessing) -> Examples:
    """Decode and resize one split, without the control kind `null`.

    The order follows from the keys, so that it does not depend on how Spark happened to partition the table.

    Raises:
        UserError: The split has no row of a class.
    """
    keys = read_keys(training_set, split)
    keys = keys[keys["kind"] != KIND_NULL].reset_index(drop=True)
    for name, label in LABELS.items():
        if not (keys["label"] == label).any():
            msg = f"The split {split} of training_set has no {name} image: check the labels and synthesis.kinds.{split}."
            raise UserError(msg)
    place_of = {image_id: place for place, image_id in enumerate(keys["image_id"])}
    images = np.empty((len(keys), preprocessing.size_px, preprocessing.size_px, 3), np.uint8)
    for rows in iterate_rows(training_set, [split]):
        for image_id, encoded in zip(rows["image_id"], rows["image"], strict=True):
            if image_id in place_of:
                images[place_of[image_id]] = preprocessing.resize(decode_image(encoded))
    return Examples(torch.from_numpy(images), torch.from_numpy(keys["label"].to_numpy(np.int64)))


def read_keys(training_set: pad.Dataset, *splits: str) -> pd.DataFrame:
    """Read everything but the pixels of some splits (of all, if none is named), in the order of the `image_id`s."""
    chosen = pad.field("split").isin(splits) if splits else None
    keys = training_set.to_table(columns=KEYS, filter=chosen).to_pandas()
    return keys.sort_values("image_id", ignore_index=True)


def iterate_rows(training_set: pad.Dataset, splits: list[str], batch_rows: int = 64) -> Iterator[pd.DataFrame]:
    """Read rows of some splits in batches: never more images in memory than a few batches."""
    batches = training_set.to_batches(
        columns=[*KEYS, "image"],
        filter=pad.field("split").isin(splits),
        batch_size=batch_rows,
        batch_readahead=2,
        fragment_readahead=1,
    )
    for batch in batches:
        if batch.num_rows:
            yield batch.to_pandas()
