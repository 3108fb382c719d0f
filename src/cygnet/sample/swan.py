"""The swan: painted once at a high resolution with soft shading, then moved, tilted and swayed by resampling.

Coordinates are in the swan's own unit, about the length of its body: the origin is where the middle of the body meets
the water, y points up.
"""

import math
from functools import cache, lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from cygnet.sample.drawing import Image, Points, ellipse, feather, float32, paint, spline, swing, tube
from cygnet.sample.outlines import (
    BEAK,
    BILL_EDGE,
    BLACK_BGR,
    BODY,
    HEAD,
    LORE,
    NECK,
    ORANGE_BGR,
    PLUMAGE_BGR,
    TAIL_ROW,
    TONES,
    WING,
    WING_ROWS,
    FeatherRow,
)

SWAN_UNIT_FRAC = 0.45
"""The swan's unit as a share of the frame's height."""

CANVAS_UNIT_PX = 440
CANVAS_LEFT, CANVAS_RIGHT, CANVAS_BOTTOM, CANVAS_TOP = -0.84, 0.84, -0.20, 1.04
SPRITE_OVERSAMPLING = 2.0

LIGHT_DIRECTION = np.array([0.4206, 0.7209, 0.5507], np.float32)  # unit vector: right, up, towards the camera


class Pose(NamedTuple):
    """Position and posture of the swan.

    Attributes:
        drift_frac: Shift to the right, as a share of the frame's height.
        bob_frac: Shift upwards, as a share of the frame's height.
        tilt_rad: Rotation, in radians.
        neck_sway: Sideways displacement of the crown, in the swan's unit.
    """

    drift_frac: float
    bob_frac: float
    tilt_rad: float
    neck_sway: float


def pose_at(time_s: float) -> Pose:
    """Give the pose at a time in seconds; it repeats only after minutes."""
    return Pose(
        drift_frac=0.055 * swing(time_s, 30),
        bob_frac=0.0045 * swing(time_s, 3.4) + 0.0020 * swing(time_s, 5.3, 1.0),
        tilt_rad=0.010 * swing(time_s, 4.1, 0.7),
        neck_sway=0.028 * swing(time_s, 7.5),
    )


def swan_at(right_px: Image, up_px: Image, height_px: int, pose: Pose) -> Image:
    """Sample the swan at the given points.

    Args:
        right_px: Distance of each point to the right of the body's middle, in pixels.
        up_px: Distance of each point above the waterline, in pixels.
        height_px: Height of the frame.
        pose: Tilt and sway; drift and bob are already in the points.

    Returns:
        `(h, w, 4)` float32: BGR, 0-255, premultiplied by coverage; then coverage, 0-1.
    """
    unit_px = SWAN_UNIT_FRAC * height_px * SPRITE_OVERSAMPLING
    right, up = right_px / (SWAN_UNIT_FRAC * height_px), up_px / (SWAN_UNIT_FRAC * height_px)
    cos, sin = math.cos(pose.tilt_rad), math.sin(pose.tilt_rad)
    x = right * cos + up * sin
    y = up * cos - right * sin
    x = x - pose.neck_sway * np.clip(y - 0.35, 0, 1) ** 1.5 * (x > 0)
    columns = (x - CANVAS_LEFT) * unit_px
    rows = (CANVAS_TOP - y) * unit_px
    return float32(cv2.remap(_swan_sprite(unit_px), float32(columns), float32(rows), cv2.INTER_LINEAR))


@lru_cache(maxsize=4)
def _swan_sprite(unit_px: float) -> Image:
    """Resize the canvas to `unit_px` pixels per unit of the swan."""
    scale = unit_px / CANVAS_UNIT_PX
    canvas = _swan_canvas()
    size_px = (round(canvas.shape[1] * scale), round(canvas.shape[0] * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return float32(cv2.resize(canvas, size_px, interpolation=interpolation))


@cache
def _swan_canvas() -> Image:
    """Paint the swan: `(H, W, 4)` float32, BGR 0-255 premultiplied by coverage, then coverage 0-1."""
    tone, cover = _plumage()
    image: Image = _coloured(tone, PLUMAGE_BGR) * cover[..., None]
    for colour, mask in _face():
        image, cover = paint(image, colour, mask), paint(cover, 1.0, mask)
    return float32(np.dstack([image, cover]))


def _plumage() -> tuple[Image, Image]:
    """Paint the white of the swan: brightness and coverage, each `(H, W)` float32 0-1."""
    x, y = _canvas_axes()
    torso = _torso_mask()
    cover, tone = torso, 0.06 + 0.45 * _relief_light(torso, 0.10) + 0.55 * _relief_light(torso, 0.035)
    for outline in _row_outlines(TAIL_ROW):
        cover = np.maximum(cover, _mask(outline))
        tone = _lay_feather(tone, outline)
    wing = _mask(spline(np.array(WING), 160, closed=True))
    shoulder = np.clip((0.36 - x) / 0.16, 0, 1)
    feathered = paint(tone * (1 - 0.35 * _blur(wing, 0.03)), 0.3 + 0.6 * _relief_light(wing, 0.08), wing)
    cover = np.maximum(cover, wing)
    for outline in [outline for row in WING_ROWS for outline in _row_outlines(row)]:
        cover = np.maximum(cover, _mask(outline))
        feathered = _lay_feather(feathered, outline)
    round_wing = 0.46 + 0.75 * _relief_light(wing, 0.13)
    tone = paint(tone, feathered * round_wing, shoulder * np.ones_like(tone))
    return tone * (1 - 0.45 * np.exp(-np.maximum(y, 0) / 0.07)), cover


def _torso_mask() -> Image:
    body = _mask(spline(np.array(BODY), 200, closed=True))
    neck = _mask(tube(spline(np.array(NECK), 160, closed=False)))
    head = _mask(spline(np.array(HEAD), 80, closed=True))
    return np.maximum(np.maximum(body, neck), head)


def _row_outlines(row: FeatherRow) -> list[Points]:
    roots = spline(np.array(row.roots), row.feather_count, closed=False)
    tips = spline(np.array(row.tips), row.feather_count, closed=False)
    return [feather(root, tip, row.width) for root, tip in zip(roots, tips, strict=True)]


def _lay_feather(tone: Image, outline: Points) -> Image:
    """Lay one feather on `tone`: its soft shadow, then its blade, which emerges from the feathers before it."""
    x, y = _canvas_axes()
    root, tip = float32((outline[0] + outline[-1]) / 2), float32(outline[len(outline) // 2])
    along = (tip - root) / np.sum((tip - root) ** 2)
    grown = np.clip(((x - root[0]) * along[0] + (y - root[1]) * along[1]) / 0.75, 0, 1)
    mask = _mask(outline)
    tone = tone * (1 - 0.34 * grown * _blur(mask, 0.014))
    return paint(tone, 0.50 + 0.60 * _relief_light(mask, 0.012), mask * grown)


def _face() -> list[tuple[Image, Image]]:
    """Give colour and mask of each part of the face, from the beak to the glint in the eye."""
    beak = _mask(spline(np.array(BEAK), 80, closed=True))
    edge = np.column_stack([spline(np.array(BILL_EDGE), 30, closed=False), np.full(30, 0.004)])
    blacks = [
        tube(edge),
        ellipse((0.686, 0.797), (0.014, 0.013)),
        spline(np.array(LORE), 60, closed=True),
        ellipse((0.553, 0.915), (0.026, 0.021)),
        ellipse((0.466, 0.908), (0.0125, 0.0120)),
    ]
    parts = [(_coloured(0.05 + 0.9 * _relief_light(beak, 0.02), ORANGE_BGR), beak)]
    parts += [(_coloured(_relief_light(mask, 0.012) - 0.2, BLACK_BGR), mask) for mask in map(_mask, blacks)]
    return [*parts, (float32(190), _mask(ellipse((0.470, 0.911), (0.004, 0.004))))]


def _coloured(tone: Image, ramp_bgr: list[tuple[int, int, int]]) -> Image:
    channels = np.array(ramp_bgr, np.float64).T
    return float32(np.dstack([np.interp(tone, TONES, channel) for channel in channels]))


def _canvas_px(points: Points) -> Points:
    return (points - [CANVAS_LEFT, CANVAS_TOP]) * [CANVAS_UNIT_PX, -CANVAS_UNIT_PX]


def _canvas_axes() -> tuple[Image, Image]:
    """Give x `(1, W)` and y `(H, 1)` of the canvas's pixels, in the swan's unit."""
    width_px = round((CANVAS_RIGHT - CANVAS_LEFT) * CANVAS_UNIT_PX)
    height_px = round((CANVAS_TOP - CANVAS_BOTTOM) * CANVAS_UNIT_PX)
    x = CANVAS_LEFT + np.arange(width_px, dtype=np.float32)[None, :] / CANVAS_UNIT_PX
    y = CANVAS_TOP - np.arange(height_px, dtype=np.float32)[:, None] / CANVAS_UNIT_PX
    return x, y


def _mask(outline: Points) -> Image:
    """Rasterise the inside of `outline` on the canvas, antialiased: `(H, W)` float32 0-1."""
    x, y = _canvas_axes()
    canvas = np.zeros((y.size, x.size), np.uint8)
    cv2.fillPoly(canvas, [np.round(_canvas_px(outline) * 256).astype(np.int32)], 255, cv2.LINE_AA, shift=8)
    return float32(cv2.GaussianBlur(float32(canvas) / 255, (0, 0), 0.7))


def _blur(image: Image, radius: float) -> Image:
    return float32(cv2.GaussianBlur(image, (0, 0), radius * CANVAS_UNIT_PX))


def _relief_light(mask: Image, radius: float) -> Image:
    """Light `mask` as a pillow whose rim is about `radius` wide: 0 (facing away) to 1."""
    height = _blur(mask, radius)
    gain = 1.7 * radius * CANVAS_UNIT_PX
    normal_x = -cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=gain / 8)
    normal_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=gain / 8)
    facing = normal_x * LIGHT_DIRECTION[0] + normal_y * LIGHT_DIRECTION[1] + LIGHT_DIRECTION[2]
    light = facing / np.sqrt(normal_x**2 + normal_y**2 + 1)
    return float32(np.clip(light, 0, 1))
