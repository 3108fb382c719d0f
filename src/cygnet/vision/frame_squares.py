"""The squares of a frame that are scored, with the pixels that ingestion would have stored.

The detector was fitted on crops of frames that had been stored as JPEG, large ones decoded at a reduced size, and it
can tell one lossy generation from none (see `cygnet.vision.codec`). A square of a frame that comes straight from a
video is therefore processed alike: its pixels are bit for bit those of encoding the whole frame, decoding and cropping
it. Only the part around the square is encoded, which the independent blocks of JPEG allow.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from cygnet.parameters.scoring import Crop
from cygnet.tables import IMAGE_SIZE_PX
from cygnet.vision.codec import decode_image, encode_jpeg
from cygnet.vision.crop import decoding_reduction, place_square, resize_square

TILE_OVERLAP_FRAC = 0.2
"""Smallest overlap of neighbouring tiles, as a share of their side; a frame of 16:9 or 4:3 needs two tiles."""

BLOCK_PX = 16
"""Side of the blocks that JPEG encodes independently, with chroma at half size."""


@dataclass(frozen=True)
class Square:
    """A square in the frame's pixels; that of a letterbox extends beyond the frame."""

    left_px: int
    top_px: int
    side_px: int


def squares_of(crop: Crop, height: int, width: int, horizontal_bias: float) -> list[Square]:
    """Place the squares of one frame.

    Args:
        crop: `square`: the one that the model was trained on; `letterbox`: one around the whole frame; `tiles`: as many
            as cover the frame with an overlap, each as large as the frame allows.
        height: Of the frame, in pixels.
        width: Of the frame, in pixels.
        horizontal_bias: Of `square`, see `cygnet.vision.crop.crop_square`.
    """
    reduction = decoding_reduction((width, height))
    # positions in the reduced frame, as in ingestion
    reduced_height, reduced_width = -(-height // reduction), -(-width // reduction)
    if crop == "letterbox":
        side = max(reduced_height, reduced_width)
        places = [((reduced_width - side) // 2, (reduced_height - side) // 2, side)]
    elif crop == "square":
        places = [place_square(reduced_height, reduced_width, horizontal_bias)]
    else:
        side, length = sorted((reduced_height, reduced_width))
        count = int(np.ceil((length / side - TILE_OVERLAP_FRAC) / (1 - TILE_OVERLAP_FRAC)))
        starts = np.linspace(0, length - side, max(count, 1)).round().astype(int).tolist()
        places = [(start, 0, side) if reduced_width > reduced_height else (0, start, side) for start in starts]
    return [Square(left * reduction, top * reduction, side * reduction) for left, top, side in places]


def cut_square(frame: np.ndarray, square: Square, frame_jpeg_quality: int) -> np.ndarray:
    """Cut a square of a frame with the pixels that ingestion would have stored.

    Beyond the frame a letterbox shows the frame reflected at its border, as training images do: they are never padded
    with black or grey.

    Args:
        frame: `(H, W, 3)` uint8 BGR.
        square: One of `squares_of` for this frame.
        frame_jpeg_quality: JPEG quality of stored frames, 0-100.

    Returns:
        `(256, 256, 3)` uint8 BGR.
    """
    height, width = frame.shape[:2]
    reduction = decoding_reduction((width, height))
    left, right = _around(square.left_px, square.side_px, width)
    top, bottom = _around(square.top_px, square.side_px, height)
    part = decode_image(encode_jpeg(frame[top:bottom, left:right], frame_jpeg_quality), reduction)
    if square.left_px < 0 or square.top_px < 0:
        return _letterbox(part)
    left, top, side = ((each // reduction) for each in (square.left_px - left, square.top_px - top, square.side_px))
    return resize_square(part[top : top + side, left : left + side])


def _around(start: int, side: int, length: int) -> tuple[int, int]:
    """Bound the blocks that contain a stretch, and one more on each side, because chroma is smoothed."""
    first = start // BLOCK_PX - 1
    last = -(-(start + side) // BLOCK_PX) + 1
    return max(first * BLOCK_PX, 0), min(last * BLOCK_PX, length)


def _letterbox(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    scale = IMAGE_SIZE_PX / max(height, width)
    size_px = max(round(width * scale), 1), max(round(height * scale), 1)
    scaled = cv2.resize(frame, size_px, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    left, top = (IMAGE_SIZE_PX - size_px[0]) // 2, (IMAGE_SIZE_PX - size_px[1]) // 2
    right, bottom = IMAGE_SIZE_PX - size_px[0] - left, IMAGE_SIZE_PX - size_px[1] - top
    return cv2.copyMakeBorder(scaled, top, bottom, left, right, cv2.BORDER_REFLECT_101)
