"""The squares of a frame that are scored, with the pixels that ingestion would have stored.

The detector was fitted on crops of frames that had been stored as JPEG, large ones decoded at a reduced size, and it
can tell one lossy generation from none (see `cygnet.vision.codec`). A square of a frame that comes straight from a
video is therefore processed alike: its pixels are bit for bit those of encoding the whole frame, decoding and cropping
it. Only the part around the square is encoded, which the independent blocks of JPEG allow.
"""

from dataclasses import dataclass

import numpy as np

from cygnet.vision.codec import decode_image, encode_jpeg
from cygnet.vision.crop import cut_place, decoded_size_px, decoding_reduction, seen_places
from cygnet.vision.region import EVERYWHERE, Area, area_mask, fill_outside

BLOCK_PX = 16
"""Side of the blocks that JPEG encodes independently, with chroma at half size."""


@dataclass(frozen=True)
class Square:
    """A square in the frame's pixels; that of `whole` extends beyond the frame."""

    left_px: int
    top_px: int
    side_px: int


def squares_of(view: str, height: int, width: int, horizontal_bias: float, area: Area = EVERYWHERE) -> list[Square]:
    """Place what is seen of a frame as `seen_places` does, at the size at which ingestion decodes it.

    Args:
        view: `square`, `whole` or `tiles`.
        height: Of the frame, in pixels.
        width: Of the frame, in pixels.
        horizontal_bias: See `place_views`.
        area: What of the frame is looked at.

    Raises:
        ValueError: See `seen_places`.
    """
    reduction = decoding_reduction((width, height))
    places = seen_places(view, *decoded_size_px(height, width), horizontal_bias, area)
    return [Square(left * reduction, top * reduction, side * reduction) for left, top, side in places]


def cut_square(frame: np.ndarray, square: Square, frame_jpeg_quality: int, area: Area = EVERYWHERE) -> np.ndarray:
    """Cut a square of a frame with the pixels that ingestion would have stored.

    Args:
        frame: `(H, W, 3)` uint8 BGR.
        square: One of `squares_of` for this frame.
        frame_jpeg_quality: JPEG quality of stored frames, 0-100.
        area: What of the frame is looked at.

    Returns:
        `(256, 256, 3)` uint8 BGR.
    """
    height, width = frame.shape[:2]
    reduction = decoding_reduction((width, height))
    left, right = _around(square.left_px, square.side_px, width)
    top, bottom = _around(square.top_px, square.side_px, height)
    part = decode_image(encode_jpeg(frame[top:bottom, left:right], frame_jpeg_quality), reduction)
    mask = area_mask(area, *decoded_size_px(height, width))
    if mask is not None:
        row, column = top // reduction, left // reduction
        part = fill_outside(part, mask[row : row + part.shape[0], column : column + part.shape[1]])
    offsets = square.left_px - left, square.top_px - top, square.side_px
    return cut_place(part, (offsets[0] // reduction, offsets[1] // reduction, offsets[2] // reduction))


def _around(start: int, side: int, length: int) -> tuple[int, int]:
    """Bound the blocks that contain a stretch, and one more on each side, because chroma is smoothed."""
    first = start // BLOCK_PX - 1
    last = -(-(start + side) // BLOCK_PX) + 1
    return max(first * BLOCK_PX, 0), min(last * BLOCK_PX, length)
