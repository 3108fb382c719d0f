"""Rows of `training_set` as tensors: decoded once, and kept as uint8 in a memory-mapped file.

The memory that a fit needs therefore does not grow with the number of images: the system caches as much of the file as
fits.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow.dataset as pad
import torch

from cygnet.model.evaluation.calibrate import split_halves
from cygnet.model.network.preprocessing import Preprocessing
from cygnet.model.training_set import check_classes, choose_evenly, count_rows, iterate_rows, read_keys
from cygnet.progress import tracked
from cygnet.tables import ABNORMAL, KIND_NULL, LABELS, NORMAL
from cygnet.vision.codec import decode_image, decode_mask

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Some rows: images `(B, S, S, 3)` uint8 RGB or tokens, labels `(B,)` int64, coverage `(B, G, G)` float32."""


STOPPING_FRAC = 0.25
"""Each of these images costs as much as one of train. On the sample (seeds 301-303, bfloat16), the best epoch is the
same with a quarter as with a half."""


@dataclass(frozen=True)
class Examples:
    """Images, labels and masks of one split, in the order of `image_id`.

    Images keep their stored size: anomalies are drawn at that size, as for the test split, and only then is the image
    resized to the input of the model.
    """

    images: torch.Tensor  # (N, H, H, 3) uint8 BGR, memory-mapped; or tokens (N, T, D) float16 of frozen blocks
    labels: torch.Tensor  # (N,) int64
    coverage: torch.Tensor  # (N, G, G) float32, memory-mapped: the mask's share of each patch, 0-1; NaN where unknown
    frames: np.ndarray  # (N,) int64: rows with the same number come from one frame
    fingerprint: str  # of all rows
    preprocessing: Preprocessing | None  # the model's; None: they are tokens
    areas: list[bytes | None] = field(default_factory=list)  # encoded, see `training_set`; empty: images are all inside

    def take(self, indices: torch.Tensor) -> Batch:
        """Fetch rows by index, resized for the model."""
        images = self.images[indices]
        if self.preprocessing:
            images = torch.from_numpy(np.stack([self.preprocessing.resize(image) for image in images.numpy()]))
        return images, self.labels[indices], self.coverage[indices]


def mapped_tensor(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Make a tensor of zeros in a memory-mapped file; the file must outlive it."""
    return torch.from_file(str(path), shared=True, size=math.prod(shape), dtype=dtype).reshape(shape)


def choose_stopping_rows(training_set: pad.Dataset) -> pad.Dataset:
    """Choose the rows that decide when to stop: `STOPPING_FRAC` as many as train has, as many of each class.

    They come from the first half of the validation frames. If a class has fewer, all of them count.

    Raises:
        UserError: A half of the validation frames lacks a class.
    """
    first_half, _ = split_halves(read_keys(training_set, "validation"))
    of_each = math.ceil(STOPPING_FRAC * count_rows(training_set, ["train"]) / len(LABELS))
    return training_set.filter(pad.field("image_id").isin(choose_evenly(first_half, "label", of_each)))


def load_examples(
    training_set: pad.Dataset, split: str, preprocessing: Preprocessing, patches_per_side: int, folder: Path
) -> Examples:
    """Decode one split, without the control kind `null`.

    The order follows from the keys and not from how Spark partitioned the table.

    Args:
        training_set: The table.
        split: `train`, `validation` or `test`.
        preprocessing: The model's.
        patches_per_side: G, of the model.
        folder: For the memory-mapped files.

    Raises:
        UserError: The split has no row of one class.
    """
    keys = read_keys(training_set, split)
    check_classes(keys, split)
    keys = keys[keys["kind"] != KIND_NULL].reset_index(drop=True)
    index_of = {image_id: index for index, image_id in enumerate(keys["image_id"])}
    images = torch.empty(0)
    grid = (len(keys), patches_per_side, patches_per_side)
    coverage = mapped_tensor(folder / f"{split}.coverage", grid, torch.float32)
    digests = [b""] * len(keys)
    areas: list[bytes | None] = [None] * len(keys)
    batches = iterate_rows(training_set, [split], with_masks=True)
    for rows in tracked(batches, f"Reading {split}", "images", count_rows(training_set, [split]), len):
        for image_id, label, image, mask, area in rows[["image_id", "label", "image", "mask", "area"]].to_numpy():
            index = index_of.get(image_id)
            if index is not None:
                decoded = decode_image(image)
                if not len(images):
                    images = mapped_tensor(folder / f"{split}.images", (len(keys), *decoded.shape), torch.uint8)
                images[index] = torch.from_numpy(decoded)
                coverage[index] = torch.from_numpy(_coverage(mask, label, patches_per_side))
                areas[index] = area
                digests[index] = hashlib.blake2b(image + (mask or b"") + (area or b""), digest_size=16).digest()
    labels = torch.from_numpy(keys["label"].to_numpy(np.int64))
    fingerprint = hashlib.blake2b(labels.numpy().tobytes() + b"".join(digests), digest_size=16).hexdigest()
    frames, _ = pd.factorize(keys["frame_id"])
    return Examples(images, labels, coverage, frames, fingerprint, preprocessing, areas)


def mask_coverage(mask: np.ndarray, patches_per_side: int) -> np.ndarray:
    """Return the share of each patch that a mask `(H, H)` uint8 covers: `(G, G)` float32, 0-1."""
    shrunk = cv2.resize(mask, (patches_per_side, patches_per_side), interpolation=cv2.INTER_AREA)
    return shrunk.astype(np.float32) / 255


def batch_of_pairs(
    pairs: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], preprocessing: Preprocessing, patches_per_side: int
) -> Batch:
    """Put pairs of `cygnet.vision.paired_synthesis` into one batch: each normal image before its abnormal one."""
    images, labels, coverage = [], [], []
    for normal, abnormal, mask in pairs:
        share = mask_coverage(mask, patches_per_side)
        images += [preprocessing.resize(normal), preprocessing.resize(abnormal)]
        labels += [NORMAL, ABNORMAL]
        coverage += [np.zeros_like(share), share]
    return torch.from_numpy(np.stack(images)), torch.tensor(labels), torch.from_numpy(np.stack(coverage))


def _coverage(mask: bytes | None, label: int, patches_per_side: int) -> np.ndarray:
    """Return the abnormal share of each patch, `(G, G)`: 0 in a normal image, NaN in an abnormal one without mask."""
    if mask:
        return mask_coverage(decode_mask(mask), patches_per_side)
    return np.full((patches_per_side, patches_per_side), 0 if label == NORMAL else np.nan, np.float32)
