"""Annotated frames: the abnormal region outlined, what is not looked at dimmed, and a bar with the score below."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from cygnet.vision.frame_squares import Square
from cygnet.vision.region import EVERYWHERE, Area, area_mask, restore_outside

OUTLINE_BGR = (44, 100, 255)
NORMAL_BGR, ABNORMAL_BGR = (159, 111, 47), (44, 100, 217)
BACKGROUND_BGR, TEXT_BGR = (32, 32, 32), (255, 255, 255)

REGION_PROBABILITY = 0.5
"""A patch with at least this probability belongs to the region."""

DIMMED_TO = 0.4
"""Share of its brightness that remains of what is not looked at."""

MOST_SIDE_PX = 1280
"""Larger frames are scaled down: an annotated video is for viewing."""


@dataclass(frozen=True)
class FrameScore:
    """The result for one frame.

    Attributes:
        timestamp_s: Seconds from the start.
        anomaly_score: 0-1.
        is_anomalous: Whether the score reaches the threshold.
        square: The square of the frame that has this score.
        anomaly_map: `(G, G)` float32, 0-1, of that square.
    """

    timestamp_s: float
    anomaly_score: float
    is_anomalous: bool
    square: Square
    anomaly_map: np.ndarray


def annotated_frames(
    frames: Iterable[tuple[np.ndarray, FrameScore]], threshold: float, area: Area = EVERYWHERE
) -> Iterator[np.ndarray]:
    """Annotate frames one by one; all get the size of the first, those of another shape on a dark background.

    Args:
        frames: `(H, W, 3)` uint8 BGR with their scores.
        threshold: Score from which a frame is anomalous, 0-1.
        area: What of the frames was looked at.
    """
    size_px: tuple[int, int] | None = None
    for frame, score in frames:
        if size_px is None:
            scale = min(MOST_SIDE_PX / max(frame.shape[:2]), 1.0)
            size_px = _even(frame.shape[1] * scale), _even(frame.shape[0] * scale)
        mask = area_mask(area, *frame.shape[:2])
        marked = frame if mask is None else restore_outside(np.rint(DIMMED_TO * frame).astype(np.uint8), frame, mask)
        if score.is_anomalous:
            region = region_of(score.anomaly_map, score.square, *frame.shape[:2])
            marked = outlined(marked, region if mask is None else region & mask)
        yield np.concatenate([_fitted(marked, size_px), score_bar(size_px, score, threshold)])


def region_of(anomaly_map: np.ndarray, square: Square, height: int, width: int) -> np.ndarray:
    """Find the abnormal region of a frame: the likely patches, or the most likely one if none is.

    Args:
        anomaly_map: `(G, G)` float32, 0-1, of the patches of a square.
        square: Its position; parts outside the frame are ignored.
        height: Of the frame, in pixels.
        width: Of the frame, in pixels.

    Returns:
        `(height, width)` uint8, 255 in the region.
    """
    side = square.side_px
    patches = cv2.resize(anomaly_map, (side, side), interpolation=cv2.INTER_NEAREST)
    left, top = max(square.left_px, 0), max(square.top_px, 0)
    seen = patches[top - square.top_px : height - square.top_px, left - square.left_px : width - square.left_px]
    region = np.zeros((height, width), np.uint8)
    is_likely = seen >= min(REGION_PROBABILITY, seen.max())
    region[top : top + seen.shape[0], left : left + seen.shape[1]] = np.where(is_likely, 255, 0)
    return region


def outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draw the outline of a mask on a copy of an image, around the masked area and not over it.

    Args:
        image: `(H, W, 3)` uint8 BGR.
        mask: `(H, W)` uint8, above 0 inside.

    Returns:
        `(H, W, 3)` uint8 BGR.
    """
    thickness_px = max(round(min(image.shape[:2]) / 180), 2)
    grown = cv2.dilate(mask, np.ones((2 * thickness_px + 1, 2 * thickness_px + 1), np.uint8))
    contours, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(image.copy(), contours, -1, OUTLINE_BGR, thickness_px)


def score_bar(size_px: tuple[int, int], score: FrameScore, threshold: float) -> np.ndarray:
    """Draw the score as a bar as wide as the frame, with a line at the threshold, and time and score as text.

    Args:
        size_px: Width and height of the frame.
        score: The result to show.
        threshold: Score from which a frame is anomalous, 0-1.

    Returns:
        `(h, width, 3)` uint8 BGR; h is even and depends on the size only.
    """
    width, height = size_px[0], max(_even(size_px[1] * 0.06), 16)
    bar = np.full((height, width, 3), BACKGROUND_BGR, np.uint8)
    bar[:, : round(score.anomaly_score * width)] = ABNORMAL_BGR if score.is_anomalous else NORMAL_BGR
    left = min(round(threshold * width), width - 1)
    bar[:, max(left - 1, 0) : left + 1] = TEXT_BGR
    text = f"{score.timestamp_s:.2f} s   {score.anomaly_score:.3f}"
    origin = (height // 3, round(height * 0.7))
    return cv2.putText(bar, text, origin, cv2.FONT_HERSHEY_SIMPLEX, height / 45, TEXT_BGR, 1, cv2.LINE_AA)


def _fitted(image: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    height, width = image.shape[:2]
    scale = min(size_px[0] / width, size_px[1] / height)
    # a pixel left over by rounding does not need a border
    fitted = tuple(
        whole if abs(whole - side * scale) < 2 else max(round(side * scale), 1)
        for whole, side in zip(size_px, (width, height), strict=True)
    )
    scaled = cv2.resize(image, fitted, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    canvas = np.full((size_px[1], size_px[0], 3), BACKGROUND_BGR, np.uint8)
    left, top = (size_px[0] - fitted[0]) // 2, (size_px[1] - fitted[1]) // 2
    canvas[top : top + fitted[1], left : left + fitted[0]] = scaled
    return canvas


def _even(length: float) -> int:
    return max(2 * round(length / 2), 2)  # the codec subsamples chroma by two
