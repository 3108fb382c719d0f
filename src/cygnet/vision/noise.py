"""Smooth noise, for blots and textures."""

import cv2
import numpy as np


def octaves(rng: np.random.Generator, size: tuple[int, int], cells: int, count: int) -> np.ndarray:
    """Sum noise of `count` octaves, each twice as fine and half as strong.

    Value noise with cubic interpolation; close enough to Perlin's.

    Args:
        rng: The generator.
        size: H and W.
        cells: Cells of the coarsest grid along the longer side.
        count: Number of octaves.

    Returns:
        `(H, W)` float32, stretched to 0-1.
    """
    height, width = size
    total = np.zeros(size, np.float32)
    for octave in range(count):
        fineness = cells * 2**octave / max(size)
        grid = rng.random((max(2, round(height * fineness)), max(2, round(width * fineness))), np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(0.5**octave)
    return stretch(total)


def stretch(field: np.ndarray) -> np.ndarray:
    """Stretch `(H, W)` float32 to 0-1."""
    return cv2.normalize(field, np.empty_like(field), 0, 1, cv2.NORM_MINMAX)
