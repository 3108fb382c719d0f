"""From a whole frame to the 256x256 image that everything after ingestion sees.

Ingestion and the served model both call `frame_to_image`, which makes crop and resize the same in both.
"""

import cv2
import numpy as np

from cygnet.tables import IMAGE_SIZE_PX
from cygnet.vision.codec import decode_image, jpeg_size_px


def crop_square(image: np.ndarray, horizontal_bias: float) -> np.ndarray:
    """Cut the largest square: vertically centred, horizontally at `horizontal_bias` of the free margin.

    Args:
        image: `(H, W, 3)` or `(H, W)`.
        horizontal_bias: 0 = flush left, 0.5 = centred, 1 = flush right.

    Returns:
        A view `(S, S, 3)` or `(S, S)`, with S = min(H, W).
    """
    height, width = image.shape[:2]
    left, top, side = place_square(height, width, horizontal_bias)
    return image[top : top + side, left : left + side]


def place_square(height: int, width: int, horizontal_bias: float) -> tuple[int, int, int]:
    """Give the square that `crop_square` cuts: left, top and side, in pixels."""
    side = min(height, width)
    return round((width - side) * horizontal_bias), (height - side) // 2, side


def frame_to_image(encoded: bytes, horizontal_bias: float) -> np.ndarray:
    """Decode a frame, crop its square and resize it.

    A large JPEG is decoded at a half, a quarter or an eighth of its size within the DCT, as long as at least two source
    pixels remain per output pixel: for 1080p 2.6 times as fast as with PIL row by row, without a visible difference.

    Args:
        encoded: JPEG, PNG, WebP, BMP or TIFF of any size.
        horizontal_bias: See `crop_square`.

    Returns:
        `(256, 256, 3)` uint8 BGR.

    Raises:
        ValueError: The bytes are not an image.
    """
    reduction = decoding_reduction(jpeg_size_px(encoded))
    return resize_square(crop_square(decode_image(encoded, reduction), horizontal_bias))


def resize_square(square: np.ndarray) -> np.ndarray:
    """Resize `(S, S, 3)` uint8 to `(256, 256, 3)`."""
    shrinks = square.shape[0] > IMAGE_SIZE_PX
    return cv2.resize(
        square, (IMAGE_SIZE_PX, IMAGE_SIZE_PX), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )


def map_to_frame(anomaly_map: np.ndarray, height_px: int, width_px: int, horizontal_bias: float) -> np.ndarray:
    """Put the map of the square that `crop_square` cuts back into its frame.

    Args:
        anomaly_map: `(G, G)` float32.
        height_px: H, of the frame.
        width_px: W, of the frame.
        horizontal_bias: See `crop_square`.

    Returns:
        `(H, W)` float32, 0 outside the square.
    """
    frame_map = np.zeros((height_px, width_px), np.float32)
    square = crop_square(frame_map, horizontal_bias)
    square[:] = cv2.resize(anomaly_map, square.shape, interpolation=cv2.INTER_LINEAR)
    return frame_map


def decoding_reduction(size_px: tuple[int, int] | None) -> int:
    """Give the factor by which a JPEG is reduced in decoding: 1, 2, 4 or 8; 1 if its size is unknown."""
    side = min(size_px) if size_px else 0
    return max((factor for factor in (2, 4, 8) if side // factor >= 2 * IMAGE_SIZE_PX), default=1)
