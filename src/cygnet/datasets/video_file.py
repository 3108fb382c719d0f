"""A video file that is written frame by frame and is complete or absent.

The codec is MPEG-4 Part 2 (`mp4v`): the fastest that the OpenCV wheel can write into an mp4, and every player knows it.
The wheel can't write H.264.
"""

from typing import Any

import cv2
from kedro.io import DatasetError

from cygnet.datasets.base import WriteOnly
from cygnet.storage import exists, replacing
from cygnet.vision.annotate import Clip


class VideoFileDataset(WriteOnly[Clip]):
    """Writes a clip."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Describe the file, local or on ADLS; its name ends in `.mp4`."""
        self._filepath = filepath
        self.metadata = metadata

    def save(self, data: Clip) -> None:
        """Write the frames as they are made, then move the file to its path.

        Raises:
            DatasetError: The clip has no frame, or OpenCV can't write the file.
        """
        with replacing(self._filepath) as file:
            self._write(data, str(file))
            if not file.exists():
                msg = f"{self._filepath}: the clip has no frame."
                raise DatasetError(msg)

    def _write(self, clip: Clip, file: str) -> None:
        writer = cv2.VideoWriter()
        try:
            for frame in clip.frames:
                if not writer.isOpened():
                    size_px = frame.shape[1::-1]
                    codec = cv2.VideoWriter.fourcc(*"mp4v")
                    if not writer.open(file, cv2.CAP_FFMPEG, codec, clip.frames_per_s, size_px):
                        msg = f"{self._filepath}: OpenCV can't write a video of {size_px[0]}x{size_px[1]} pixels."
                        raise DatasetError(msg)
                writer.write(frame)
        finally:
            writer.release()

    def _exists(self) -> bool:
        return exists(self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
