"""Procedural scenes: synthetic images on which the carried checkpoint was trained.

They use no external picture. Textures (fractal noise, Voronoi cells, dead leaves, gratings, bricks, waves, gradients)
in random palettes overlap with hard and soft edges. Strokes and shading are added, and things that resemble anomalies:
small objects of several parts, like people, signs or flowers seen from a distance; large areas of pure black or white;
highlights and shadows.

A scene depends on its generator only. All sizes are shares of the image's side.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from cygnet.vision.noise import octaves, stretch

Texture = Callable[[np.random.Generator, int], np.ndarray]
"""`(rng, size_px)` to `(S, S)` float32 in 0-1."""


def draw_scene(rng: np.random.Generator, size_px: int, textures: Sequence[str]) -> np.ndarray:
    """Draw one scene from the named textures, keys of `TEXTURES`: `(S, S, 3)` uint8 BGR."""
    scene = _surface(rng, size_px, textures)
    for _ in range(int(rng.integers(0, 5))):
        cover = _area(rng, size_px)[..., None]
        scene += (_surface(rng, size_px, textures) - scene) * cover
    if rng.random() < 0.4:
        _draw_strokes(rng, scene)
    if rng.random() < 0.6:
        _draw_objects(rng, scene, textures)
    if rng.random() < 0.5:
        scene *= (rng.uniform(0.5, 1.0) + rng.uniform(0, 0.7) * octaves(rng, scene.shape[:2], 2, 1))[..., None]
    if rng.random() < 0.45:
        _saturate(rng, scene)
    return np.clip(scene, 0, 255).astype(np.uint8)


def _surface(rng: np.random.Generator, size_px: int, textures: Sequence[str]) -> np.ndarray:
    """Draw a texture in a random palette: `(S, S, 3)` float32, 0-255."""
    texture = TEXTURES[textures[int(rng.integers(len(textures)))]](rng, size_px)
    contrast = rng.uniform(0.05, 1.0)
    levels = (255 * (0.5 + contrast * (texture - 0.5))).astype(np.uint8)
    return cv2.LUT(cv2.merge([levels] * 3), _palette(rng)).astype(np.float32)


def _palette(rng: np.random.Generator) -> np.ndarray:
    """Make a gradient of 2-5 random colours: `(256, 1, 3)` uint8; often muted, as outdoors."""
    stops = int(rng.integers(2, 6))
    colours = rng.uniform(0, 255, (1, stops, 3)).astype(np.float32)
    grey = colours.mean(axis=2, keepdims=True)
    muted = grey + (colours - grey) * np.float32(rng.random() ** 2)
    if rng.random() < 0.5:  # a palette around one colour
        centre = muted[:, :1]
        muted = centre + (muted - centre) * np.float32(rng.uniform(0.1, 0.6))
    line = cv2.resize(muted, (256, 1), interpolation=cv2.INTER_LINEAR)
    return np.clip(line, 0, 255).astype(np.uint8).reshape(256, 1, 3)


def _noise(rng: np.random.Generator, size_px: int) -> np.ndarray:
    return octaves(rng, (size_px, size_px), cells=int(rng.integers(2, 16)), count=int(rng.integers(1, 6)))


def _stretched_noise(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Noise stretched along one axis: grass, ripples, wood."""
    factor = int(rng.integers(3, 10))
    field = octaves(rng, (size_px, max(size_px // factor, 2)), cells=int(rng.integers(6, 24)), count=3)
    wide = cv2.resize(field, (size_px, size_px), interpolation=cv2.INTER_LINEAR)
    return wide if rng.random() < 0.5 else cv2.transpose(wide)


def _cells(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Voronoi cells, each of a single level, some with dark joints: stones, leaves, paving."""
    points = np.full((size_px, size_px), 255, np.uint8)
    count = round(4 * 100 ** rng.random())
    points[rng.integers(0, size_px, count), rng.integers(0, size_px, count)] = 0
    distance, labels = cv2.distanceTransformWithLabels(points, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    levels = rng.random(int(labels.max()) + 1, np.float32)[labels]
    if rng.random() < 0.5:
        levels = levels * np.float32(0.7) + np.float32(0.3) * distance / max(float(distance.max()), 1.0)
    return levels


def _leaves(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Dead leaves: overlapping discs and polygons, each of a single level, small ones far more often than large ones.

    With radii of density r^-3 they have the statistics of natural images (Lee, Mumford and Huang, 2001).
    """
    field = np.full((size_px, size_px), float(rng.random()), np.float32)
    smallest, largest = rng.uniform(0.01, 0.05), rng.uniform(0.1, 0.4)
    for share in rng.random(int(rng.integers(100, 300))):
        radius_px = size_px * (share / smallest**2 + (1 - share) / largest**2) ** -0.5
        centre = rng.uniform(0, size_px, 2)
        angles = np.sort(rng.uniform(0, 2 * np.pi, 12 if rng.random() < 0.5 else 4))
        points = _around(centre, angles, radius_px)
        cv2.fillPoly(field, [np.rint(points).astype(np.int32)], float(rng.random()))
    return field


def _grating(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Stripes, straight or bent by noise, smooth or hard; two sets of them form a grid."""
    down, across = _grid(size_px)
    field = np.ones((size_px, size_px), np.float32)
    for _ in range(int(rng.integers(1, 3))):
        angle, periods = rng.uniform(0, np.pi), rng.uniform(3, 28)
        phase = across * np.float32(np.cos(angle)) + down * np.float32(np.sin(angle))
        if rng.random() < 0.6:
            phase = phase + octaves(rng, field.shape, 3, 2) * np.float32(rng.uniform(0, 0.3))
        stripes = 0.5 + 0.5 * np.sin(2 * np.pi * periods * phase + rng.uniform(0, 6))
        field *= (stripes > 0.5).astype(np.float32) if rng.random() < 0.3 else stripes.astype(np.float32)
    return field


def _bricks(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Rows of bricks with joints, each brick of a single level."""
    rows, columns = int(rng.integers(3, 14)), int(rng.integers(2, 10))
    down, across = _grid(size_px)
    row = down * rows
    column = across * columns + np.floor(row) % 2 * np.float32(rng.choice([0.0, 0.5]))
    levels = rng.random((rows + 2, columns + 2), np.float32)[row.astype(int), column.astype(int)]
    joint = (row % 1 < rng.uniform(0.02, 0.12)) | (column % 1 < rng.uniform(0.02, 0.12))
    return np.where(joint, np.float32(rng.random()), 0.2 + 0.6 * levels).astype(np.float32)


def _waves(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Water in perspective: a sum of waves that get denser towards the horizon."""
    down, across = _grid(size_px)
    depth = 1 / (down + np.float32(rng.uniform(0.15, 1.0)))
    field = np.zeros((size_px, size_px), np.float32)
    for _ in range(int(rng.integers(2, 6))):
        phase = rng.uniform(4, 30) * depth + rng.uniform(-6, 6) * across * depth + rng.uniform(0, 6)
        field += np.sin(phase).astype(np.float32)
    return stretch(field)


def _gradient(rng: np.random.Generator, size_px: int) -> np.ndarray:
    down, across = _grid(size_px)
    angle = rng.uniform(0, 2 * np.pi)
    field = down * np.float32(np.sin(angle)) + across * np.float32(np.cos(angle))
    return stretch(field)


TEXTURES: dict[str, Texture] = {
    "noise": _noise,
    "stretched_noise": _stretched_noise,
    "cells": _cells,
    "leaves": _leaves,
    "grating": _grating,
    "bricks": _bricks,
    "waves": _waves,
    "gradient": _gradient,
}


def _grid(size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns as shares of the side: `(S, 1)` and `(1, S)` float32."""
    line = np.arange(size_px, dtype=np.float32) / size_px
    return line[:, None], line[None]


def _around(centre: np.ndarray, angles: np.ndarray, reach: np.ndarray | float) -> np.ndarray:
    """Place points around a centre: `(N, 2)`; `reach` is a radius, radii `(N, 1)`, or two axes `(2,)`."""
    return centre + reach * np.column_stack([np.cos(angles), np.sin(angles)])


def _area(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Draw the outline of an object or a region, hard or soft: `(S, S)` float32, 0-1."""
    area: np.ndarray = np.zeros((size_px, size_px), np.uint8)
    choice = rng.random()
    if choice < 0.35:
        height = octaves(rng, area.shape, int(rng.integers(2, 6)), 3)
        area[height > rng.uniform(0.45, 0.75)] = 255
    elif choice < 0.7:
        centre, axes = rng.uniform(0, size_px, 2), rng.uniform(0.08, 0.5, 2) * size_px
        cv2.ellipse(area, (tuple(centre), tuple(2 * axes), rng.uniform(0, 180)), 255, -1, cv2.LINE_AA)
    else:
        corners = int(rng.integers(3, 7))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        lengths = rng.uniform(0.15, 0.6, corners) * size_px
        points = _around(rng.uniform(0, size_px, 2), angles, lengths[:, None])
        cv2.fillPoly(area, [np.rint(points).astype(np.int32)], 255, cv2.LINE_AA)
    if rng.random() < 0.4:
        area = cv2.GaussianBlur(area, (0, 0), rng.uniform(0.004, 0.05) * size_px)
    return area.astype(np.float32) / 255


def _draw_strokes(rng: np.random.Generator, scene: np.ndarray) -> None:
    """Draw branches, reeds or cables: bent lines, long or short, in two colours."""
    size_px = scene.shape[0]
    colours = rng.uniform(0, 255, (2, 3))
    steps = np.linspace(0, 1, 8)[:, None]
    for _ in range(int(rng.integers(1, 25))):
        start, bend = rng.uniform(0, size_px, 2), rng.normal(0, 0.1, 2) * size_px
        end = start + rng.normal(0, 0.35, 2) * size_px
        points = start + steps * (end - start) + (steps - steps**2) * 4 * bend
        colour = tuple((colours[int(rng.integers(2))] + rng.normal(0, 12, 3)).tolist())
        thickness = max(1, round(rng.uniform(0.002, 0.02) * size_px))
        cv2.polylines(scene, [np.rint(points).astype(np.int32)], False, colour, thickness, cv2.LINE_AA)


def _draw_objects(rng: np.random.Generator, scene: np.ndarray, textures: Sequence[str]) -> None:
    """Draw objects as small as an anomaly, alone or several alike: textured, in several parts, never flat.

    Each is painted at twice the resolution and averaged down, which makes its edges as soft as a lens does.
    """
    size_px = scene.shape[0]
    for _ in range(int(rng.integers(1, 4))):
        reach_px = size_px * rng.uniform(0.025, 0.12)
        parts = _parts(rng)
        surface = _surface(rng, max(round(4 * reach_px), 8), textures)
        base = rng.uniform(0, 255, (len(parts), 3)) * (rng.random() < 0.6) + rng.uniform(0, 255, (len(parts), 1))
        colours = np.clip(base - base.mean() * rng.uniform(0, 0.5), 0, 255).astype(np.float32)
        for _ in range(1 if rng.random() < 0.5 else int(rng.integers(2, 9))):
            _stamp(rng, scene, Thing(parts, colours, surface), reach_px * rng.uniform(0.75, 1.3))


def _parts(rng: np.random.Generator) -> list[np.ndarray]:
    """Make 2-5 parts of an object: outlines `(N, 2)` in -1..1, each part beside or on the previous one."""
    centre, parts = rng.uniform(-0.3, 0.3, 2), []
    for _ in range(int(rng.integers(2, 6))):
        corners = 16 if rng.random() < 0.6 else int(rng.integers(3, 6))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners)) if corners < 16 else np.linspace(0, 2 * np.pi, corners)
        axes = rng.uniform(0.12, 0.65, 2)
        parts.append(np.clip(_around(centre, angles, axes), -1, 1))
        centre = np.clip(centre + rng.uniform(-0.6, 0.6, 2), -0.8, 0.8)
    return parts


class Thing(NamedTuple):
    """A small object: outlines of its parts, their colours `(parts, 3)` float32, and a texture over all of them."""

    parts: list[np.ndarray]
    colours: np.ndarray
    surface: np.ndarray


def _stamp(rng: np.random.Generator, scene: np.ndarray, thing: Thing, reach_px: float) -> None:
    """Paint an object at a random place, as far as `reach_px` from its centre."""
    size_px, half_px = scene.shape[0], max(math.ceil(reach_px) + 1, 3)
    x_px, y_px = rng.integers(-half_px // 2, size_px - half_px, 2)
    rows, columns = (slice(max(start, 0), start + 2 * half_px) for start in (int(y_px), int(x_px)))
    region = scene[rows, columns]
    paint = np.zeros((4 * half_px, 4 * half_px, 3), np.float32)
    cover = np.zeros((4 * half_px, 4 * half_px), np.uint8)
    angle = rng.normal(0, 0.2)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    for outline, colour in zip(thing.parts, thing.colours, strict=True):
        points = [np.rint(2 * half_px + 2 * reach_px * outline @ turn).astype(np.int32)]
        cv2.fillPoly(paint, points, colour.tolist())
        cv2.fillPoly(cover, points, 255)
    texture = cv2.resize(thing.surface, (4 * half_px, 4 * half_px), interpolation=cv2.INTER_LINEAR)
    paint = 0.75 * paint + 0.25 * texture
    both = np.concatenate([paint * (cover > 0)[..., None], cover[..., None] / np.float32(255)], axis=2)
    small = cv2.resize(both, (2 * half_px, 2 * half_px), interpolation=cv2.INTER_AREA)[
        : region.shape[0], : region.shape[1]
    ]
    region *= 1 - small[..., 3:]
    region += small[..., :3]


def _saturate(rng: np.random.Generator, scene: np.ndarray) -> None:
    """Make large areas black or white, flat or textured, and add small soft highlights or shadows."""
    size_px = scene.shape[0]
    for _ in range(int(rng.integers(1, 4))):
        level = np.float32(rng.choice([-20.0, 0.0, 10.0, 245.0, 255.0, 290.0]))
        area = _area(rng, size_px)
        if area.mean() < 0.03:  # an area as small as an anomaly would be one
            continue
        surface = level + (_noise(rng, size_px) - np.float32(0.5)) * np.float32(rng.uniform(0, 60))
        scene += (surface[..., None] - scene) * area[..., None]
    if rng.random() < 0.5:
        spots = np.zeros(scene.shape[:2], np.float32)
        for _ in range(int(rng.integers(1, 20))):
            centre = np.rint(rng.uniform(0, size_px, 2)).astype(int).tolist()
            axes = np.maximum(np.rint(rng.uniform(0.005, 0.06, 2) * size_px), 1).astype(int).tolist()
            cv2.ellipse(spots, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
        soft = cv2.GaussianBlur(spots, (0, 0), rng.uniform(0.012, 0.03) * size_px)
        scene += (np.float32(rng.choice([-160.0, 160.0, 220.0])) * soft)[..., None]
