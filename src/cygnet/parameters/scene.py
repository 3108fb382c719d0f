"""`conf/*/parameters_scene.yml`."""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from cygnet.parameters.base import Parameters

View = Literal["square", "whole", "tiles"]
Camera = Literal["fixed", "moving"]
Polygon = list[tuple[float, float]]
"""At least three corners, each the share of the frame's width and that of its height, 0-1."""

FEWEST_CORNERS = 3
SMALLEST_AREA = 1e-9
"""Share of the frame, twice; less is rounding."""


def list_polygons(shape: Any) -> Any:
    """Check a shape by hand, which gives one sentence where pydantic gives one for each type that it may have.

    Args:
        shape: None, the path of a mask image, polygons, or the corners of one polygon.

    Returns:
        The same, one polygon as a list of one.

    Raises:
        ValueError: It is none of these, a polygon has fewer than three corners or no area, or a corner is no point of
            the frame.
    """
    if shape is None or (isinstance(shape, str) and shape):
        return shape
    if not isinstance(shape, list) or not shape or not all(isinstance(part, list) and part for part in shape):
        msg = f"{shape!r} is neither null, nor the path of a mask image, nor polygons of corners [x, y]"
        raise ValueError(msg)
    polygons = shape if isinstance(shape[0][0], list) else [shape]
    for polygon in polygons:
        _check_polygon(polygon)
    return polygons


def _check_polygon(polygon: list[Any]) -> None:
    for corner in polygon:
        if not _is_corner(corner):
            msg = f"the corner {corner} is no [x, y] within the frame: give shares of its width and height, 0-1"
            raise ValueError(msg)
    if len(polygon) < FEWEST_CORNERS:
        msg = f"a polygon needs at least {FEWEST_CORNERS} corners [x, y], and {polygon} has {len(polygon)}"
        raise ValueError(msg)
    (x, y), *others = polygon
    triangles = (  # of the first corner and each side: that all are empty holds for no polygon that crosses itself
        abs((x1 - x) * (y2 - y) - (x2 - x) * (y1 - y)) for (x1, y1), (x2, y2) in pairwise(others)
    )
    if max(triangles) < SMALLEST_AREA:
        msg = f"the polygon {polygon} has no area: its corners lie on one line"
        raise ValueError(msg)


def _is_corner(corner: Any) -> bool:
    is_pair = isinstance(corner, list) and len(corner) == 2
    return is_pair and all(type(share) in {int, float} and 0 <= share <= 1 for share in corner)


Shape = Annotated[str | list[Polygon] | None, BeforeValidator(list_polygons)]
"""A mask image by its path, or polygons; None: nothing is given."""


class SceneParameters(Parameters):
    """`params:scene`: what kind of scene the videos show, and which part of it is looked at."""

    view: View
    camera: Camera
    region: Shape
    ignore: Shape
