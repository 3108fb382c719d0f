"""What of the frames is seen: told, and cut out of them."""

import logging
from collections.abc import Iterator
from typing import Any

from pyspark.sql import DataFrame

from cygnet.scene import Scene
from cygnet.vision.codec import encode_jpeg
from cygnet.vision.crop import frame_to_images, place_views

logger = logging.getLogger(__name__)


def tell_what_is_seen(frames: DataFrame, scene: Scene) -> None:
    """Log how many images each frame gives, and how much of a frame is not looked at.

    Args:
        frames: Frames that decoded: `width` and `height`, in pixels.
        scene: `view`, `crop_horizontal_bias`.
    """
    for row in frames.select("width", "height").distinct().orderBy("width", "height").collect():
        places = place_views(scene.view, row["height"], row["width"], scene.crop_horizontal_bias)
        side = places[0][2]
        size = f"{row['width']}x{row['height']}"
        unseen_frac = 1 - side**2 / (row["width"] * row["height"]) if scene.view == "square" else 0.0
        if unseen_frac > 0.01:
            logger.warning(
                "scene.view square does not look at %.0f %% of a frame of %s: whole and tiles see all of it.",
                100 * unseen_frac,
                size,
            )
        else:
            logger.info("A frame of %s is seen as %d square(s) of %d px.", size, len(places), side)


def cut_images(row: dict[str, Any], scene: Scene) -> Iterator[dict[str, Any]]:
    """Make of a row of `frames`, with label and split, the rows of `images`: one, or one of each tile."""
    images = frame_to_images(row["image"], scene.view, scene.crop_horizontal_bias)
    for tile, image in enumerate(images):
        image_id = row["frame_id"] if len(images) == 1 else f"{row['frame_id']}/tile-{tile}"
        encoded = encode_jpeg(image, scene.image_jpeg_quality)
        yield {**row, "image_id": image_id, "tile": tile, "tiles": len(images), "image": encoded}
