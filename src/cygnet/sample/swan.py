"""Draws Cygnet's sample video: a white swan gliding on dark, rippled water.

The sample is drawn rather than filmed so that anyone can make the very same pixels again, at any size,
with no download and no licence to check. It plays the *normal* scene of an anomaly detector: nothing
happens suddenly, and no large area is pure black or pure white, the colours in which anomalies are drawn
later.

A frame is put together from three things that do not change, each made once and kept:

* the *surroundings*, a blurred bank with trees and sky: the camera sees its foot at the top of the frame, and
  the water mirrors the rest;
* the *waves*, travelling sines on a plane in perspective. A sine with a moving phase is a weighted sum of a
  fixed sine and a fixed cosine image, so the slopes of the water at any time are one matrix product;
* the *swan*, painted with soft shading at a high resolution, then moved, tilted and swayed by resampling.

Lengths called ``_frac`` are fractions of the frame's height. The swan has its own unit, about the length of
its body, with the origin where the middle of the body meets the water and y pointing up.
"""

import math
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Image = NDArray[np.floating[Any]]  # float32 wherever it is as large as a frame
Points = NDArray[np.float64]

# Where things are in the frame.
CROP_LEFT_SHARE = 0.40  # of (width - height): left edge of the square that the pipeline cuts out
BANK_FRAC = 0.185
VANISHING_FRAC = 0.09
WATERLINE_FRAC = 0.68
SWAN_UNIT_FRAC = 0.45

# The swan's canvas.
CANVAS_UNIT_PX = 440
CANVAS_LEFT, CANVAS_RIGHT, CANVAS_BOTTOM, CANVAS_TOP = -0.84, 0.84, -0.20, 1.04
SPRITE_OVERSAMPLING = 2.0

# The surroundings.
SURROUNDINGS_UNIT_PX = 200
SURROUNDINGS_SHAPE = (240, 1024)

# The water.
WAVE_COUNT = 26
WATER_SPEED = 0.07  # in units of depth a second: how fast the water passes the camera that follows the swan

NOISE_SIGMA = 0.8

LIGHT_DIRECTION = np.array([0.4206, 0.7209, 0.5507], np.float32)  # of unit length: right, up, to the camera

BODY = [
    (0.526, 0.15), (0.508, 0.04), (0.42, -0.06), (0.12, -0.12), (-0.22, -0.10), (-0.42, -0.01), (-0.55, 0.11),
    (-0.64, 0.22), (-0.73, 0.335), (-0.60, 0.33), (-0.44, 0.32), (-0.20, 0.36), (0.05, 0.38), (0.25, 0.38),
    (0.38, 0.44), (0.463, 0.42), (0.499, 0.33), (0.521, 0.24),
]  # fmt: skip
NECK = [  # x, y, radius
    (0.14, 0.17, 0.160), (0.29, 0.205, 0.168), (0.375, 0.30, 0.122), (0.39, 0.42, 0.080),
    (0.345, 0.545, 0.058), (0.29, 0.655, 0.050), (0.275, 0.765, 0.047), (0.315, 0.862, 0.047),
    (0.385, 0.905, 0.051), (0.44, 0.895, 0.052),
]  # fmt: skip
HEAD = [
    (0.345, 0.925), (0.40, 0.958), (0.46, 0.955), (0.515, 0.925), (0.55, 0.885), (0.535, 0.842),
    (0.47, 0.832), (0.40, 0.845), (0.35, 0.87),
]  # fmt: skip
BEAK = [
    (0.535, 0.918), (0.575, 0.897), (0.625, 0.862), (0.672, 0.828), (0.694, 0.803), (0.684, 0.785),
    (0.64, 0.795), (0.585, 0.818), (0.535, 0.838),
]  # fmt: skip
LORE = [
    (0.476, 0.902), (0.52, 0.925), (0.562, 0.915), (0.552, 0.88), (0.548, 0.832), (0.528, 0.84),
    (0.515, 0.88),
]  # fmt: skip
BILL_EDGE = [(0.535, 0.851), (0.585, 0.829), (0.64, 0.806), (0.686, 0.79)]
WING = [
    (0.33, 0.22), (0.30, 0.33), (0.20, 0.41), (0.02, 0.465), (-0.20, 0.475), (-0.42, 0.45), (-0.60, 0.405),
    (-0.55, 0.29), (-0.42, 0.16), (-0.22, 0.065), (0.02, 0.035), (0.22, 0.08),
]  # fmt: skip

TONES = [0.0, 0.35, 0.7, 1.0]
PLUMAGE_BGR = [(112, 98, 84), (168, 158, 146), (205, 204, 198), (223, 226, 227)]
ORANGE_BGR = [(18, 42, 110), (26, 78, 170), (44, 116, 214), (110, 168, 236)]
BLACK_BGR = [(18, 17, 17), (26, 24, 23), (46, 44, 42), (92, 90, 88)]


class FeatherRow(NamedTuple):
    """Feathers laid side by side: their roots and their tips each follow a curve, lowest feather first."""

    roots: list[tuple[float, float]]
    tips: list[tuple[float, float]]
    feather_count: int
    width: float


TAIL_ROW = FeatherRow(
    [(-0.40, 0.16), (-0.40, 0.22), (-0.40, 0.27)], [(-0.735, 0.30), (-0.775, 0.355), (-0.765, 0.41)], 5, 0.045
)
WING_ROWS = [
    FeatherRow(
        [(0.02, 0.05), (-0.06, 0.15), (-0.10, 0.28), (-0.06, 0.38)],
        [(-0.30, 0.075), (-0.53, 0.20), (-0.68, 0.345), (-0.66, 0.455)],
        9,
        0.046,
    ),
    FeatherRow(
        [(0.18, 0.075), (0.10, 0.17), (0.07, 0.29), (0.10, 0.39)],
        [(-0.10, 0.065), (-0.26, 0.165), (-0.36, 0.30), (-0.36, 0.445)],
        9,
        0.044,
    ),
    FeatherRow(
        [(0.28, 0.12), (0.22, 0.19), (0.20, 0.29), (0.21, 0.37)],
        [(0.07, 0.075), (-0.03, 0.165), (-0.08, 0.285), (-0.08, 0.43)],
        9,
        0.040,
    ),
    FeatherRow(
        [(0.33, 0.16), (0.29, 0.22), (0.28, 0.29), (0.27, 0.35)],
        [(0.19, 0.10), (0.13, 0.18), (0.10, 0.285), (0.11, 0.41)],
        8,
        0.034,
    ),
]


class Pose(NamedTuple):
    """Where the swan is and how it is held; the sway is in the swan's unit, at its crown."""

    drift_frac: float
    bob_frac: float
    tilt_rad: float
    neck_sway: float


def _float32(values: ArrayLike) -> Image:
    return np.asarray(values, np.float32)


# --- Curves and shapes ---


def _spline(knots: Points, sample_count: int, closed: bool) -> Points:
    """Samples of a Catmull-Rom spline through ``knots`` (n, dims), as (sample_count, dims)."""
    padded = np.vstack([knots[-1:], knots, knots[:2]] if closed else [knots[:1], knots, knots[-1:]])
    span_count = len(padded) - 3
    position = np.linspace(0, span_count, sample_count, endpoint=not closed)
    span = np.minimum(position.astype(int), span_count - 1)
    u = (position - span)[:, None]
    p0, p1, p2, p3 = (padded[span + offset] for offset in range(4))
    bend, twist = 2 * p0 - 5 * p1 + 4 * p2 - p3, 3 * p1 - p0 - 3 * p2 + p3
    return np.asarray(0.5 * (2 * p1 + (p2 - p0) * u + bend * u**2 + twist * u**3))


def _tube(axis: Points) -> Points:
    """The outline of a bent tube whose ``axis`` gives x, y and radius in each row."""
    along = np.gradient(axis[:, :2], axis=0)
    across = np.column_stack([-along[:, 1], along[:, 0]]) / np.linalg.norm(along, axis=1, keepdims=True)
    reach = across * axis[:, 2:]
    return np.vstack([axis[:, :2] + reach, (axis[:, :2] - reach)[::-1]])


def _feather(root: Points, tip: Points, width: float) -> Points:
    """The outline of one feather: a slightly bowed leaf with a rounded tip."""
    u = np.sin(np.linspace(0, np.pi / 2, 32))[:, None]
    length = np.linalg.norm(tip - root)
    bow = np.array([0.0, -0.07]) * length * np.sin(np.pi * u)
    radius = width * np.sqrt(np.clip(1 - (1 - u / 0.35).clip(0) ** 2, 0.09, 1)) * np.sqrt(1 - u**4)
    return _tube(np.hstack([root + (tip - root) * u + bow, radius]))


def _canvas_px(points: Points) -> Points:
    return (points - [CANVAS_LEFT, CANVAS_TOP]) * [CANVAS_UNIT_PX, -CANVAS_UNIT_PX]


def _canvas_axes() -> tuple[Image, Image]:
    """The x (1, width) and y (height, 1) of the canvas's pixels, in the swan's unit."""
    width_px = round((CANVAS_RIGHT - CANVAS_LEFT) * CANVAS_UNIT_PX)
    height_px = round((CANVAS_TOP - CANVAS_BOTTOM) * CANVAS_UNIT_PX)
    x = CANVAS_LEFT + np.arange(width_px, dtype=np.float32)[None, :] / CANVAS_UNIT_PX
    y = CANVAS_TOP - np.arange(height_px, dtype=np.float32)[:, None] / CANVAS_UNIT_PX
    return x, y


def _mask(outline: Points) -> Image:
    """The antialiased inside of ``outline``, 0 to 1, on the canvas."""
    x, y = _canvas_axes()
    canvas = np.zeros((y.size, x.size), np.uint8)
    cv2.fillPoly(canvas, [np.round(_canvas_px(outline) * 256).astype(np.int32)], 255, cv2.LINE_AA, shift=8)
    return _float32(cv2.GaussianBlur(_float32(canvas) / 255, (0, 0), 0.7))


def _blur(image: Image, radius: float) -> Image:
    return _float32(cv2.GaussianBlur(image, (0, 0), radius * CANVAS_UNIT_PX))


def _relief_light(mask: Image, radius: float) -> Image:
    """Light on ``mask`` as if it were a pillow whose rim is about ``radius`` wide: 0 (turned away) to 1."""
    height = _blur(mask, radius)
    gain = 1.7 * radius * CANVAS_UNIT_PX
    normal_x = -cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=gain / 8)
    normal_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=gain / 8)
    facing = normal_x * LIGHT_DIRECTION[0] + normal_y * LIGHT_DIRECTION[1] + LIGHT_DIRECTION[2]
    light = facing / np.sqrt(normal_x**2 + normal_y**2 + 1)
    return _float32(np.clip(light, 0, 1))


# --- The swan ---


def _paint(image: Image, colour: Image | float, mask: Image) -> Image:
    mask = mask.reshape(mask.shape + (1,) * (image.ndim - 2))
    return image + (colour - image) * mask


def _row_outlines(row: FeatherRow) -> list[Points]:
    roots = _spline(np.array(row.roots), row.feather_count, closed=False)
    tips = _spline(np.array(row.tips), row.feather_count, closed=False)
    return [_feather(root, tip, row.width) for root, tip in zip(roots, tips, strict=True)]


def _lay_feather(tone: Image, outline: Points) -> Image:
    """Lays one feather on ``tone``: its soft shadow, then its blade, which grows out of the ones before."""
    x, y = _canvas_axes()
    root, tip = _float32((outline[0] + outline[-1]) / 2), _float32(outline[len(outline) // 2])
    along = (tip - root) / np.sum((tip - root) ** 2)
    grown = np.clip(((x - root[0]) * along[0] + (y - root[1]) * along[1]) / 0.75, 0, 1)
    mask = _mask(outline)
    tone = tone * (1 - 0.34 * grown * _blur(mask, 0.014))
    return _paint(tone, 0.50 + 0.60 * _relief_light(mask, 0.012), mask * grown)


def _torso_mask() -> Image:
    body = _mask(_spline(np.array(BODY), 200, closed=True))
    neck = _mask(_tube(_spline(np.array(NECK), 160, closed=False)))
    head = _mask(_spline(np.array(HEAD), 80, closed=True))
    return np.maximum(np.maximum(body, neck), head)


def _plumage() -> tuple[Image, Image]:
    """The white of the swan: brightness, 0 to 1, and coverage, 0 to 1."""
    x, y = _canvas_axes()
    torso = _torso_mask()
    cover, tone = torso, 0.06 + 0.45 * _relief_light(torso, 0.10) + 0.55 * _relief_light(torso, 0.035)
    for outline in _row_outlines(TAIL_ROW):
        cover = np.maximum(cover, _mask(outline))
        tone = _lay_feather(tone, outline)
    wing = _mask(_spline(np.array(WING), 160, closed=True))
    shoulder = np.clip((0.36 - x) / 0.16, 0, 1)
    feathered = _paint(tone * (1 - 0.35 * _blur(wing, 0.03)), 0.3 + 0.6 * _relief_light(wing, 0.08), wing)
    cover = np.maximum(cover, wing)
    for outline in [outline for row in WING_ROWS for outline in _row_outlines(row)]:
        cover = np.maximum(cover, _mask(outline))
        feathered = _lay_feather(feathered, outline)
    round_wing = 0.46 + 0.75 * _relief_light(wing, 0.13)
    tone = _paint(tone, feathered * round_wing, shoulder * np.ones_like(tone))
    return tone * (1 - 0.45 * np.exp(-np.maximum(y, 0) / 0.07)), cover


def _coloured(tone: Image, ramp_bgr: list[tuple[int, int, int]]) -> Image:
    channels = np.array(ramp_bgr, np.float64).T
    return _float32(np.dstack([np.interp(tone, TONES, channel) for channel in channels]))


def _disc(centre: tuple[float, float], radii: tuple[float, float]) -> Points:
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.column_stack([np.cos(turn), np.sin(turn)]) * radii + centre


def _face() -> list[tuple[Image, Image]]:
    """Colour and mask of each part of the face, from the beak to the glint in the eye."""
    beak = _mask(_spline(np.array(BEAK), 80, closed=True))
    edge = np.column_stack([_spline(np.array(BILL_EDGE), 30, closed=False), np.full(30, 0.004)])
    blacks = [
        _tube(edge),
        _disc((0.686, 0.797), (0.014, 0.013)),
        _spline(np.array(LORE), 60, closed=True),
        _disc((0.553, 0.915), (0.026, 0.021)),
        _disc((0.466, 0.908), (0.0125, 0.0120)),
    ]
    parts = [(_coloured(0.05 + 0.9 * _relief_light(beak, 0.02), ORANGE_BGR), beak)]
    parts += [(_coloured(_relief_light(mask, 0.012) - 0.2, BLACK_BGR), mask) for mask in map(_mask, blacks)]
    return [*parts, (_float32(190), _mask(_disc((0.470, 0.911), (0.004, 0.004))))]


@cache
def _swan_canvas() -> Image:
    """The whole swan, float32 (height, width, 4): BGR, 0 to 255, times coverage; then coverage, 0 to 1."""
    tone, cover = _plumage()
    image: Image = _coloured(tone, PLUMAGE_BGR) * cover[..., None]
    for colour, mask in _face():
        image, cover = _paint(image, colour, mask), _paint(cover, 1.0, mask)
    return _float32(np.dstack([image, cover]))


@lru_cache(maxsize=4)
def _swan_sprite(unit_px: float) -> Image:
    """The swan's canvas at ``unit_px`` pixels to the swan's unit."""
    scale = unit_px / CANVAS_UNIT_PX
    canvas = _swan_canvas()
    size_px = (round(canvas.shape[1] * scale), round(canvas.shape[0] * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return _float32(cv2.resize(canvas, size_px, interpolation=interpolation))


def _swing(time_s: float, period_s: float, phase_rad: float = 0.0) -> float:
    """A swing between -1 and 1; a plain float, which leaves float32 images float32."""
    return math.sin(2 * math.pi * time_s / period_s + phase_rad)


def _pose(time_s: float) -> Pose:
    return Pose(
        drift_frac=0.055 * _swing(time_s, 30),
        bob_frac=0.0045 * _swing(time_s, 3.4) + 0.0020 * _swing(time_s, 5.3, 1.0),
        tilt_rad=0.010 * _swing(time_s, 4.1, 0.7),
        neck_sway=0.028 * _swing(time_s, 7.5),
    )


# --- The surroundings and the water ---


def _wrapped_noise(rng: np.random.Generator, row_count: int, sigma_x_px: float, sigma_y_px: float) -> Image:
    """Soft noise of mean 0 and deviation 1, as wide as the surroundings, that repeats from left to right."""
    width_px = SURROUNDINGS_SHAPE[1]
    noise = np.tile(rng.standard_normal((row_count, width_px), np.float32), (1, 3))
    smooth = _float32(cv2.GaussianBlur(noise, (0, 0), sigmaX=sigma_x_px, sigmaY=sigma_y_px))
    smooth = smooth[:, width_px : 2 * width_px]
    return _float32((smooth - smooth.mean()) / smooth.std())


@lru_cache(maxsize=4)
def _surroundings(seed: int) -> Image:
    """Bank, trees and sky as float32 BGR, row 0 at the water's edge; the last column repeats the first."""
    rng = np.random.default_rng((seed, 1))
    row_count = SURROUNDINGS_SHAPE[0]
    up = np.arange(row_count, dtype=np.float32)[:, None] / SURROUNDINGS_UNIT_PX
    leaves = _wrapped_noise(rng, row_count, 7, 5) + 0.8 * _wrapped_noise(rng, row_count, 26, 16)
    image: Image = _float32([52, 66, 56]) + leaves[..., None] * _float32([7, 11, 9])
    thickets = 0.22 * _wrapped_noise(rng, row_count, 1.3, 10) + 0.20 * _wrapped_noise(rng, 1, 16, 1)
    tops = 0.070 + 0.010 * _wrapped_noise(rng, 1, 2, 1) + 0.014 * _wrapped_noise(rng, 1, 24, 1)
    reeds = np.clip(0.32 + thickets, 0, 0.8) * np.clip((tops - up) / 0.045, 0, 1)
    image = _paint(image, _float32([66, 104, 104]), reeds)
    image *= (0.55 + 0.45 * np.clip(up / 0.035, 0, 1))[..., None]
    treetops = 0.44 + 0.05 * _wrapped_noise(rng, 1, 30, 1) + 0.02 * _wrapped_noise(rng, 1, 8, 1)
    sky = np.clip((up - treetops) / 0.10, 0, 1)
    image = _paint(image, _float32([122, 114, 103]), sky)
    # Smoothed upwards only: across, the blur would not wrap and would leave a seam.
    image = _float32(cv2.GaussianBlur(np.maximum(image, 16), (1, 9), 0))
    return _float32(cv2.copyMakeBorder(image, 0, 0, 0, 1, cv2.BORDER_WRAP))


@lru_cache(maxsize=2)
def _water_plane(width_px: int, height_px: int) -> tuple[Image, Image, Image]:
    """Of each pixel: x and y in heights of the frame (x from the crop's middle), and nearness, 1 / depth."""
    x = (np.arange(width_px, dtype=np.float32) + 0.5 - _crop_middle_px(width_px, height_px)) / height_px
    y = (np.arange(height_px, dtype=np.float32) + 0.5) / height_px
    nearness = np.maximum(y, BANK_FRAC) - VANISHING_FRAC
    return x[None, :], y[:, None], nearness[:, None]


def _crop_middle_px(width_px: int, height_px: int) -> float:
    return CROP_LEFT_SHARE * max(width_px - height_px, 0) + height_px / 2


class Waves(NamedTuple):
    """Travelling sines: radians to a unit along x and into depth, radians a second, and steepness."""

    along: NDArray[np.float64]
    across: NDArray[np.float64]
    speed: NDArray[np.float64]
    phase: NDArray[np.float64]
    steepness: NDArray[np.float64]


def _waves(seed: int) -> Waves:
    """Waves of all lengths, most rolling towards the camera; long ones run faster, as on deep water."""
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
    """Fixed cosine and sine images of every wave, float32 (2 * WAVE_COUNT, height * width).

    A wave too fine for the pixels at its distance fades out instead of turning into a moire.
    """
    x, y, nearness = _water_plane(width_px, height_px)
    waves = _waves(seed)
    basis = np.empty((2, WAVE_COUNT, height_px, width_px), np.float32)
    for index in range(WAVE_COUNT):
        angle = waves.along[index] * x / nearness + waves.across[index] / nearness
        step = np.abs(np.diff(waves.across[index] / nearness, axis=0, append=np.float32(np.nan)))
        step[-1] = step[-2]
        strength = np.clip((2.2 - step) / 1.2, 0, 1) * (y > BANK_FRAC)
        basis[0, index], basis[1, index] = np.cos(angle) * strength, np.sin(angle) * strength
    return basis.reshape(2 * WAVE_COUNT, -1)


def _wave_slopes(time_s: float, width_px: int, height_px: int, seed: int) -> tuple[Image, Image]:
    """Slope of the water along x and towards the camera, each float32 (height, width), about -1 to 1."""
    waves = _waves(seed)
    phase = waves.phase + waves.speed * time_s + waves.along * WATER_SPEED * time_s
    number = np.hypot(waves.along, waves.across)
    tilt = np.stack([waves.along / number, waves.across / number]) * waves.steepness
    weights = np.concatenate([tilt * np.cos(phase), -tilt * np.sin(phase)], axis=1).astype(np.float32)
    along, across = (weights @ _wave_basis(width_px, height_px, seed)).reshape(2, height_px, width_px)
    return along, across


def _wake_slope(time_s: float, width_px: int, height_px: int) -> Image:
    """Slope that the swan adds to the water: two arms spreading behind it, and rings round its hull."""
    x, _, nearness = _water_plane(width_px, height_px)
    swan_nearness = WATERLINE_FRAC - VANISHING_FRAC
    pose = _pose(time_s)
    right = x / nearness - (pose.drift_frac + 0.42 * SWAN_UNIT_FRAC) / swan_nearness
    off = np.abs(1 / nearness - 1 / swan_nearness)
    behind = np.maximum(-right, 0)
    arm = (off - 0.05 - 0.24 * behind) / (0.035 + 0.04 * behind)
    arms = np.exp(-(arm**2)) * np.cos(2.6 * arm) * np.exp(-behind / 0.9) * (right < 0)
    reach = np.hypot((x - pose.drift_frac) / nearness / 1.15, off) - 0.28
    rings = np.exp(-np.abs(reach) / 0.14) * np.sin(34 * reach - 2.4 * time_s)
    return _float32(1.3 * arms + 0.32 * rings)


def _draw_surroundings(time_s: float, along: Image, across: Image, seed: int) -> Image:
    """The bank above the water's edge, and below it what the tilted water mirrors of bank, trees and sky."""
    height_px, width_px = across.shape
    x, y, _ = _water_plane(width_px, height_px)
    below = np.clip((y - BANK_FRAC) / 0.5, 0, 1)
    up = np.abs(y - BANK_FRAC) + across * (0.02 + 0.145 * below) * (y > BANK_FRAC)
    sideways = x + WATER_SPEED * (BANK_FRAC - VANISHING_FRAC) * time_s + along * 0.05 * below
    columns = np.mod(sideways * SURROUNDINGS_UNIT_PX, SURROUNDINGS_SHAPE[1])
    rows = np.clip(np.abs(up) * SURROUNDINGS_UNIT_PX, 0, SURROUNDINGS_SHAPE[0] - 1)
    return _float32(cv2.remap(_surroundings(seed), _float32(columns), _float32(rows), cv2.INTER_LINEAR))


def _draw_water(image: Image, across: Image) -> Image:
    """Turns the mirrored surroundings below the water's edge into dark water."""
    height_px, width_px = across.shape
    _, y, _ = _water_plane(width_px, height_px)
    mirrored = np.clip(0.74 - 0.42 * (y - BANK_FRAC) + 0.10 * across, 0.15, 0.9)
    gloss = 7 * np.clip(across, -1.5, 1.5) * np.clip((y - BANK_FRAC) / 0.3, 0, 1)
    depths = _float32([38, 34, 24]) * (1 - mirrored[..., None])
    water = depths + image * mirrored[..., None] * 0.8 + gloss[..., None]
    shore = np.clip((y - BANK_FRAC) * height_px * 0.7 + 0.5, 0, 1) * np.ones_like(across)
    return _paint(image, water, shore)


# --- The frame ---


def _sample_swan(right_px: Image, up_px: Image, height_px: int, pose: Pose) -> Image:
    """The swan (h, w, 4) at points given in pixels from where its middle meets the water."""
    unit_px = SWAN_UNIT_FRAC * height_px * SPRITE_OVERSAMPLING
    right, up = right_px / (SWAN_UNIT_FRAC * height_px), up_px / (SWAN_UNIT_FRAC * height_px)
    cos, sin = math.cos(pose.tilt_rad), math.sin(pose.tilt_rad)
    x = right * cos + up * sin
    y = up * cos - right * sin
    x = x - pose.neck_sway * np.clip(y - 0.35, 0, 1) ** 1.5 * (x > 0)
    columns = (x - CANVAS_LEFT) * unit_px
    rows = (CANVAS_TOP - y) * unit_px
    return _float32(cv2.remap(_swan_sprite(unit_px), _float32(columns), _float32(rows), cv2.INTER_LINEAR))


def _hull_offsets(pose: Pose, rows: slice, width_px: int, height_px: int) -> tuple[Image, Image, Image]:
    """How far each pixel in ``rows`` is right of the swan's middle and below its waterline; the line's sag.

    Seen a little from above, the line where hull and water meet sags towards the camera.
    """
    x, y, _ = _water_plane(width_px, height_px)
    right = x - pose.drift_frac
    sag = 0.020 * np.clip(1 - ((right - 0.02) / 0.21) ** 2, 0, 1)
    down = y[rows] - WATERLINE_FRAC - sag
    return right * height_px, down * height_px, sag * height_px


def _draw_reflection(image: Image, pose: Pose, along: Image, across: Image) -> None:
    """Draws into ``image`` the swan mirrored at its waterline, broken by the slopes of the water."""
    height_px, width_px = across.shape
    rows = slice(int(WATERLINE_FRAC * height_px) - 2, height_px)
    right_px, down_px, sag_px = _hull_offsets(pose, rows, width_px, height_px)
    depth = np.clip(down_px / (0.3 * height_px), 0, 1)
    mirror_x = right_px + along[rows] * height_px * (0.006 + 0.05 * depth)
    mirror_up = down_px - sag_px + height_px * (across[rows] * (0.006 + 0.06 * depth) - pose.bob_frac)
    swan = _sample_swan(mirror_x, mirror_up, height_px, pose._replace(tilt_rad=-pose.tilt_rad))
    swan = _float32(cv2.GaussianBlur(swan, (0, 0), 0.0035 * height_px))
    swan *= (np.clip(down_px / 2 + 0.5, 0, 1) * (0.60 - 0.30 * depth))[..., None]
    image[rows] = image[rows] * (1 - swan[..., 3:]) + swan[..., :3] * _float32([0.80, 0.78, 0.72])


def _draw_swan(image: Image, pose: Pose, across: Image) -> None:
    """Draws into ``image`` what is to be seen of the swan above the water that laps at it."""
    height_px, width_px = across.shape
    rows = slice(int((WATERLINE_FRAC - 0.48) * height_px), int((WATERLINE_FRAC + 0.05) * height_px))
    right_px, down_px, sag_px = _hull_offsets(pose, rows, width_px, height_px)
    up_px = -down_px - sag_px - pose.bob_frac * height_px
    swan = _sample_swan(right_px, up_px, height_px, pose)
    swan *= np.clip(0.5 - (down_px + across[rows] * height_px * 0.006), 0, 1)[..., None]
    image[rows] = image[rows] * (1 - swan[..., 3:]) + swan[..., :3]


def _light(time_s: float, width_px: int, height_px: int) -> Image:
    """Gain of the daylight, (height, width, 3): thin clouds pass slowly; it is a touch warmer when bright."""
    x, y, _ = _water_plane(width_px, height_px)
    cloud = np.sin(1.3 * x + 0.9 * y - 2 * math.pi * time_s / 26) + 0.5 * _swing(time_s, 17)
    return 1 + cloud[..., None] * _float32([0.018, 0.028, 0.034])


def draw_frame(time_s: float, width_px: int, height_px: int, seed: int) -> NDArray[np.uint8]:
    """Draws the scene as it is ``time_s`` seconds into the video.

    :param time_s: seconds from the start, at least 0.
    :param width_px: width of the frame, at least its height; drawn for 96 to 1280.
    :param height_px: height of the frame; drawn for 64 to 720.
    :param seed: what the waves, the bank and the sensor noise are drawn by, at least 0.
    :return: the frame, uint8 (height_px, width_px, 3), BGR. The same arguments give the same pixels.
    :raises ValueError: if ``time_s`` or ``seed`` is negative.
    """
    rng = np.random.default_rng((seed, 3, round(time_s * 1e6)))
    noise = rng.standard_normal((height_px, width_px, 1), np.float32)
    along, across = _wave_slopes(time_s, width_px, height_px, seed)
    across = across + _wake_slope(time_s, width_px, height_px)
    image = _draw_surroundings(time_s, along, across, seed)
    image = _draw_water(image, across)
    _draw_reflection(image, _pose(time_s), along, across)
    _draw_swan(image, _pose(time_s), across)
    image = image * _light(time_s, width_px, height_px) + NOISE_SIGMA * noise
    return np.asarray(np.clip(image + 0.5, 0, 255), np.uint8)


def write_swan_video(
    path: Path, *, duration_s: float, frames_per_s: float, width_px: int, height_px: int, seed: int
) -> None:
    """Draws the scene into an MPEG-4 video of ``round(duration_s * frames_per_s)`` frames.

    The file is written under another name beside ``path`` and renamed at the end, so that a writer that is
    killed leaves nothing that could be taken for the whole video. Folders that are missing are made. The same
    arguments give the same bytes on the same machine.

    :param path: the mp4 file to write; one that is there already is replaced.
    :param duration_s: length of the video in seconds.
    :param frames_per_s: frames a second.
    :param width_px: width of the frames, even.
    :param height_px: height of the frames, even.
    :param seed: see :func:`draw_frame`.
    :raises OSError: if the video cannot be written there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial.mp4")
    fourcc = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(partial), fourcc, frames_per_s, (width_px, height_px))
    if not writer.isOpened():
        raise OSError(f"cannot write a {width_px}x{height_px} mp4v video to {path}")
    try:
        for index in range(round(duration_s * frames_per_s)):
            writer.write(draw_frame(index / frames_per_s, width_px, height_px, seed))
        writer.release()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
