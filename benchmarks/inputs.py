"""The images of the benchmarks: 1080p frames of a video of yours, or synthetic ones with as much detail.

The environment variable CYGNET_BENCH_VIDEO names the video. Without it, the benchmarks use synthetic frames, and those
that need a real video are skipped.
"""

import os
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measure import SkipBenchmark
from cygnet.vision.crop import place_views

ROOT = Path(__file__).parents[1]
FRAMES = 50
SHAPE = (1080, 1920, 3)


def crop_square(frame: np.ndarray, horizontal_bias: float) -> np.ndarray:
    """Cut the largest square out of a frame, as `scene.view: square` does."""
    ((left, top, side),) = place_views("square", frame.shape[0], frame.shape[1], horizontal_bias)
    return frame[top : top + side, left : left + side]


@cache
def video() -> Path | None:
    """Give the path of the 1080p video, or None if CYGNET_BENCH_VIDEO is not set.

    Raises:
        SkipBenchmark: CYGNET_BENCH_VIDEO does not name a 1080p video.
    """
    name = os.environ.get("CYGNET_BENCH_VIDEO")
    if not name:
        return None
    decoded, frame = cv2.VideoCapture(name, cv2.CAP_FFMPEG).read()
    if not decoded or frame.shape != SHAPE:
        msg = f"CYGNET_BENCH_VIDEO={name} is not a readable video of 1920x1080 pixels"
        raise SkipBenchmark(msg)
    return Path(name)


@cache
def full_hd_frames() -> list[np.ndarray]:
    """Give up to 50 frames `(1080, 1920, 3)` uint8 BGR of the video, or of noise in several octaves without one."""
    path = video()
    if path is None:
        return [_synthetic_scene(number) for number in range(FRAMES)]
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames: list[np.ndarray] = []
    while (read := capture.read())[0] and len(frames) < FRAMES:
        frames.append(read[1])
    return frames


def _synthetic_scene(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    octaves = [
        cv2.resize(rng.normal(0, 90 / 2**level, (9 * 2**level, 16 * 2**level, 3)), (1920, 1080)) for level in range(6)
    ]
    return np.clip(128 + sum(octaves), 0, 255).astype(np.uint8)
