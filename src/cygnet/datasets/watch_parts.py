"""The catalog's entry for the folder where a watch keeps what it found."""

from pathlib import Path
from typing import Any

from cygnet.datasets.base import ReadOnly
from cygnet.model.scoring.watch_parts import WatchParts
from cygnet.storage import is_remote


class WatchPartsDataset(ReadOnly[WatchParts]):
    """Loads a handle to the folder, which is written while a source is watched."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Describe the folder, on any storage."""
        self._filepath = filepath if is_remote(filepath) else str(Path(filepath).absolute())
        self.metadata = metadata

    def load(self) -> WatchParts:
        """Give the handle, whether or not the folder exists."""
        return WatchParts(self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
