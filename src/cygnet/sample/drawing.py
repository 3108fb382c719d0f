"""Curves and soft painting for the sample: pure functions on float32 images and `(n, 2)` points."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Image = NDArray[np.floating[Any]]
"""`(H, W)` or `(H, W, C)`, float32."""

Points = NDArray[np.float64]
"""`(n, 2)`, or `(n, 3)` where each point also has a radius."""


def float32(values: ArrayLike) -> Image:
    """Convert to a float32 array."""
    return np.asarray(values, np.float32)


def swing(time_s: float, period_s: float, phase_rad: float = 0.0) -> float:
    """Evaluate a sine between -1 and 1; a Python float, which keeps float32 images float32."""
    return math.sin(2 * math.pi * time_s / period_s + phase_rad)


def paint(image: Image, colour: Image | float, mask: Image) -> Image:
    """Blend `colour` into a copy of `image` where `mask` `(H, W)`, 0-1, says."""
    mask = mask.reshape(mask.shape + (1,) * (image.ndim - 2))
    return image + (colour - image) * mask


def spline(knots: Points, sample_count: int, closed: bool) -> Points:
    """Sample a Catmull-Rom spline through `knots` `(n, dims)`: `(sample_count, dims)`."""
    padded = np.vstack([knots[-1:], knots, knots[:2]] if closed else [knots[:1], knots, knots[-1:]])
    span_count = len(padded) - 3
    position = np.linspace(0, span_count, sample_count, endpoint=not closed)
    span = np.minimum(position.astype(int), span_count - 1)
    u = (position - span)[:, None]
    p0, p1, p2, p3 = (padded[span + offset] for offset in range(4))
    bend, twist = 2 * p0 - 5 * p1 + 4 * p2 - p3, 3 * p1 - p0 - 3 * p2 + p3
    return np.asarray(0.5 * (2 * p1 + (p2 - p0) * u + bend * u**2 + twist * u**3))


def tube(axis: Points) -> Points:
    """Outline a bent tube whose `axis` `(n, 3)` gives x, y and radius: `(2n, 2)`."""
    along = np.gradient(axis[:, :2], axis=0)
    across = np.column_stack([-along[:, 1], along[:, 0]]) / np.linalg.norm(along, axis=1, keepdims=True)
    reach = across * axis[:, 2:]
    return np.vstack([axis[:, :2] + reach, (axis[:, :2] - reach)[::-1]])


def feather(root: Points, tip: Points, width: float) -> Points:
    """Outline one feather: a slightly bowed leaf with a rounded tip."""
    u = np.sin(np.linspace(0, np.pi / 2, 32))[:, None]
    length = np.linalg.norm(tip - root)
    bow = np.array([0.0, -0.07]) * length * np.sin(np.pi * u)
    radius = width * np.sqrt(np.clip(1 - (1 - u / 0.35).clip(0) ** 2, 0.09, 1)) * np.sqrt(1 - u**4)
    return tube(np.hstack([root + (tip - root) * u + bow, radius]))


def ellipse(centre: tuple[float, float], radii: tuple[float, float]) -> Points:
    """Outline an upright ellipse with 40 points."""
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.column_stack([np.cos(turn), np.sin(turn)]) * radii + centre
