"""A video file that is written frame by frame and is whole or not there.

MPEG-4 Part 2 (`mp4v`): of what the OpenCV wheel can write into an mp4 the quickest, and every player knows it. H.264 it
can't write.
"""

from pathlib import Path
from typing import Any, NoReturn

import cv2
from kedro.io import AbstractDataset, DatasetError

from cygnet.vision.annotate import Clip


class VideoFileDataset(AbstractDataset[Clip, None]):
    """Writes a clip; write-only."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Describe the file, on this machine's disk or mounted like it; its name ends in `.mp4`."""
        self._filepath = Path(filepath)
        self.metadata = metadata

    def save(self, data: Clip) -> None:
        """Write the frames beside the file's place as they are made, then move the file there.

        Raises:
            DatasetError: There is no frame, or OpenCV can't write the file.
        """
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        partial = self._filepath.with_name(f".partial.{self._filepath.name}")
        partial.unlink(missing_ok=True)
        writer = cv2.VideoWriter()
        try:
            for frame in data.frames:
                if not writer.isOpened():
                    size_px = frame.shape[1::-1]
                    codec = cv2.VideoWriter.fourcc(*"mp4v")
                    if not writer.open(str(partial), cv2.CAP_FFMPEG, codec, data.frames_per_s, size_px):
                        msg = f"{partial}: OpenCV can't write a video of {size_px[0]}x{size_px[1]} pixels there"
                        raise DatasetError(msg)
                writer.write(frame)
        finally:
            writer.release()
        if not partial.exists():
            msg = f"{self._filepath}: there is no frame to write"
            raise DatasetError(msg)
        partial.replace(self._filepath)

    def load(self) -> NoReturn:
        """Refuse: the file is for people."""
        raise NotImplementedError

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
