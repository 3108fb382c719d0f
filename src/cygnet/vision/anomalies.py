"""Synthetic anomalies by the rules of `synthesis`: an image with an anomaly, and the mask of what changed.

The mask holds the pixels that differ by more than 8 levels in any channel, and no others. A white patch on white is
therefore no anomaly, whatever its polygon. The control kind `null` goes through the same code and draws nothing, which
shows that the code itself leaves no trace.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from cygnet.anomaly_kinds import KINDS, KindFunction
from cygnet.parameters.synthesis import Synthesis
from cygnet.vision.region import restore_outside

CHANGED_LEVELS = 8
FEWEST_CHANGED_PX = 20
ATTEMPTS = 100

MaskedDraw = Callable[[np.ndarray, np.ndarray, np.random.Generator, float], tuple[np.ndarray, np.ndarray]]
"""`(image, donor, rng, severity)` to image and mask: a `cygnet.anomaly_kinds.KindFunction` with its settings that also
gives the mask, `(H, W)` uint8, 255 = abnormal."""


@dataclass(frozen=True)
class Anomaly:
    """An image with an anomaly.

    Attributes:
        image: `(H, W, 3)` uint8 BGR.
        mask: `(H, W)` uint8, 255 = abnormal.
        severity: 0-1.
        area_frac: Share of the pixels in the mask, 0-1.
    """

    image: np.ndarray
    mask: np.ndarray
    severity: float
    area_frac: float


def changed_mask(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Mark the pixels that differ by more than 8 levels in any channel: `(H, W)` uint8, 255 = changed."""
    blue, green, red = cv2.split(cv2.absdiff(before, after))
    return cv2.threshold(cv2.max(cv2.max(blue, green), red), CHANGED_LEVELS, 255, cv2.THRESH_BINARY)[1]


def make_kinds(synthesis: Synthesis, area: np.ndarray | None = None) -> dict[str, MaskedDraw]:
    """Bind every kind of anomaly to its settings, by name; outside an area `(H, W)` uint8 nothing changes."""
    return {name: _masked(kind.load(), getattr(synthesis, kind.settings), area) for name, kind in KINDS.items()}


def draw_anomaly(
    draw: MaskedDraw,
    image: np.ndarray,
    donor: np.ndarray,
    rng: np.random.Generator,
    severity_range: tuple[float, float],
) -> Anomaly | None:
    """Draw until the anomaly is visible, which takes at least 20 changed pixels.

    Returns:
        The anomaly, or None after 100 attempts: blur on a plain wall, white on snow.
    """
    for _ in range(ATTEMPTS):
        anomaly = draw_once(draw, image, donor, rng, severity_range)
        if np.count_nonzero(anomaly.mask) >= FEWEST_CHANGED_PX:
            return anomaly
    return None


def draw_once(
    draw: MaskedDraw,
    image: np.ndarray,
    donor: np.ndarray,
    rng: np.random.Generator,
    severity_range: tuple[float, float],
) -> Anomaly:
    """Draw at a severity uniform in the range, visible or not: for kind `null`."""
    severity = float(rng.uniform(*severity_range))
    drawn, mask = draw(image, donor, rng, severity)
    return Anomaly(drawn, mask, severity, int(np.count_nonzero(mask)) / mask.size)


def draw_nothing(
    image: np.ndarray, _donor: np.ndarray, _rng: np.random.Generator, _severity: float, _settings: object
) -> np.ndarray:
    """Return the image as it is: kind `null`."""
    return image


def _masked(draw: KindFunction, settings: Any, area: np.ndarray | None) -> MaskedDraw:
    def draw_masked(
        image: np.ndarray, donor: np.ndarray, rng: np.random.Generator, severity: float
    ) -> tuple[np.ndarray, np.ndarray]:
        drawn = draw(image, donor, rng, severity, settings)
        if area is not None:
            drawn = restore_outside(image, drawn, area)
        return drawn, changed_mask(image, drawn)

    return draw_masked
