"""Kind `polygon`: irregular patches of pure white (salt) or black (pepper), the anomaly of the reference.

A patch of area A is a polygon of 5-9 vertices at even angles around a circle of radius r = sqrt(A / pi), each vertex at
0.5-1.5 r. Each patch is one `cv2.fillPoly` on the same array.
"""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import cv2
import numpy as np

from cygnet.parameters.synthesis import FramePolygons, ImagePolygons, Polygon, PolygonShape, Spots

SALT, PEPPER = 255, 0
SUBPIXEL_BITS = 4
"""`cv2.fillPoly` takes fixed-point coordinates with this many fractional bits."""
SUBPIXELS = 1 << SUBPIXEL_BITS

SPOT_SHAPE = PolygonShape(vertices=(5, 9), radius_factor=(0.5, 1.5), min_radius_px=1.5)
"""The shape of polygons whose size follows from `Spots`."""


class Patch(NamedTuple):
    """One patch: centre (x, y) in pixels, area in pixels, grey value."""

    centre_px: tuple[float, float]
    area_px: float
    value: int


def draw_polygons(
    image: np.ndarray, _donor: np.ndarray, rng: np.random.Generator, severity: float, settings: Polygon | Spots
) -> np.ndarray:
    """Draw salt and pepper patches on a copy; a `cygnet.anomaly_kinds.KindFunction`.

    Args:
        image: `(H, W, 3)` uint8.
        rng: The row's generator.
        severity: 0-1. Sets the number of edge patches (preset `image`) or the share of the pixels (`frame`).
        settings: The rules of the chosen preset. `Spots`: as many patches, of the same size, as other kinds have
            spots; severity has no effect.

    Returns:
        `(H, W, 3)` uint8, the image with patches.
    """
    drawn = image.copy()
    patches: Iterable[Patch]
    if isinstance(settings, Spots):
        shape, patches = SPOT_SHAPE, _spot_patches(drawn.shape, rng, settings)
    elif settings.preset == "image":
        shape, patches = settings.shape, _image_patches(drawn.shape, rng, severity, settings.image)
    else:
        shape, patches = settings.shape, _frame_patches(drawn.shape, rng, severity, settings.frame)
    for patch in patches:
        fill_patch(drawn, rng, patch, shape)
    return drawn


def fill_patch(image: np.ndarray, rng: np.random.Generator, patch: Patch, shape: PolygonShape) -> None:
    """Fill one patch in place, all channels alike."""
    radius_px = max(math.sqrt(patch.area_px / math.pi), shape.min_radius_px)
    points = irregular_polygon(rng, patch.centre_px, radius_px, shape)
    cv2.fillPoly(image, [points], (patch.value,) * 3, shift=SUBPIXEL_BITS)


def irregular_polygon(
    rng: np.random.Generator, centre_px: tuple[float, float], radius_px: float, shape: PolygonShape
) -> np.ndarray:
    """Make a polygon around a circle: `(vertices, 2)` int32, in sixteenths of a pixel as `cv2.fillPoly` takes them."""
    vertices = int(rng.integers(shape.vertices[0], shape.vertices[1] + 1))
    turn, *shares = rng.random(vertices + 1).tolist()
    shortest, longest = shape.radius_factor
    points = []  # plain arithmetic: for nine vertices, calling numpy takes five times as long as cv2.fillPoly
    for vertex, share in enumerate(shares):
        angle = 2 * math.pi * (vertex / vertices + turn)
        length_px = radius_px * (shortest + share * (longest - shortest))
        x_px, y_px = centre_px[0] + length_px * math.cos(angle), centre_px[1] + length_px * math.sin(angle)
        points.append((round(x_px * SUBPIXELS), round(y_px * SUBPIXELS)))
    return np.array(points, np.int32)


def _image_patches(
    size_px: tuple[int, ...], rng: np.random.Generator, severity: float, preset: ImagePolygons
) -> list[Patch]:
    """Place one patch near the centre, the others in the bands along the edges: the rule for 256-pixel images."""
    height, width = size_px[:2]
    low, high = preset.edge_patches
    count = low + min(int(severity * (high - low + 1)), high - low)
    draws = rng.random((count + 1, 4)).tolist()  # one call: it takes longer than drawing a patch
    nearest, farthest = preset.centre_band_frac
    across, along, _, colour = draws[0]
    centre = (nearest + across * (farthest - nearest), nearest + along * (farthest - nearest))
    places = [(centre, colour)]
    for across, along, side, colour in draws[1:]:
        places.append((_edge_place(across * preset.edge_band_frac, along, int(4 * side)), colour))
    return [
        Patch((x * width, y * height), preset.patch_area_px, SALT if colour < preset.salt_vs_pepper else PEPPER)
        for (x, y), colour in places
    ]


def _edge_place(across: float, along: float, side: int) -> tuple[float, float]:
    """Place a point `across` from one of the four sides and `along` it, as shares of the side: (x, y)."""
    return [(across, along), (1 - across, along), (along, across), (along, 1 - across)][side]


def _frame_patches(
    size_px: tuple[int, ...], rng: np.random.Generator, severity: float, preset: FramePolygons
) -> list[Patch]:
    """Divide a share of all pixels between salt and pepper and then at random among patches: the rule for frames."""
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
        patches += [Patch((rng.uniform(0, width), rng.uniform(0, height)), float(area), value) for area in areas_px]
    return patches


def _spot_patches(size_px: tuple[int, ...], rng: np.random.Generator, spots: Spots) -> Iterator[Patch]:
    """Place patches anywhere, as many and as large as the spots of the other kinds."""
    height, width = size_px[:2]
    for _ in range(int(rng.integers(spots.spots[0], spots.spots[1] + 1))):
        radius_px = rng.uniform(*spots.radius_frac) * min(height, width)
        centre_px = (rng.uniform(0, width), rng.uniform(0, height))
        yield Patch(centre_px, np.pi * radius_px**2, SALT if rng.random() < 0.5 else PEPPER)
