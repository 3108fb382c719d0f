"""The water: travelling sines on a plane in perspective, and the swan's wake.

A sine with a moving phase is a weighted sum of a fixed sine and a fixed cosine image. These are computed once, which
makes the slopes of the water at any time a single matrix product.

Lengths named `_frac` are shares of the frame's height.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cygnet.sample.drawing import Image, float32
from cygnet.sample.swan import SWAN_UNIT_FRAC, pose_at

CROP_LEFT_SHARE = 0.40
"""Left edge of the square that ingestion crops by default, as a share of (width - height)."""
BANK_FRAC = 0.185
VANISHING_FRAC = 0.09
WATERLINE_FRAC = 0.68

WAVE_COUNT = 26
WATER_SPEED = 0.07
"""Units of depth per second at which the water passes the camera, which follows the swan."""


@lru_cache(maxsize=2)
def water_plane(width_px: int, height_px: int) -> tuple[Image, Image, Image]:
    """Give x `(1, W)` from the crop's middle and y `(H, 1)`, in frame heights, and nearness `(H, 1)`, 1 / depth."""
    x = (np.arange(width_px, dtype=np.float32) + 0.5 - _crop_middle_px(width_px, height_px)) / height_px
    y = (np.arange(height_px, dtype=np.float32) + 0.5) / height_px
    nearness = np.maximum(y, BANK_FRAC) - VANISHING_FRAC
    return x[None, :], y[:, None], nearness[:, None]


def _crop_middle_px(width_px: int, height_px: int) -> float:
    return CROP_LEFT_SHARE * max(width_px - height_px, 0) + height_px / 2


class Waves(NamedTuple):
    """Travelling sines: radians per unit along x and into depth, radians per second, phase, and steepness."""

    along: NDArray[np.float64]
    across: NDArray[np.float64]
    speed: NDArray[np.float64]
    phase: NDArray[np.float64]
    steepness: NDArray[np.float64]


def _waves(seed: int) -> Waves:
    """Make waves of all lengths, most heading for the camera; long ones are faster, as on deep water."""
    rng = np.random.default_rng((seed, 2))
    length = np.geomspace(0.075, 0.9, WAVE_COUNT) * rng.uniform(0.9, 1.1, WAVE_COUNT)
    heading = rng.normal(0, 0.55, WAVE_COUNT)
    number = 2 * np.pi / length
    steepness = 0.30 * (length / 0.9) ** 0.12 * rng.uniform(0.7, 1.2, WAVE_COUNT)
    return Waves(
        along=number * np.sin(heading),
        across=number * np.cos(heading),
        speed=np.sqrt(0.15 * number),
        phase=rng.uniform(0, 2 * np.pi, WAVE_COUNT),
        steepness=steepness,
    )


@lru_cache(maxsize=1)
def _wave_basis(width_px: int, height_px: int, seed: int) -> Image:
    """Compute the fixed cosine and sine images of every wave: `(2 * WAVE_COUNT, H * W)` float32.

    A wave that is too fine for the pixels at its distance fades out: it would become a moire pattern.
    """
    x, y, nearness = water_plane(width_px, height_px)
    waves = _waves(seed)
    basis = np.empty((2, WAVE_COUNT, height_px, width_px), np.float32)
    for index in range(WAVE_COUNT):
        angle = waves.along[index] * x / nearness + waves.across[index] / nearness
        step = np.abs(np.diff(waves.across[index] / nearness, axis=0, append=np.float32(np.nan)))
        step[-1] = step[-2]
        strength = np.clip((2.2 - step) / 1.2, 0, 1) * (y > BANK_FRAC)
        basis[0, index], basis[1, index] = np.cos(angle) * strength, np.sin(angle) * strength
    return basis.reshape(2 * WAVE_COUNT, -1)


def wave_slopes(time_s: float, width_px: int, height_px: int, seed: int) -> tuple[Image, Image]:
    """Give the slope of the water along x and towards the camera: each `(H, W)` float32, about -1 to 1."""
    waves = _waves(seed)
    phase = waves.phase + waves.speed * time_s + waves.along * WATER_SPEED * time_s
    number = np.hypot(waves.along, waves.across)
    tilt = np.stack([waves.along / number, waves.across / number]) * waves.steepness
    weights = np.concatenate([tilt * np.cos(phase), -tilt * np.sin(phase)], axis=1).astype(np.float32)
    along, across = (weights @ _wave_basis(width_px, height_px, seed)).reshape(2, height_px, width_px)
    return along, across


def wake_slope(time_s: float, width_px: int, height_px: int) -> Image:
    """Give the slope `(H, W)` that the swan adds: two arms spreading behind it, and rings around its hull."""
    x, _, nearness = water_plane(width_px, height_px)
    swan_nearness = WATERLINE_FRAC - VANISHING_FRAC
    pose = pose_at(time_s)
    right = x / nearness - (pose.drift_frac + 0.42 * SWAN_UNIT_FRAC) / swan_nearness
    off = np.abs(1 / nearness - 1 / swan_nearness)
    behind = np.maximum(-right, 0)
    arm = (off - 0.05 - 0.24 * behind) / (0.035 + 0.04 * behind)
    arms = np.exp(-(arm**2)) * np.cos(2.6 * arm) * np.exp(-behind / 0.9) * (right < 0)
    reach = np.hypot((x - pose.drift_frac) / nearness / 1.15, off) - 0.28
    rings = np.exp(-np.abs(reach) / 0.14) * np.sin(34 * reach - 2.4 * time_s)
    return float32(1.3 * arms + 0.32 * rings)
