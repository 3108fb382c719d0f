"""The detector run by torch: what it was fitted in, and what other runtimes are held against.

`torch` runs in float32. `torch_bf16` runs the transformer's blocks in bfloat16, where nearly all the work is, and the
embeddings, the last normalisation and the heads in float32: in bfloat16 a logit has three digits.
"""

import copy
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from cygnet.model.network.detector import Detector
from cygnet.model.network.threads import core_count


class TorchRuntime:
    """Runs a detector where its weights are."""

    batch_size = 32

    def __init__(self, detector: Detector, name: str) -> None:
        self.name = name
        self.detector = detector.eval()
        self.preprocessing = detector.preprocessing
        self._blocks = copy.deepcopy(detector.blocks).bfloat16() if name == "torch_bf16" else None

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take `(B, S, S, 3)` uint8 RGB; give logits `(B, 2)` and patch logits `(B, G, G)`, float32."""
        with torch.inference_mode():
            batch = torch.from_numpy(images).to(self.detector.classifier.weight.device)
            if self._blocks is None:
                logits, patch_logits = self.detector(batch)
            else:
                tokens = self.detector.run_blocks(batch, 0).bfloat16()  # (B, T, D)
                for block in self._blocks:
                    tokens = block(tokens)
                logits, patch_logits = self.detector.finish(tokens.float(), len(self._blocks))
        return logits.cpu().numpy(), patch_logits.cpu().numpy()

    def save(self, folder: Path, settings: dict[str, Any]) -> None:  # noqa: ARG002 - detector.json has them
        """Write config, weights in float32, and preprocessing, as Hugging Face does."""
        self.detector.save(folder)

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        """Read what `save` wrote, and give torch in this process as many threads as it has cores."""
        torch.set_num_threads(core_count())
        return cls(Detector.load(folder), name)
