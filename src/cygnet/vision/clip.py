"""Writing video: a clip goes to a file frame by frame, and the file is either complete or absent.

MPEG-4 Part 2 (`mp4v`) is the fastest codec that OpenCV's wheel can put into an mp4, and every player knows it. The
wheel can't write H.264.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from cygnet.storage import replacing


@dataclass(frozen=True)
class Clip:
    """A video to be written: `(H, W, 3)` uint8 BGR frames of one size, generated on demand."""

    frames: Iterator[np.ndarray]
    frames_per_s: float


def write_clip(clip: Clip, path: str) -> None:
    """Write a clip to an mp4 file, local or on ADLS; it replaces the file at `path` once all frames are written.

    Raises:
        OSError: The clip has no frames, or OpenCV can't write the file.
    """
    with replacing(path) as file:
        writer = cv2.VideoWriter()
        try:
            for frame in clip.frames:
                if not writer.isOpened():
                    size_px = frame.shape[1::-1]
                    codec = cv2.VideoWriter.fourcc(*"mp4v")
                    if not writer.open(str(file), cv2.CAP_FFMPEG, codec, clip.frames_per_s, size_px):
                        msg = f"{path}: OpenCV can't write a video of {size_px[0]}x{size_px[1]} pixels."
                        raise OSError(msg)
                writer.write(frame)
        finally:
            writer.release()
        if not file.exists():
            msg = f"{path}: the clip has no frame."
            raise OSError(msg)
