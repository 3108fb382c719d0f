"""How well the anomaly map of the patches' head finds the pixels of the masks, on `test`.

Two figures. Pixel average precision, over all pixels. And PRO, the per-region overlap (Bergmann et al., "Uninformed
Students", CVPR 2020): the share of each connected region of a mask that the map covers, averaged over the regions so
that a small one weighs as much as a large one, integrated over the false-positive rate of the pixels up to 0.3 and
divided by 0.3. Chance is 0.15.

A map is scaled up to its mask by bilinear interpolation and rounded to the 16 bits that it is stored in, so that
histograms of 65,536 values hold all there is to know: three a kind, however many images.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
import pandas as pd
import pyarrow.dataset as pad

from cygnet.model.rows import read_batches
from cygnet.tables import IMAGE_SIZE_PX, KIND_NORMAL, KIND_NULL, NORMAL
from cygnet.vision.codec import decode_map, decode_mask

LEVELS = 2**16
MOST_FPR = 0.3
FEWEST_REGION_PX = 20
"""Specks at an anomaly's ragged edge are no regions of their own; an anomaly that is drawn has 20 pixels at least."""


@dataclass
class PixelCounts:
    """Pixels by their value in the map, `(65536,)` float64 each."""

    normal: np.ndarray = field(default_factory=lambda: np.zeros(LEVELS))
    abnormal: np.ndarray = field(default_factory=lambda: np.zeros(LEVELS))
    overlap: np.ndarray = field(default_factory=lambda: np.zeros(LEVELS))  # each region's pixels sum to 1

    def add(self, anomaly_map: np.ndarray, mask: np.ndarray) -> None:
        """Count one image.

        Args:
            anomaly_map: `(G, G)` float32, 0-1.
            mask: `(H, W)` uint8, above 0 = abnormal.
        """
        scaled = cv2.resize(anomaly_map, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
        values = np.rint(scaled * (LEVELS - 1)).astype(np.uint16)  # (H, W)
        is_abnormal = mask > 0
        self.normal += np.bincount(values[~is_abnormal], minlength=LEVELS)
        if not is_abnormal.any():
            return
        inside = values[is_abnormal]
        self.abnormal += np.bincount(inside, minlength=LEVELS)
        _, region_of_pixel, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        area_px = statistics[:, cv2.CC_STAT_AREA]
        share = np.where(area_px >= FEWEST_REGION_PX, 1 / area_px, 0.0)
        self.overlap += np.bincount(inside, weights=share[region_of_pixel[is_abnormal]], minlength=LEVELS)

    def __add__(self, other: "PixelCounts") -> "PixelCounts":
        return PixelCounts(self.normal + other.normal, self.abnormal + other.abnormal, self.overlap + other.overlap)

    def figures(self) -> dict[str, float] | None:
        """Give `pixel_average_precision` and `pro_at_fpr_30pct`, 0-1; None without a region to find."""
        if self.overlap.sum() == 0 or self.normal.sum() == 0:
            return None
        false, true, overlap = (
            np.cumsum(counts[::-1]) for counts in (self.normal, self.abnormal, self.overlap)
        )  # (65536,), at each value as a threshold, the highest first
        precision = true / np.maximum(false + true, 1)
        average_precision = np.sum(np.diff(true, prepend=0) * precision) / true[-1]
        fpr = np.append(0.0, false / false[-1])
        found = np.append(0.0, overlap / overlap[-1])
        inside = fpr <= MOST_FPR
        fpr, found = (
            np.append(fpr[inside], MOST_FPR),
            np.append(found[inside], np.interp(MOST_FPR, fpr, found)),
        )
        return {
            "pixel_average_precision": float(average_precision),
            "pro_at_fpr_30pct": float(np.trapezoid(found, fpr) / MOST_FPR),
        }


def localise(training_set: pad.Dataset, predictions: pd.DataFrame) -> dict[str, dict[str, float] | None]:
    """Hold the maps of `test` against the masks, one image after the other.

    Args:
        training_set: The table; its masks are read. Rows whose place nobody knows (kind `real`) and controls (kind
            `null`) are left out.
        predictions: `image_id`, `split`, `label`, `kind`, `anomaly_map`.

    Returns:
        Kind to its figures, each with the normal images beside it; `""` is all kinds together. None without a mask.
    """
    test = predictions[(predictions["split"] == "test") & (predictions["kind"] != KIND_NULL)]
    counts = count_pixels(test, _masks(training_set))
    normal = counts.pop(KIND_NORMAL, PixelCounts())
    everything = sum(counts.values(), start=normal)
    return {"": everything.figures(), **{kind: (normal + of_kind).figures() for kind, of_kind in counts.items()}}


def count_pixels(rows: pd.DataFrame, masks: Iterable[tuple[str, bytes | None]]) -> dict[str, PixelCounts]:
    """Count the pixels of each kind.

    Args:
        rows: `image_id`, `label`, `kind`, `anomaly_map`.
        masks: `image_id` and encoded mask, in any order; those of other images are passed over.
    """
    by_id = {image_id: row for image_id, *row in rows[["image_id", "label", "kind", "anomaly_map"]].to_numpy()}
    counts: dict[str, PixelCounts] = {}
    for image_id, encoded in masks:
        label, kind, anomaly_map = by_id.get(image_id, (None, "", b""))
        if label == NORMAL:
            mask = np.zeros((IMAGE_SIZE_PX, IMAGE_SIZE_PX), np.uint8)
        elif encoded and anomaly_map:
            mask = decode_mask(encoded)
        else:
            continue
        counts.setdefault(kind, PixelCounts()).add(decode_map(anomaly_map), mask)
    return counts


def _masks(training_set: pad.Dataset) -> Iterator[tuple[str, bytes | None]]:
    for batch in read_batches(training_set, ["image_id", "mask"], pad.field("split") == "test"):
        yield from zip(batch["image_id"].to_pylist(), batch["mask"].to_pylist(), strict=True)
