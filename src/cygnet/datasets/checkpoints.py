"""The catalog's entry for a place where a long fit keeps its state."""

from typing import Any, NoReturn

from kedro.io import AbstractDataset

from cygnet.model.training.resume import StateStore


class CheckpointsDataset(AbstractDataset[None, StateStore]):
    """Loads the place, whatever is there; the fit itself reads and writes states while it runs."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = filepath
        self.metadata = metadata

    def load(self) -> StateStore:
        """Give the place."""
        return StateStore(self._filepath)

    def save(self, data: None) -> NoReturn:
        """Refuse: no node makes it."""
        msg = f"{self._filepath} is written by the fit that it is passed to"
        raise NotImplementedError(msg)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
