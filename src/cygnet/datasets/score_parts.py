"""The catalog's entry for the folder where scoring keeps its parts."""

from pathlib import Path
from typing import Any

from cygnet.datasets.base import ReadOnly
from cygnet.model.scoring.score_parts import ScoreParts
from cygnet.storage import is_remote


class ScorePartsDataset(ReadOnly[ScoreParts]):
    """Loads a handle to the folder; Spark's workers write into it while they score."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Describe the folder: on ADLS, or where the driver and all workers see it."""
        self._filepath = filepath if is_remote(filepath) else str(Path(filepath).absolute())
        self.metadata = metadata

    def load(self) -> ScoreParts:
        """Give the handle, whether or not the folder exists."""
        return ScoreParts(self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
