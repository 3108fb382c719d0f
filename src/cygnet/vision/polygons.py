"""Kind `polygon`: irregular patches of pure white (salt) or black (pepper), the reference's own anomaly.

A patch of area A is a polygon of 5-9 vertices at even angles around a circle of radius r = sqrt(A / pi), each vertex at
0.5-1.5 r. All patches are drawn on one array with one `cv2.fillPoly` each.
"""

import math
from collections.abc import Iterable

import cv2
import numpy as np

from cygnet.parameters.synthesis import FramePolygons, ImagePolygons, Polygon, PolygonShape

SALT, PEPPER = 255, 0
SUBPIXEL_BITS = 4
"""`cv2.fillPoly` takes fixed-point coordinates with this many fractional bits."""
SUBPIXELS = 1 << SUBPIXEL_BITS


def draw_polygons(image: np.ndarray, rng: np.random.Generator, severity: float, polygon: Polygon) -> np.ndarray:
    """Draw the patches of the chosen preset on a copy.

    Args:
        image: `(H, W, 3)` uint8.
        rng: The row's generator.
        severity: 0-1, moves within the preset's range: number of edge patches (`image`), share of pixels (`frame`).
        polygon: The settings.

    Returns:
        `(H, W, 3)` uint8, the image with salt and pepper patches.
    """
    drawn = image.copy()
    patches = (
        _image_patches(drawn.shape, rng, severity, polygon.image)
        if polygon.preset == "image"
        else _frame_patches(drawn.shape, rng, severity, polygon.frame)
    )
    for centre_px, area_px, value in patches:
        fill_patch(drawn, rng, centre_px, area_px, value, polygon.shape)
    return drawn


def fill_patch(
    image: np.ndarray,
    rng: np.random.Generator,
    centre_px: tuple[float, float],
    area_px: float,
    value: int,
    shape: PolygonShape,
) -> None:
    """Fill one irregular polygon around `centre_px` (x, y) in place, every channel with `value`."""
    radius_px = max(math.sqrt(area_px / math.pi), shape.min_radius_px)
    vertices = int(rng.integers(shape.vertices[0], shape.vertices[1] + 1))
    turn, *shares = rng.random(vertices + 1).tolist()
    shortest, longest = shape.radius_factor
    points = []  # plain arithmetic: for nine vertices, numpy's calls cost five times what cv2.fillPoly does
    for vertex, share in enumerate(shares):
        angle = 2 * math.pi * (vertex / vertices + turn)
        length_px = radius_px * (shortest + share * (longest - shortest))
        x_px, y_px = centre_px[0] + length_px * math.cos(angle), centre_px[1] + length_px * math.sin(angle)
        points.append((round(x_px * SUBPIXELS), round(y_px * SUBPIXELS)))
    cv2.fillPoly(image, [np.array(points, np.int32)], (value,) * 3, shift=SUBPIXEL_BITS)


Patch = tuple[tuple[float, float], float, int]
"""Centre (x, y) in pixels, area in pixels, grey value."""


def _image_patches(
    size_px: tuple[int, ...], rng: np.random.Generator, severity: float, preset: ImagePolygons
) -> list[Patch]:
    """The 256-pixel rule: one patch near the centre, the others in the bands along the edges."""
    height, width = size_px[:2]
    low, high = preset.edge_patches
    count = low + min(int(severity * (high - low + 1)), high - low)
    draws = rng.random((count + 1, 4)).tolist()  # at once: a call of the generator costs more than a patch
    nearest, farthest = preset.centre_band_frac
    across, along, _, colour = draws[0]
    centre = (nearest + across * (farthest - nearest), nearest + along * (farthest - nearest))
    places = [(centre, colour)]
    for across, along, side, colour in draws[1:]:
        places.append((_edge_place(across * preset.edge_band_frac, along, int(4 * side)), colour))
    return [
        ((x * width, y * height), preset.patch_area_px, SALT if colour < preset.salt_vs_pepper else PEPPER)
        for (x, y), colour in places
    ]


def _edge_place(across: float, along: float, side: int) -> tuple[float, float]:
    """Place a point `across` from one of the four sides and `along` it, as shares of the side: (x, y)."""
    return [(across, along), (1 - across, along), (along, across), (along, 1 - across)][side]


def _frame_patches(
    size_px: tuple[int, ...], rng: np.random.Generator, severity: float, preset: FramePolygons
) -> list[Patch]:
    """The frame rule: a share of all pixels, divided between salt and pepper and then at random among patches."""
    height, width = size_px[:2]
    low, high = preset.amount_frac
    amount_px = (low + severity * (high - low)) * height * width
    shares_px = {SALT: amount_px * preset.salt_vs_pepper, PEPPER: amount_px * (1 - preset.salt_vs_pepper)}
    patches: list[Patch] = []
    for value, (fewest, most) in ((SALT, preset.salt_patches), (PEPPER, preset.pepper_patches)):
        count = int(rng.integers(fewest, most + 1))
        areas_px: Iterable[float] = (
            shares_px[value] * rng.dirichlet(np.ones(count)) if count and shares_px[value] > 0 else []
        )
        patches += [((rng.uniform(0, width), rng.uniform(0, height)), float(area), value) for area in areas_px]
    return patches
