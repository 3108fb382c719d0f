"""A folder that a model writes itself into: complete or absent. On ADLS a marker, written last, says that it is."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from kedro.io import AbstractDataset

from cygnet.errors import UserError
from cygnet.storage import MARKER, exists, is_remote, put_folder, remove


class SavesItself(Protocol):
    """A model that can write itself into a folder."""

    def save(self, folder: Path) -> None:
        """Write all files into an existing, empty folder."""


class ModelFolderDataset(AbstractDataset[SavesItself, Path]):
    """Saves a model into a folder, replacing what is there; loads the folder's path."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Describe the folder, local or on ADLS."""
        self._filepath = filepath
        self.metadata = metadata

    def save(self, data: SavesItself) -> None:
        """Write the files into a temporary folder, then move it to its path; on ADLS, upload them."""
        if is_remote(self._filepath):
            with TemporaryDirectory(prefix="cygnet-") as written:
                data.save(Path(written))
                remove(self._filepath)
                put_folder(Path(written), self._filepath)
            return
        folder = Path(self._filepath)
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        data.save(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)

    def load(self) -> Path:
        """Give the folder.

        Raises:
            UserError: It is on ADLS, where models are not read from.
        """
        if is_remote(self._filepath):
            msg = f"{self._filepath}: a checkpoint must be a local folder: download it and name the copy."
            raise UserError(msg)
        return Path(self._filepath)

    def _exists(self) -> bool:
        return exists(f"{self._filepath}/{MARKER}" if is_remote(self._filepath) else self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
