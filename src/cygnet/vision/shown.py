"""A frame as somebody is shown it who shall say whether it is normal: what the detector sees of it, in one picture."""

import cv2
import numpy as np

from cygnet.scene import Scene
from cygnet.vision.codec import decode_image
from cygnet.vision.crop import place_views
from cygnet.vision.region import area_mask, fill_outside


def shown_frame(encoded: bytes, scene: Scene, longer_side_px: int) -> np.ndarray:
    """Decode a frame, fill with grey what is outside the area, leave out what `square` leaves out, and scale it down.

    Args:
        encoded: The whole frame.
        scene: `view`, `region`, `ignore`, `crop_horizontal_bias`.
        longer_side_px: Most pixels of the longer side; a smaller frame keeps its size.

    Returns:
        `(H, W, 3)` uint8 BGR.

    Raises:
        ValueError: The bytes are not an image, or a mask image has another aspect ratio than the frame.
    """
    frame = decode_image(encoded)
    height, width = frame.shape[:2]
    frame = fill_outside(frame, area_mask(scene.area, height, width))
    if scene.view == "square":
        [(left, top, side)] = place_views("square", height, width, scene.crop_horizontal_bias)
        frame = frame[top : top + side, left : left + side]
    return scaled_down(frame, longer_side_px)


def scaled_down(frame: np.ndarray, longer_side_px: int) -> np.ndarray:
    """Scale a frame, `(H, W, 3)` uint8 BGR, down until its longer side is at most `longer_side_px`."""
    scale = longer_side_px / max(frame.shape[:2])
    if scale >= 1:
        return frame
    height, width = (max(1, round(length * scale)) for length in frame.shape[:2])
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
