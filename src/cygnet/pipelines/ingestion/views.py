"""What of the frames is seen: told, and cut out of them."""

import logging
from collections.abc import Iterator
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame

from cygnet.errors import UserError, counted
from cygnet.scene import Scene
from cygnet.vision.codec import encode_jpeg, encode_png
from cygnet.vision.crop import cut_areas, decoded_size_px, frame_to_images
from cygnet.vision.region import EVERYWHERE
from cygnet.vision.seen import Seen, measure_seen
from cygnet.vision.video import read_samples

logger = logging.getLogger(__name__)

PATCHES_PER_SIDE = 16
"""Of an image, by the default checkpoint: which one will be fitted is not known yet."""


def tell_what_is_seen(frames: DataFrame, scene: Scene) -> None:
    """Log how many images each frame gives, how much of it is not looked at, and the smallest object.

    Args:
        frames: Frames that decoded: `width` and `height`, in pixels.
        scene: `view`, `region`, `ignore`, `crop_horizontal_bias`.

    Raises:
        UserError: Nothing of a frame is left to look at, or its aspect ratio is not that of a mask image.
    """
    for row in frames.select("width", "height").distinct().orderBy("width", "height").collect():
        seen = _measure_seen(scene, row["height"], row["width"])
        unseen_frac = 1 - seen.seen_frac
        is_warning = scene.view == "square" and unseen_frac > 0.01
        logger.log(
            logging.WARNING if is_warning else logging.INFO,
            "A frame of %dx%d is seen as %s of %d px. Not looked at: %.1f %% of it%s. Smallest object, one "
            "of %d x %d patches: about %.0f px.",
            row["width"],
            row["height"],
            counted(seen.tiles, "square"),
            seen.side_px,
            100 * unseen_frac,
            "; scene.view whole and tiles see what square leaves out" if is_warning else "",
            PATCHES_PER_SIDE,
            PATCHES_PER_SIDE,
            seen.side_px / PATCHES_PER_SIDE,
        )


def check_first_frame(sources: pd.DataFrame, scene: Scene) -> None:
    """Check that the area fits the first frame of the first source, if that decodes, before any other is read.

    Args:
        sources: The table `SOURCES`.
        scene: `view`, `region`, `ignore`, `crop_horizontal_bias`.

    Raises:
        UserError: As `tell_what_is_seen`.
    """
    if scene.area == EVERYWHERE:
        return
    for source in sources.head(1).to_dict("records"):
        image = next(read_samples({str(name): value for name, value in source.items()}, None)).image
        if image is not None:
            _measure_seen(scene, *image.shape[:2])


def _measure_seen(scene: Scene, height: int, width: int) -> Seen:
    try:
        return measure_seen(scene, height, width)
    except ValueError as error:
        msg = f"A frame can't be used: {error}; change scene.region, scene.ignore or scene.view."
        raise UserError(msg) from error


def cut_images(row: dict[str, Any], scene: Scene) -> Iterator[dict[str, Any]]:
    """Make of a row of `frames`, with label and split, the rows of `images`: one, or one of each tile."""
    images = frame_to_images(row["image"], scene.view, scene.crop_horizontal_bias, scene.area)
    size_px = decoded_size_px(row["height"], row["width"])
    areas = cut_areas(scene.view, *size_px, scene.crop_horizontal_bias, scene.area)
    for tile, image in enumerate(images):
        image_id = row["frame_id"] if len(images) == 1 else f"{row['frame_id']}/tile-{tile}"
        yield {
            **row,
            "image_id": image_id,
            "tile": tile,
            "tiles": len(images),
            "image": encode_jpeg(image, scene.image_jpeg_quality),
            "area": encode_png(areas[tile]) if areas else None,
        }
