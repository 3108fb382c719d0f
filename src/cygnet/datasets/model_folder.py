"""A folder that a model writes itself into: whole or not there."""

import shutil
from pathlib import Path
from typing import Any, Protocol

from kedro.io import AbstractDataset


class SavesItself(Protocol):
    """What can write itself into a folder."""

    def save(self, folder: Path) -> None:
        """Write all files into a folder that is there and empty."""


class ModelFolderDataset(AbstractDataset[SavesItself, Path]):
    """Saves a model into a folder, in place of what is there, and loads the folder's path."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Describe the folder, on this machine's disk or one that is mounted like it."""
        self._filepath = Path(filepath)
        self.metadata = metadata

    def save(self, data: SavesItself) -> None:
        """Write the folder beside its place, then move it there."""
        partial = self._filepath.with_name(f".{self._filepath.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        data.save(partial)
        shutil.rmtree(self._filepath, ignore_errors=True)
        partial.replace(self._filepath)

    def load(self) -> Path:
        """Give the folder."""
        return self._filepath

    def _exists(self) -> bool:
        return self._filepath.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
