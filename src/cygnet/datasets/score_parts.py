"""The catalog's entry for the place where scoring keeps its parts."""

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset

from cygnet.model.scoring.score_parts import ScoreParts
from cygnet.storage import is_remote


class ScorePartsDataset(AbstractDataset[None, ScoreParts]):
    """Loads the place, whatever is there; Spark's workers write into it while they score."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Describe the folder: where the driver and all workers see it, or on ADLS."""
        self._filepath = filepath if is_remote(filepath) else str(Path(filepath).absolute())
        self.metadata = metadata

    def load(self) -> ScoreParts:
        """Give the place."""
        return ScoreParts(self._filepath)

    def save(self, data: None) -> NoReturn:
        """Refuse: no node makes it."""
        msg = f"{self._filepath} is written while frames are scored"
        raise NotImplementedError(msg)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
