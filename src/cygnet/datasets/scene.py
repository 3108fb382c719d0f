"""The scene's record: one JSON file beside the tables that were made with it."""

import json
from dataclasses import asdict
from typing import Any

from kedro.io import AbstractDataset

from cygnet.errors import UserError
from cygnet.scene import Scene, read_scene
from cygnet.storage import exists, read_bytes, replacing


class SceneDataset(AbstractDataset[Scene, Scene]):
    """Stores a `Scene` as JSON, on disk or on ADLS."""

    def __init__(self, *, filepath: str, made_by: str, metadata: dict[str, Any] | None = None) -> None:
        """Describe the file.

        Args:
            filepath: Its path, local or on ADLS.
            made_by: The pipeline that writes it, for error messages.
            metadata: For kedro-viz.
        """
        self._filepath = filepath
        self._made_by = made_by
        self.metadata = metadata

    def save(self, data: Scene) -> None:
        """Replace the file."""
        with replacing(self._filepath) as file:
            file.write_text(json.dumps(asdict(data), indent=1))

    def check(self) -> Scene:
        """Read the file.

        Raises:
            UserError: It is missing, or another version of Cygnet wrote it.
        """
        try:
            return read_scene(json.loads(read_bytes(self._filepath)))
        except (FileNotFoundError, ValueError, TypeError) as error:
            msg = (
                f"{self._filepath} does not say how the tables beside it were made: "
                f"run `kedro run --pipeline={self._made_by}` (again)."
            )
            raise UserError(msg) from error

    def load(self) -> Scene:
        """Read the file; raises as `check` does."""
        return self.check()

    def made_with(self) -> dict[str, Any]:
        """Give the recorded values by parameter; raises as `check` does."""
        return self.check().by_parameter()

    def _exists(self) -> bool:
        return exists(self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
