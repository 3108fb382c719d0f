"""The kinds of anomaly that change spots: small places anywhere in an image.

A spot is an irregular polygon (or, for the CutPaste kinds, a rectangle); each kind decides what happens inside.
Severity 0-1 goes from barely visible to plain, along the one quantity that makes this kind visible.

- `polygon_soft`: the local mean, brighter or darker, with the noise of the place.
- `cutpaste`, `scar`: a piece of the same image, large or thin, somewhere else (Li et al., "CutPaste", 2021).
- `perlin`: a noise-shaped blot of another texture (Zavrtanik et al., "DRAEM", 2021).
- `blend`: a piece of another frame by Poisson editing (Perez et al., 2003; Schlueter et al., "Natural Synthetic
  Anomalies", 2022).
- `blur`: out of focus. `shift`: pulled sideways.

Sizes are shares of the image's side, which makes a kind look the same at every size.
"""

import math
from collections.abc import Callable
from functools import wraps
from typing import NamedTuple

import cv2
import numpy as np

from cygnet.anomaly_kinds import KindFunction
from cygnet.parameters.synthesis import Spots
from cygnet.vision.noise import octaves
from cygnet.vision.polygons import SPOT_SHAPE, SUBPIXEL_BITS, SUBPIXELS, irregular_polygon

BORDER = cv2.BORDER_REFLECT_101
CANDIDATES = 8
"""Number of pieces of the donor that `blend` chooses from."""
FEWEST_CLONED_PX = 3
"""`cv2.seamlessClone` fails on narrower masks."""


class Spot(NamedTuple):
    """A place to change: centre and radius in pixels, severity 0-1."""

    x_px: float
    y_px: float
    radius_px: float
    severity: float


class Rectangle(NamedTuple):
    """The form of a pasted rectangle: its size in radii of the spot, and length / width."""

    reach: float
    aspect: float


Change = Callable[[np.ndarray, np.ndarray, np.random.Generator, Spot, Spots], None]
"""`(image, donor, rng, spot, settings)`: changes `image` `(H, W, 3)` uint8 in place, around the spot."""


def in_spots(change: Change) -> KindFunction:
    """Turn the change of one spot into a kind: it changes a random number of spots at random places, on a copy.

    The centres lie anywhere in the image, so spots may reach over its edge. The change itself stays accessible as
    `__wrapped__`.
    """

    @wraps(change)
    def draw(
        image: np.ndarray, donor: np.ndarray, rng: np.random.Generator, severity: float, settings: Spots
    ) -> np.ndarray:
        drawn = image.copy()
        height, width = image.shape[:2]
        for _ in range(int(rng.integers(settings.spots[0], settings.spots[1] + 1))):
            across, along, share = rng.random(3).tolist()
            radius_px = max(_between(settings.radius_frac, share) * min(height, width), 1.5)
            change(drawn, donor, rng, Spot(across * width, along * height, radius_px, severity), settings)
        return drawn

    return draw


@in_spots
def polygon_soft(image: np.ndarray, _donor: np.ndarray, rng: np.random.Generator, spot: Spot, settings: Spots) -> None:
    """Fill with the local mean, shifted by `soft_shift_levels`, and the noise of the region."""
    rows, columns, region = _cut(image, spot, 1.6)
    if not region.size:
        return
    inside = _polygon(rng, spot, rows, columns)
    shift = _between(settings.soft_shift_levels, spot.severity) * (1 if rng.random() < 0.5 else -1)
    mean = np.array(cv2.mean(region, inside)[:3])
    if not 0 <= mean.mean() + shift <= 255:
        shift = -shift
    noise = region.astype(np.float32) - cv2.GaussianBlur(region, (5, 5), 0, borderType=BORDER)
    filled = np.clip(noise + (mean + shift).astype(np.float32), 0, 255).astype(np.uint8)
    cv2.copyTo(filled, inside, region)


@in_spots
def cutpaste(image: np.ndarray, _donor: np.ndarray, rng: np.random.Generator, spot: Spot, settings: Spots) -> None:
    """Paste a rectangle of the same image, with its colours jittered."""
    aspect = math.exp(rng.uniform(-1, 1) * math.log(2.5))
    _paste_rectangle(image, rng, spot, Rectangle(1.0, aspect), settings)


@in_spots
def scar(image: np.ndarray, _donor: np.ndarray, rng: np.random.Generator, spot: Spot, settings: Spots) -> None:
    """Paste a thin rectangle of the same image at an angle, with its colours jittered."""
    _paste_rectangle(image, rng, spot, Rectangle(1.4, rng.uniform(5, 10)), settings)


def _paste_rectangle(
    image: np.ndarray, rng: np.random.Generator, spot: Spot, rectangle: Rectangle, settings: Spots
) -> None:
    reach, aspect = rectangle
    length_px = spot.radius_px * reach * math.sqrt(min(aspect, 4))  # half the length; width_px likewise
    width_px = max(length_px / aspect, 1.0)
    turn_deg = rng.uniform(-90, 90) if aspect >= 5 else 90.0 * int(rng.integers(4))
    rows, columns, region = _cut(image, spot, 2.2 * reach)
    if not region.size:
        return
    inside = np.zeros(region.shape[:2], np.uint8)
    centre_px = (spot.x_px - columns.start, spot.y_px - rows.start)
    corners = cv2.boxPoints((centre_px, (2 * length_px, 2 * width_px), turn_deg))
    cv2.fillConvexPoly(inside, np.rint(corners * SUBPIXELS).astype(np.int32), 255, shift=SUBPIXEL_BITS)
    height, width = region.shape[:2]
    top = int(rng.integers(image.shape[0] - height + 1))
    left = int(rng.integers(image.shape[1] - width + 1))
    jitter = _between(settings.paste_jitter_levels, spot.severity) * rng.choice([-1.0, 1.0]) + rng.uniform(-8, 8, 3)
    piece = image[top : top + height, left : left + width].astype(np.float32) + jitter.astype(np.float32)
    cv2.copyTo(np.clip(piece, 0, 255).astype(np.uint8), inside, region)


@in_spots
def perlin(image: np.ndarray, _donor: np.ndarray, rng: np.random.Generator, spot: Spot, settings: Spots) -> None:
    """Blend a coloured noise texture into a noise-shaped blot."""
    _, _, region = _cut(image, spot, 1.5)
    if min(region.shape[:2]) < 3:
        return
    size = region.shape[:2]
    shape = octaves(rng, size, cells=3, count=3)
    down = np.linspace(-1, 1, size[0], dtype=np.float32)[:, None]
    sideways = np.linspace(-1, 1, size[1], dtype=np.float32)[None]
    inside = (shape > 0.25 + 0.5 * (down**2 + sideways**2)).astype(np.float32)  # the blot ends within its spot
    texture = octaves(rng, size, cells=max(3, max(size) // 3), count=2)[..., None]
    first, second = rng.uniform(0, 255, (2, 3)).astype(np.float32)
    opacity = (inside * np.float32(_between(settings.perlin_opacity, spot.severity)))[..., None]
    blended = region * (1 - opacity) + (first + texture * (second - first)) * opacity
    region[:] = np.clip(blended, 0, 255).astype(np.uint8)


@in_spots
def blend(image: np.ndarray, donor: np.ndarray, rng: np.random.Generator, spot: Spot, settings: Spots) -> None:
    """Clone a piece of the donor seamlessly, from another place: at the same one it might change nothing."""
    rows, columns, region = _cut(image, spot, 1.6)
    height, width = region.shape[:2]
    if min(height, width) < 5:
        return
    inside = _polygon(rng, spot, rows, columns)
    inside[[0, -1], :] = inside[:, [0, -1]] = 0
    x_px, y_px, box_width, box_height = cv2.boundingRect(inside)
    if min(box_width, box_height) < FEWEST_CLONED_PX:
        return
    tops = rng.integers(donor.shape[0] - height + 1, size=CANDIDATES)
    lefts = rng.integers(donor.shape[1] - width + 1, size=CANDIDATES)
    pieces = [donor[top : top + height, left : left + width] for top, left in zip(tops, lefts, strict=True)]
    piece = np.ascontiguousarray(max(pieces, key=np.std))  # a flat one would be invisible
    centre = (x_px + box_width // 2, y_px + box_height // 2)
    cloned = cv2.seamlessClone(piece, region.copy(), inside, centre, cv2.NORMAL_CLONE)
    opacity = _between(settings.blend_opacity, spot.severity)
    region[:] = cv2.addWeighted(cloned, opacity, region.copy(), 1 - opacity, 0)


@in_spots
def blur(image: np.ndarray, _donor: np.ndarray, rng: np.random.Generator, spot: Spot, settings: Spots) -> None:
    """Blur, with a soft edge."""
    rows, columns, region = _cut(image, spot, 1.6)
    if not region.size:
        return
    sigma_px = _between(settings.blur_sigma_frac, spot.severity) * min(image.shape[:2])
    blurred = cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=BORDER)[rows, columns]
    edge = cv2.GaussianBlur(_polygon(rng, spot, rows, columns), (0, 0), max(0.1 * spot.radius_px, 0.5))[..., None] / 255
    region[:] = np.rint(region + edge * (blurred.astype(np.float32) - region)).astype(np.uint8)


@in_spots
def shift(image: np.ndarray, _donor: np.ndarray, rng: np.random.Generator, spot: Spot, settings: Spots) -> None:
    """Pull the spot sideways, most at its centre and not at all at its edge."""
    rows, columns, region = _cut(image, spot, 1.5)
    if not region.size:
        return
    length_px = _between(settings.shift_frac, spot.severity) * min(image.shape[:2])
    angle = rng.uniform(0, 2 * math.pi)
    down, across = np.mgrid[rows, columns].astype(np.float32)
    distance = np.hypot(across - spot.x_px, down - spot.y_px) / (1.5 * spot.radius_px)
    pull_px = np.float32(length_px) * np.clip(1 - distance**2, 0, 1) ** 2
    moved = cv2.remap(
        image, across + pull_px * math.cos(angle), down + pull_px * math.sin(angle), cv2.INTER_LINEAR, borderMode=BORDER
    )
    region[:] = moved


def _between(ends: tuple[float, float], share: float) -> float:
    """Go `share` of the way from the first end to the second."""
    low, high = ends
    return low + share * (high - low)


def _cut(image: np.ndarray, spot: Spot, reach: float) -> tuple[slice, slice, np.ndarray]:
    """Cut the square of `reach` radii around a spot, as far as it lies in the image: rows, columns, and the view."""
    height, width = image.shape[:2]
    half_px = reach * spot.radius_px
    rows = slice(max(0, math.floor(spot.y_px - half_px)), min(height, math.ceil(spot.y_px + half_px)))
    columns = slice(max(0, math.floor(spot.x_px - half_px)), min(width, math.ceil(spot.x_px + half_px)))
    return rows, columns, image[rows, columns]


def _polygon(rng: np.random.Generator, spot: Spot, rows: slice, columns: slice) -> np.ndarray:
    """Fill an irregular polygon around a spot: `(rows, columns)` uint8, 255 inside."""
    points = irregular_polygon(rng, (spot.x_px - columns.start, spot.y_px - rows.start), spot.radius_px, SPOT_SHAPE)
    inside = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    cv2.fillPoly(inside, [points], 255, shift=SUBPIXEL_BITS)
    return inside
