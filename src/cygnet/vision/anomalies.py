"""Synthetic anomalies behind one small interface: `(image, donor, rng, severity) -> (image, mask)`.

A kind draws on an image; the mask is what changed, and nothing else: pixels that differ by more than 8 levels in any
channel. So a patch of white on white is no anomaly, whatever its polygon says. `null` draws nothing: it takes the whole
path to show that the path itself leaves no trace.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from cygnet.parameters.synthesis import Synthesis
from cygnet.tables import KIND_NULL
from cygnet.vision.kinds import KINDS, Change, draw_spots
from cygnet.vision.polygons import draw_polygons

CHANGED_LEVELS = 8
FEWEST_CHANGED_PX = 20
MOST_DRAWS = 100

Draw = Callable[[np.ndarray, np.ndarray, np.random.Generator, float], tuple[np.ndarray, np.ndarray]]
"""`(image, donor, rng, severity) -> (image, mask)`: image and donor `(H, W, 3)` uint8, the donor another frame of the
same split; severity 0-1; mask `(H, W)` uint8, 255 where abnormal."""


@dataclass(frozen=True)
class Anomaly:
    """An image with an anomaly, its mask, and how severe and how large it is (share of the pixels)."""

    image: np.ndarray
    mask: np.ndarray
    severity: float
    area_frac: float


def changed_mask(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Mark the pixels that differ by more than 8 levels in any channel: `(H, W)` uint8, 255 = changed."""
    blue, green, red = cv2.split(cv2.absdiff(before, after))
    return cv2.threshold(cv2.max(cv2.max(blue, green), red), CHANGED_LEVELS, 255, cv2.THRESH_BINARY)[1]


def make_kinds(synthesis: Synthesis) -> dict[str, Draw]:
    """Build every kind of anomaly from its parameters, by name."""
    return {
        "polygon": partial(_polygon, synthesis=synthesis),
        **{name: partial(_spots, change=change, synthesis=synthesis) for name, change in KINDS.items()},
        KIND_NULL: _null,
    }


def draw_anomaly(
    draw: Draw,
    image: np.ndarray,
    donor: np.ndarray,
    rng: np.random.Generator,
    severity_range: tuple[float, float],
    *,
    may_be_empty: bool = False,
) -> Anomaly | None:
    """Draw until the anomaly shows: at least 20 changed pixels, unless it may be empty (kind `null`).

    Returns:
        The anomaly, or None where 100 draws in a row did not show: blur on an even wall, salt on snow.
    """
    for _ in range(MOST_DRAWS):
        severity = float(rng.uniform(*severity_range))
        drawn, mask = draw(image, donor, rng, severity)
        changed_px = int(np.count_nonzero(mask))
        if changed_px >= FEWEST_CHANGED_PX or may_be_empty:
            return Anomaly(drawn, mask, severity, changed_px / mask.size)
    return None


def _polygon(
    image: np.ndarray, _donor: np.ndarray, rng: np.random.Generator, severity: float, synthesis: Synthesis
) -> tuple[np.ndarray, np.ndarray]:
    drawn = draw_polygons(image, rng, severity, synthesis.polygon)
    return drawn, changed_mask(image, drawn)


def _spots(
    image: np.ndarray,
    donor: np.ndarray,
    rng: np.random.Generator,
    severity: float,
    change: Change,
    synthesis: Synthesis,
) -> tuple[np.ndarray, np.ndarray]:
    drawn = draw_spots(change, image, donor, rng, severity, synthesis.spots)
    return drawn, changed_mask(image, drawn)


def _null(
    image: np.ndarray, _donor: np.ndarray, _rng: np.random.Generator, _severity: float
) -> tuple[np.ndarray, np.ndarray]:
    return image, np.zeros(image.shape[:2], np.uint8)
