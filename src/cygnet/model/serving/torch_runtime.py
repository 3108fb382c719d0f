"""The detector run by torch: the runtime it was fitted in, and the reference for the others.

In bfloat16 only the transformer's blocks run, which do nearly all the work. Embeddings, the last normalisation, the
heads and the normality stay in float32, because a logit in bfloat16 has only three digits.
"""

import copy
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from cygnet.model.network.detector import Detector
from cygnet.model.network.threads import core_count
from cygnet.model.serving.runtimes import RuntimeSpec


class TorchRuntime:
    """Runs a detector on the device of its weights."""

    batch_size = 32

    def __init__(self, detector: Detector, spec: RuntimeSpec) -> None:
        self.name = spec.name
        self.detector = detector.eval()
        self.preprocessing = detector.preprocessing
        self._network = self.detector
        if spec.precision == "bfloat16":
            self._network = copy.deepcopy(self.detector)
            self._network.blocks.bfloat16()

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Take `(B, S, S, 3)` uint8 RGB; give logits `(B, 2)`, patch logits and patch distances `(B, G, G)`."""
        with torch.inference_mode():
            outputs = self._network(torch.from_numpy(images).to(self.detector.classifier.weight.device))
        logits, patch_logits, patch_distances = (output.cpu().numpy() for output in outputs)
        return logits, patch_logits, patch_distances

    def save(self, folder: Path, settings: dict[str, Any]) -> None:  # noqa: ARG002 - detector.json has them
        """Write config, weights in float32, and preprocessing, as Hugging Face does."""
        self.detector.save(folder)

    @classmethod
    def load(cls, folder: Path, spec: RuntimeSpec) -> Self:
        """Read what `save` wrote, and set torch's threads in this process to the number of its cores."""
        torch.set_num_threads(core_count())
        return cls(Detector.load(folder), spec)

    @classmethod
    def of(cls, detector: Detector, spec: RuntimeSpec) -> Self:
        """Run a fitted detector itself, in evaluation mode."""
        return cls(detector, spec)
