"""Does the camera move? The share of the picture that changes between frames, to check `scene.camera` against.

A fixed camera sees most places of its scene unchanged in most frames. Where it pans or is carried, nearly every place
changes. So a place is compared with its own median over the frames, which things that pass do not move.
"""

from collections.abc import Iterable

import cv2
import numpy as np

CELLS = 32
"""Places per side: each is the mean of 8 x 8 pixels of an image, so noise and a trembling camera do not count."""
CHANGED_LEVELS = 8
"""Difference to the median, in grey levels, from which a place has changed."""


def changing_frac(images: Iterable[np.ndarray]) -> float:
    """Measure the share of places that differ from their median in the median frame.

    The overall brightness of a frame, as of clouds or of exposure, is taken off before.

    Args:
        images: `(H, W, 3)` uint8 BGR each, at least one, of one view.

    Returns:
        0-1. Measured on train frames. Fixed cameras: a road 0.01, a walkway with people (Ped2) 0.13, trees in the wind
        and the swan's water 0.26. A panning one (black swan) 0.57. Photographs of commutators 0.39, of toothbrushes at
        any angle 0.85.
    """
    cells = np.stack([_shrink(image) for image in images])  # (N, CELLS, CELLS)
    cells -= np.median(cells, axis=(1, 2), keepdims=True)
    return float(np.median((np.abs(cells - np.median(cells, axis=0)) > CHANGED_LEVELS).mean(axis=(1, 2))))


def _shrink(image: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return cv2.resize(grey, (CELLS, CELLS), interpolation=cv2.INTER_AREA).astype(np.float32)
