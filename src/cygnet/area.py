"""From `scene.region` and `scene.ignore` to what a scene records of them.

A record holds the polygons, or the mask image itself: nothing that reads it needs the path that the parameter named.
"""

import base64
import json

import cv2
import numpy as np

from cygnet.errors import UserError
from cygnet.parameters.scene import Polygon, SceneParameters
from cygnet.storage import read_bytes
from cygnet.vision.codec import decode_mask
from cygnet.vision.region import Area, area_mask

MOST_SIDE_PX = 1024
"""Larger masks are scaled down: the record goes into every table and model."""
TRIED_SIDE_PX = 512


def read_area(scene: SceneParameters) -> Area:
    """Read region and ignored part, mask images included.

    Args:
        scene: `region`, `ignore`.

    Raises:
        UserError: A mask image is missing, no image or empty, or nothing is left to look at.
    """
    area = read_shape("region", scene.region), read_shape("ignore", scene.ignore)
    sides_px = [decode_mask(base64.b64decode(shape)).shape for shape in area if shape and not shape.startswith("[")]
    try:
        mask = area_mask(area, *(sides_px or [(TRIED_SIDE_PX, TRIED_SIDE_PX)])[0])
    except ValueError as error:
        msg = "The masks of scene.region and scene.ignore differ in aspect ratio: give both that of the frames."
        raise UserError(msg) from error
    if mask is not None and not mask.any():
        msg = "scene.region and scene.ignore leave nothing to look at: enlarge the one, or reduce the other."
        raise UserError(msg)
    return area


def read_shape(name: str, shape: str | list[Polygon] | None) -> str | None:
    """Make of a shape what a scene records.

    Args:
        name: `region` or `ignore`.
        shape: A mask image by its path, or polygons; None: nothing is given.

    Returns:
        The polygons as JSON, or the mask as PNG in base64, 255 inside.

    Raises:
        UserError: A mask image can't be read, is no image, or is 0 everywhere.
    """
    if shape is None or isinstance(shape, list):
        return json.dumps(shape) if shape else None
    allowed = "give the path of an image that is not 0 inside, or polygons"
    try:
        mask = decode_mask(read_bytes(shape))
    except OSError as error:
        msg = f"Parameter 'scene.{name}' names {shape}, which can't be read: {allowed}."
        raise UserError(msg) from error
    except ValueError as error:
        msg = f"Parameter 'scene.{name}' names {shape}, which is no image: {allowed}."
        raise UserError(msg) from error
    if not mask.any():
        msg = f"Parameter 'scene.{name}' names {shape}, a mask that is 0 everywhere: {allowed}."
        raise UserError(msg)
    scale = min(MOST_SIDE_PX / max(mask.shape), 1.0)
    size_px = round(mask.shape[1] * scale) or 1, round(mask.shape[0] * scale) or 1
    scaled = cv2.resize(mask, size_px, interpolation=cv2.INTER_NEAREST_EXACT)
    binary = np.where(scaled > 0, np.uint8(255), np.uint8(0))
    encoded = cv2.imencode(".png", binary, [cv2.IMWRITE_PNG_COMPRESSION, 9, cv2.IMWRITE_PNG_BILEVEL, 1])[1]
    return base64.b64encode(encoded.tobytes()).decode()
