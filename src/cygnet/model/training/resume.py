"""Where a long fit leaves its state, so that a run that was killed goes on from there.

The state is a tree of tensors and plain values, read back by torch's restricted loader (`weights_only`), which runs no
code. A file is whole or not there, on disk or on ADLS. It carries the key of the run that wrote it, so that other
settings or other data never go on from it.
"""

import hashlib
from pathlib import Path
from typing import Any

import cygnet
from cygnet.storage import exists, on_disk, replacing

FILE_NAME = "state.pt"
CODE = ("model/network", "model/training", "vision")
"""Folders of the package."""


class Checkpoints:
    """The one latest state of a fit, in a folder."""

    def __init__(self, folder: str | Path) -> None:
        self.path = f"{folder}/{FILE_NAME}"

    def save(self, key: str, state: dict[str, Any]) -> None:
        """Replace the state."""
        import torch

        with replacing(self.path) as file:
            torch.save({"key": key, "state": state}, file)

    def load(self, key: str) -> dict[str, Any] | None:
        """Give the state that a run with the same key left, or None."""
        import torch

        if not exists(self.path):
            return None
        with on_disk(self.path) as file:
            saved = torch.load(file, map_location="cpu", weights_only=True)
        state: dict[str, Any] | None = saved["state"] if saved["key"] == key else None
        return state


def code_digest() -> str:
    """Digest the modules that a fit's result depends on: a state by other code is not reused."""
    package, made = Path(cygnet.__file__).parent, hashlib.blake2b(digest_size=16)
    for room in CODE:
        for path in sorted((package / room).glob("*.py")):
            made.update(path.read_bytes())
    return made.hexdigest()
