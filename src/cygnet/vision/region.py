"""The area of a frame that is looked at: inside `scene.region` and outside `scene.ignore`.

What is outside is filled with one grey in the whole frame, before anything is cut out of it: ingestion, scoring and the
served model call the same function at the same size, so that their pixels are the same. Polygons are drawn at the size
of the frame, and a mask image is scaled to it.

The served model carries this module.
"""

import base64
import json
from functools import lru_cache

import cv2
import numpy as np

from cygnet.vision.codec import decode_mask

Area = tuple[str | None, str | None]
"""Region and ignored part as a `cygnet.scene.Scene` has them: polygons as JSON, or a mask image as PNG in base64."""

EVERYWHERE: Area = (None, None)
OUTSIDE_LEVEL = 128
LARGEST_ASPECT_DIFFERENCE_FRAC = 0.01
"""Between a mask image and the frame; rounding to whole pixels comes on top."""


@lru_cache(maxsize=16)
def area_mask(area: Area, height: int, width: int) -> np.ndarray | None:
    """Draw the area at the size of a frame.

    Args:
        area: Region and ignored part.
        height: Of the frame, in pixels.
        width: Of the frame, in pixels.

    Returns:
        `(height, width)` uint8, read-only: 255 inside, 0 outside; None if everything is inside.

    Raises:
        ValueError: A mask image has another aspect ratio.
    """
    if area == EVERYWHERE:
        return None
    region, ignore = area
    inside = np.full((height, width), 255, np.uint8) if region is None else _draw("region", region, height, width)
    if ignore is not None:
        inside[_draw("ignore", ignore, height, width) > 0] = 0
    inside.flags.writeable = False
    return inside


def fill_outside(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Fill what is outside a mask `(H, W)` with grey: a new image `(H, W, 3)` uint8, or the same if nothing is."""
    if mask is None or mask.all():
        return image
    return np.where(mask[..., None] > 0, image, np.uint8(OUTSIDE_LEVEL))


def restore_outside(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Give `after` within a mask `(H, W)`, and `before` outside; both `(H, W, 3)` uint8."""
    return np.where(mask[..., None] > 0, after, before)


def blank_outside(anomaly_map: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Set the patches of a map `(G, G)` to 0 that lie wholly outside a mask `(H, H)` of the same image."""
    if mask is None:
        return anomaly_map
    inside = cv2.resize(mask, anomaly_map.shape[::-1], interpolation=cv2.INTER_AREA) > 0
    return np.where(inside, anomaly_map, np.float32(0))


def _draw(name: str, shape: str, height: int, width: int) -> np.ndarray:
    """Draw polygons or a mask image, the scene's `region` or `ignore`: `(height, width)` uint8, 255 inside."""
    if not shape.startswith("["):
        return _scale(name, decode_mask(base64.b64decode(shape)), height, width)
    drawn = np.zeros((height, width), np.uint8)
    for polygon in json.loads(shape):  # one by one: together, two layers would cancel each other out
        corners_px = np.rint(np.array(polygon) * (width, height) - 0.5)
        cv2.fillPoly(drawn, [corners_px.astype(np.int32)], 255)
    return drawn


def _scale(name: str, mask: np.ndarray, height: int, width: int) -> np.ndarray:
    mask_height, mask_width = mask.shape
    difference = abs(mask_width * height - mask_height * width)
    if difference > LARGEST_ASPECT_DIFFERENCE_FRAC * mask_height * width + mask_height + mask_width:
        msg = (
            f"its size of {width}x{height} has another aspect ratio than the mask of {mask_width}x{mask_height} that "
            f"scene.{name} names"
        )
        raise ValueError(msg)
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
