"""What the benchmarks work on: real 1080p frames where the video is there, else drawn ones with as much detail."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
VIDEO = ROOT.parent / "shared" / "data" / "videos" / "blackswan.mp4"
VIDEO_FRAMES_PER_S = 10.0
FRAMES = 50


@cache
def full_hd_frames() -> list[np.ndarray]:
    """Give 50 frames `(1080, 1920, 3)` uint8 BGR of a black swan, or of noise in several octaves without the video."""
    if not VIDEO.exists():
        return [_drawn_scene(number) for number in range(FRAMES)]
    capture = cv2.VideoCapture(str(VIDEO), cv2.CAP_FFMPEG)
    frames = []
    while (read := capture.read())[0] and len(frames) < FRAMES:
        frames.append(read[1])
    return frames


def _drawn_scene(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    octaves = [
        cv2.resize(rng.normal(0, 90 / 2**level, (9 * 2**level, 16 * 2**level, 3)), (1920, 1080)) for level in range(6)
    ]
    return np.clip(128 + sum(octaves), 0, 255).astype(np.uint8)
