"""The squares of a frame that are scored, with the pixels that ingestion would have stored.

The detector was fitted on crops of frames that had been stored as JPEG, large ones decoded at a reduced size, and it
can tell one lossy generation from none (see `cygnet.vision.codec`). A square of a frame that comes straight from a
video is therefore processed alike: its pixels are bit for bit those of encoding the whole frame, decoding and cropping
it. Only the part around the square is encoded, which the independent blocks of JPEG allow.
"""

from dataclasses import dataclass

import numpy as np

from cygnet.vision.codec import decode_image, encode_jpeg
from cygnet.vision.crop import cut_place, decoding_reduction, place_views

BLOCK_PX = 16
"""Side of the blocks that JPEG encodes independently, with chroma at half size."""


@dataclass(frozen=True)
class Square:
    """A square in the frame's pixels; that of `whole` extends beyond the frame."""

    left_px: int
    top_px: int
    side_px: int


def squares_of(view: str, height: int, width: int, horizontal_bias: float) -> list[Square]:
    """Place what is seen of a frame as `place_views` does, at the size at which ingestion decodes it.

    Args:
        view: `square`, `whole` or `tiles`.
        height: Of the frame, in pixels.
        width: Of the frame, in pixels.
        horizontal_bias: See `place_views`.
    """
    reduction = decoding_reduction((width, height))
    places = place_views(view, -(-height // reduction), -(-width // reduction), horizontal_bias)
    return [Square(left * reduction, top * reduction, side * reduction) for left, top, side in places]


def cut_square(frame: np.ndarray, square: Square, frame_jpeg_quality: int) -> np.ndarray:
    """Cut a square of a frame with the pixels that ingestion would have stored.

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
    offsets = square.left_px - left, square.top_px - top, square.side_px
    return cut_place(part, (offsets[0] // reduction, offsets[1] // reduction, offsets[2] // reduction))


def _around(start: int, side: int, length: int) -> tuple[int, int]:
    """Bound the blocks that contain a stretch, and one more on each side, because chroma is smoothed."""
    first = start // BLOCK_PX - 1
    last = -(-(start + side) // BLOCK_PX) + 1
    return max(first * BLOCK_PX, 0), min(last * BLOCK_PX, length)
