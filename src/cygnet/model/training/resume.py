"""Where a long fit leaves its state: a run that was killed continues from there.

The state is a tree of tensors and plain values, read by torch's restricted loader (`weights_only`), which runs no code.
A file is whole or absent, on disk and on ADLS. It carries the key of the run that wrote it, and is never used by a run
with other settings or other data.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cygnet
from cygnet.storage import exists, on_disk, replacing

if TYPE_CHECKING:
    from cygnet.model.network.detector import Detector

FILE_NAME = "state.pt"
CODE = ("model/network", "model/training", "vision")
"""The packages of Cygnet whose code decides what a fit results in."""


class StateStore:
    """A folder that holds the latest state of a fit."""

    def __init__(self, folder: str | Path) -> None:
        self.path = f"{folder}/{FILE_NAME}"

    def save(self, key: str, state: dict[str, Any]) -> None:
        """Replace the state."""
        import torch

        with replacing(self.path) as file:
            torch.save({"key": key, "state": state}, file)

    def load(self, key: str) -> dict[str, Any] | None:
        """Return the state that a run with the same key left, its tensors on the CPU; None if there is none."""
        import torch

        if not exists(self.path):
            return None
        with on_disk(self.path) as file:
            saved = torch.load(file, map_location="cpu", weights_only=True)
        state: dict[str, Any] | None = saved["state"] if saved["key"] == key else None
        return state


@dataclass(frozen=True)
class TrainingState:
    """What changes with every step: the weights, their moving average (EMA) and the optimizers."""

    detector: "Detector"
    ema: "Detector"
    optimizers: Sequence[Any]  # of torch, or Accelerate's wrappers

    def dump(self) -> dict[str, Any]:
        """Return everything, for `StateStore.save`."""
        return {
            "detector": self.detector.state_dict(),
            "average": self.ema.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `dump` returned; other entries are ignored."""
        self.detector.load_state_dict(state["detector"])
        self.ema.load_state_dict(state["average"])
        for optimizer, optimizer_state in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)


def code_digest() -> str:
    """Digest the code that a fit's result depends on: a state that other code left is not reused."""
    package, digest = Path(cygnet.__file__).parent, hashlib.blake2b(digest_size=16)
    for folder in CODE:
        for path in sorted((package / folder).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def detector_digest(detector: "Detector") -> str:
    """Digest the preprocessing and all weights."""
    made = hashlib.blake2b(json.dumps(detector.preprocessing.config()).encode(), digest_size=16)
    for value in detector.state_dict().values():
        made.update(value.cpu().contiguous().numpy().ravel())
    return made.hexdigest()
