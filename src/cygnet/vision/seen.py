"""How much of a frame is looked at, and how small an object may be."""

from dataclasses import dataclass

import numpy as np

from cygnet.scene import Scene
from cygnet.vision.crop import seen_places
from cygnet.vision.region import area_mask


@dataclass(frozen=True)
class Seen:
    """What is seen of the frames of one size."""

    tiles: int  # images of each frame
    side_px: int  # of the square that each image shows, in the frame's pixels
    seen_frac: float  # share of the frame's pixels that lie in an image and in the area, 0-1


def measure_seen(scene: Scene, height: int, width: int) -> Seen:
    """Measure what is seen of a frame.

    Args:
        scene: `view`, `region`, `ignore`, `crop_horizontal_bias`.
        height: Of the frame, in pixels.
        width: Of the frame, in pixels.

    Raises:
        ValueError: See `cygnet.vision.crop.seen_places`.
    """
    places = seen_places(scene.view, height, width, scene.crop_horizontal_bias, scene.area)
    is_seen = np.zeros((height, width), bool)
    for left, top, side in places:
        is_seen[max(top, 0) : top + side, max(left, 0) : left + side] = True
    mask = area_mask(scene.area, height, width)
    if mask is not None:
        is_seen &= mask > 0
    return Seen(len(places), places[0][2], float(is_seen.mean()))
