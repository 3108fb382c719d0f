"""A file for people, of any kind: complete or absent, on disk or on ADLS, with a copy in MLflow.

kedro-mlflow's dataset for this needs a local path, because it logs the file from there. Kedro's own datasets leave half
a file behind when a write breaks off.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import mlflow
from kedro.io import AbstractDataset
from kedro.io.core import parse_dataset_definition

from cygnet.storage import exists, on_disk, replacing


class ReportDataset(AbstractDataset[Any, Any]):
    """Writes and reads a file by means of another dataset, which knows its format and local files."""

    def __init__(
        self,
        *,
        filepath: str,
        dataset: dict[str, Any],
        artifact_path: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Describe the file.

        Args:
            filepath: Its path, local or on ADLS.
            dataset: `type` and arguments of the dataset that knows its format, without `filepath`.
            artifact_path: Folder of the active MLflow run for a copy of what is saved; None: no copy.
            metadata: For kedro-viz.
        """
        self._filepath = filepath
        kind, self._arguments = parse_dataset_definition(dataset)
        self._kind: Any = kind
        self._artifact_path = artifact_path
        self.metadata = metadata

    @property
    def filepath(self) -> str:
        """Where the file is."""
        return self._filepath

    def save(self, data: Any) -> None:
        """Write the file and log the copy."""
        with replacing(self._filepath) as file:
            self._at(str(file)).save(data)
            if self._artifact_path is not None:
                mlflow.log_artifact(str(file), self._artifact_path)

    def load(self) -> Any:
        """Read the file."""
        with on_disk(self._filepath) as file:
            return self._at(file).load()

    @property
    def preview(self) -> Callable[..., Any]:
        """The preview of the file's own dataset, if it has one; its annotation tells kedro-viz how to show it."""

        @wraps(self._kind.preview)
        def preview(**arguments: Any) -> Any:
            with on_disk(self._filepath) as file:
                return self._at(file).preview(**arguments)

        return preview

    def _at(self, file: str) -> Any:
        return self._kind(filepath=file, **self._arguments)

    def _exists(self) -> bool:
        return exists(self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "dataset": self._kind.__name__, "artifact_path": self._artifact_path}
