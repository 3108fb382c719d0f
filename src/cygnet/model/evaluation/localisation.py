"""How well the anomaly maps cover the masks, pixel by pixel, on `test`.

Two metrics. Pixel average precision, over all pixels. And PRO, the per-region overlap (Bergmann et al., "Uninformed
Students", CVPR 2020): the share of each connected region of a mask that the map covers, averaged over the regions so
that a small one weighs as much as a large one, integrated over the pixels' false-positive rate up to 0.3 and divided
by 0.3. Chance is 0.15.

A map is scaled up to its mask by bilinear interpolation and rounded to the 16 bits in which it is stored. Histograms of
65,536 values are therefore exact, and memory does not grow with the number of images.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
import pandas as pd
import pyarrow.dataset as pad

from cygnet.model.evaluation.results import LocalisationByKind
from cygnet.model.training_set import count_rows, read_batches
from cygnet.progress import tracked
from cygnet.reports import Localisation
from cygnet.tables import IMAGE_SIZE_PX, KIND_NORMAL, KIND_NULL, NORMAL
from cygnet.vision.codec import decode_map, decode_mask

MAP = "map"
LEVELS = 2**16
MAX_FPR = 0.3
MIN_REGION_PX = 20
"""Smaller regions are specks at an anomaly's ragged edge: a synthetic anomaly has at least 20 pixels."""


@dataclass
class PixelCounts:
    """Number of pixels by their value in the map, `(65536,)` float64 each."""

    normal: np.ndarray = field(default_factory=lambda: np.zeros(LEVELS))
    abnormal: np.ndarray = field(default_factory=lambda: np.zeros(LEVELS))
    overlap: np.ndarray = field(default_factory=lambda: np.zeros(LEVELS))  # each region's pixels sum to 1

    def add(self, anomaly_map: np.ndarray, mask: np.ndarray) -> None:
        """Count the pixels of one image.

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
        share = np.where(area_px >= MIN_REGION_PX, 1 / area_px, 0.0)
        self.overlap += np.bincount(inside, weights=share[region_of_pixel[is_abnormal]], minlength=LEVELS)

    def __add__(self, other: "PixelCounts") -> "PixelCounts":
        return PixelCounts(self.normal + other.normal, self.abnormal + other.abnormal, self.overlap + other.overlap)

    def metrics(self) -> Localisation | None:
        """Compute the metrics; None without a region or without a normal pixel."""
        if self.overlap.sum() == 0 or self.normal.sum() == 0:
            return None
        false, true, overlap = (
            np.cumsum(counts[::-1]) for counts in (self.normal, self.abnormal, self.overlap)
        )  # (65536,), with each value as the threshold, the highest first
        precision = true / np.maximum(false + true, 1)
        average_precision = np.sum(np.diff(true, prepend=0) * precision) / true[-1]
        fpr = np.append(0.0, false / false[-1])
        found = np.append(0.0, overlap / overlap[-1])
        inside = fpr <= MAX_FPR
        fpr, found = (
            np.append(fpr[inside], MAX_FPR),
            np.append(found[inside], np.interp(MAX_FPR, fpr, found)),
        )
        return {
            "pixel_average_precision": float(average_precision),
            "pro_at_fpr_30pct": float(np.trapezoid(found, fpr) / MAX_FPR),
        }


def localise(training_set: pad.Dataset, predictions: pd.DataFrame, column: str = "anomaly_map") -> LocalisationByKind:
    """Compare the maps of `test` with the masks, one image after the other.

    Args:
        training_set: The table; only its masks are read. Kind `real` has no mask, and the control kind `null` has
            nothing to find: both are left out.
        predictions: `image_id`, `split`, `label`, `kind`, and the maps.
        column: The column of the maps.
    """
    test = predictions[(predictions["split"] == "test") & (predictions["kind"] != KIND_NULL)]
    counts = count_pixels(test.rename(columns={column: MAP}), _masks(training_set))
    normal = counts.pop(KIND_NORMAL, PixelCounts())
    everything = sum(counts.values(), start=normal)
    by_kind = {kind: (normal + of_kind).metrics() for kind, of_kind in counts.items()}
    return LocalisationByKind(everything.metrics(), by_kind)


def count_pixels(rows: pd.DataFrame, masks: Iterable[tuple[str, bytes | None]]) -> dict[str, PixelCounts]:
    """Count the pixels of each kind.

    Args:
        rows: `image_id`, `label`, `kind`, `map`.
        masks: `image_id` and encoded mask, in any order; those of other images are ignored.
    """
    by_id = {image_id: row for image_id, *row in rows[["image_id", "label", "kind", MAP]].to_numpy()}
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
    batches = read_batches(training_set, ["image_id", "mask"], pad.field("split") == "test")
    for batch in tracked(batches, "Comparing maps with masks", "images", count_rows(training_set, ["test"]), len):
        yield from zip(batch["image_id"].to_pylist(), batch["mask"].to_pylist(), strict=True)
