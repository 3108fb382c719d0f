"""A video file, written frame by frame by `cygnet.vision.clip`."""

from typing import Any

from cygnet.datasets.base import WriteOnly
from cygnet.storage import exists
from cygnet.vision.clip import Clip, write_clip


class VideoFileDataset(WriteOnly[Clip]):
    """Writes a clip."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Describe the file, local or on ADLS; its name ends in `.mp4`."""
        self._filepath = filepath
        self.metadata = metadata

    def save(self, data: Clip) -> None:
        """Write the clip; raises DatasetError where `write_clip` fails."""
        write_clip(data, self._filepath)

    def _exists(self) -> bool:
        return exists(self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
