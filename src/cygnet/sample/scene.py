"""One frame of the sample: swan, water, bank and light, put together for a given time.

The sample is synthetic: anybody can reproduce its pixels at any size, without a download or a licence. It plays the
*normal* scene of an anomaly detector: nothing happens suddenly, and no large area is pure black or pure white, the
colours of the polygon anomalies.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from cygnet.sample.drawing import Image, float32, paint, swing
from cygnet.sample.surroundings import SURROUNDINGS_SHAPE, SURROUNDINGS_UNIT_PX, surroundings
from cygnet.sample.swan import Pose, pose_at, swan_at
from cygnet.sample.water import (
    BANK_FRAC,
    VANISHING_FRAC,
    WATER_SPEED,
    WATERLINE_FRAC,
    wake_slope,
    water_plane,
    wave_slopes,
)

NOISE_SIGMA = 0.8
"""Standard deviation of the sensor noise, grey levels."""


def draw_frame(time_s: float, width_px: int, height_px: int, seed: int) -> NDArray[np.uint8]:
    """Draw the scene at a time.

    Args:
        time_s: Seconds from the start, at least 0.
        width_px: Width of the frame, at least its height; made for 96-1280.
        height_px: Height of the frame; made for 64-720.
        seed: At least 0; waves, bank and sensor noise follow from it.

    Returns:
        `(height_px, width_px, 3)` uint8 BGR, the same for the same arguments.

    Raises:
        ValueError: `time_s` or `seed` is negative.
    """
    rng = np.random.default_rng((seed, 3, round(time_s * 1e6)))
    noise = rng.standard_normal((height_px, width_px, 1), np.float32)
    along, across = wave_slopes(time_s, width_px, height_px, seed)
    across = across + wake_slope(time_s, width_px, height_px)
    image = _draw_surroundings(time_s, along, across, seed)
    image = _draw_water(image, across)
    _draw_reflection(image, pose_at(time_s), along, across)
    _draw_swan(image, pose_at(time_s), across)
    image = image * _light(time_s, width_px, height_px) + NOISE_SIGMA * noise
    return np.asarray(np.clip(image + 0.5, 0, 255), np.uint8)


def _draw_surroundings(time_s: float, along: Image, across: Image, seed: int) -> Image:
    """Draw the bank above the water's edge, and below it the reflection of bank, trees and sky in the tilted water."""
    height_px, width_px = across.shape
    x, y, _ = water_plane(width_px, height_px)
    below = np.clip((y - BANK_FRAC) / 0.5, 0, 1)
    up = np.abs(y - BANK_FRAC) + across * (0.02 + 0.145 * below) * (y > BANK_FRAC)
    sideways = x + WATER_SPEED * (BANK_FRAC - VANISHING_FRAC) * time_s + along * 0.05 * below
    columns = np.mod(sideways * SURROUNDINGS_UNIT_PX, SURROUNDINGS_SHAPE[1])
    rows = np.clip(np.abs(up) * SURROUNDINGS_UNIT_PX, 0, SURROUNDINGS_SHAPE[0] - 1)
    return float32(cv2.remap(surroundings(seed), float32(columns), float32(rows), cv2.INTER_LINEAR))


def _draw_water(image: Image, across: Image) -> Image:
    """Turn the mirrored surroundings below the water's edge into dark water."""
    height_px, width_px = across.shape
    _, y, _ = water_plane(width_px, height_px)
    mirrored = np.clip(0.74 - 0.42 * (y - BANK_FRAC) + 0.10 * across, 0.15, 0.9)
    gloss = 7 * np.clip(across, -1.5, 1.5) * np.clip((y - BANK_FRAC) / 0.3, 0, 1)
    depths = float32([38, 34, 24]) * (1 - mirrored[..., None])
    water = depths + image * mirrored[..., None] * 0.8 + gloss[..., None]
    shore = np.clip((y - BANK_FRAC) * height_px * 0.7 + 0.5, 0, 1) * np.ones_like(across)
    return paint(image, water, shore)


def _draw_reflection(image: Image, pose: Pose, along: Image, across: Image) -> None:
    """Draw the swan's reflection into `image`, broken up by the slopes of the water."""
    height_px, width_px = across.shape
    rows = slice(int(WATERLINE_FRAC * height_px) - 2, height_px)
    right_px, down_px, sag_px = _hull_offsets(pose, rows, width_px, height_px)
    depth = np.clip(down_px / (0.3 * height_px), 0, 1)
    mirror_x = right_px + along[rows] * height_px * (0.006 + 0.05 * depth)
    mirror_up = down_px - sag_px + height_px * (across[rows] * (0.006 + 0.06 * depth) - pose.bob_frac)
    swan = swan_at(mirror_x, mirror_up, height_px, pose._replace(tilt_rad=-pose.tilt_rad))
    swan = float32(cv2.GaussianBlur(swan, (0, 0), 0.0035 * height_px))
    swan *= (np.clip(down_px / 2 + 0.5, 0, 1) * (0.60 - 0.30 * depth))[..., None]
    image[rows] = image[rows] * (1 - swan[..., 3:]) + swan[..., :3] * float32([0.80, 0.78, 0.72])


def _draw_swan(image: Image, pose: Pose, across: Image) -> None:
    """Draw into `image` the part of the swan above the water that laps at it."""
    height_px, width_px = across.shape
    rows = slice(int((WATERLINE_FRAC - 0.48) * height_px), int((WATERLINE_FRAC + 0.05) * height_px))
    right_px, down_px, sag_px = _hull_offsets(pose, rows, width_px, height_px)
    up_px = -down_px - sag_px - pose.bob_frac * height_px
    swan = swan_at(right_px, up_px, height_px, pose)
    swan *= np.clip(0.5 - (down_px + across[rows] * height_px * 0.006), 0, 1)[..., None]
    image[rows] = image[rows] * (1 - swan[..., 3:]) + swan[..., :3]


def _hull_offsets(pose: Pose, rows: slice, width_px: int, height_px: int) -> tuple[Image, Image, Image]:
    """Give the distance of each pixel in `rows` to the right of the swan's middle and below its waterline, and its sag.

    Seen slightly from above, the line where hull and water meet sags towards the camera. All in pixels.
    """
    x, y, _ = water_plane(width_px, height_px)
    right = x - pose.drift_frac
    sag = 0.020 * np.clip(1 - ((right - 0.02) / 0.21) ** 2, 0, 1)
    down = y[rows] - WATERLINE_FRAC - sag
    return right * height_px, down * height_px, sag * height_px


def _light(time_s: float, width_px: int, height_px: int) -> Image:
    """Give the gain of the daylight `(H, W, 3)`: thin clouds pass slowly, bright light is slightly warmer."""
    x, y, _ = water_plane(width_px, height_px)
    cloud = np.sin(1.3 * x + 0.9 * y - 2 * math.pi * time_s / 26) + 0.5 * swing(time_s, 17)
    return 1 + cloud[..., None] * float32([0.018, 0.028, 0.034])
