"""The catalog's entry for the folder where fitting or pretraining keeps its state, to resume from."""

from typing import Any

from cygnet.datasets.base import ReadOnly
from cygnet.model.training.resume import StateStore


class TrainingStateDataset(ReadOnly[StateStore]):
    """Loads a handle to the folder; the fit reads and writes its states through it while it runs."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Describe the folder."""
        self._filepath = filepath
        self.metadata = metadata

    def load(self) -> StateStore:
        """Give the handle, whether or not the folder exists."""
        return StateStore(self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
