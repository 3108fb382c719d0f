"""The surroundings: a blurred bank with trees and sky, in the distance and mirrored in the water."""

from functools import lru_cache

import cv2
import numpy as np

from cygnet.sample.drawing import Image, float32, paint

SURROUNDINGS_UNIT_PX = 200
"""Pixels of the texture per frame height."""
SURROUNDINGS_SHAPE = (240, 1024)


@lru_cache(maxsize=4)
def surroundings(seed: int) -> Image:
    """Paint bank, trees and sky: `(240, 1025, 3)` float32 BGR, row 0 at the water's edge, last column as the first."""
    rng = np.random.default_rng((seed, 1))
    row_count = SURROUNDINGS_SHAPE[0]
    up = np.arange(row_count, dtype=np.float32)[:, None] / SURROUNDINGS_UNIT_PX
    leaves = _wrapped_noise(rng, row_count, 7, 5) + 0.8 * _wrapped_noise(rng, row_count, 26, 16)
    image: Image = float32([52, 66, 56]) + leaves[..., None] * float32([7, 11, 9])
    thickets = 0.22 * _wrapped_noise(rng, row_count, 1.3, 10) + 0.20 * _wrapped_noise(rng, 1, 16, 1)
    tops = 0.070 + 0.010 * _wrapped_noise(rng, 1, 2, 1) + 0.014 * _wrapped_noise(rng, 1, 24, 1)
    reeds = np.clip(0.32 + thickets, 0, 0.8) * np.clip((tops - up) / 0.045, 0, 1)
    image = paint(image, float32([66, 104, 104]), reeds)
    image *= (0.55 + 0.45 * np.clip(up / 0.035, 0, 1))[..., None]
    treetops = 0.44 + 0.05 * _wrapped_noise(rng, 1, 30, 1) + 0.02 * _wrapped_noise(rng, 1, 8, 1)
    sky = np.clip((up - treetops) / 0.10, 0, 1)
    image = paint(image, float32([122, 114, 103]), sky)
    # smoothed vertically only: across, the blur would not wrap around and would leave a seam
    image = float32(cv2.GaussianBlur(np.maximum(image, 16), (1, 9), 0))
    return float32(cv2.copyMakeBorder(image, 0, 0, 0, 1, cv2.BORDER_WRAP))


def _wrapped_noise(rng: np.random.Generator, row_count: int, sigma_x_px: float, sigma_y_px: float) -> Image:
    """Make soft noise, mean 0 and standard deviation 1, as wide as the surroundings and periodic across."""
    width_px = SURROUNDINGS_SHAPE[1]
    noise = np.tile(rng.standard_normal((row_count, width_px), np.float32), (1, 3))
    smooth = float32(cv2.GaussianBlur(noise, (0, 0), sigmaX=sigma_x_px, sigmaY=sigma_y_px))
    smooth = smooth[:, width_px : 2 * width_px]
    return float32((smooth - smooth.mean()) / smooth.std())
