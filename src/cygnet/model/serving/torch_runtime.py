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
from cygnet.model.serving.runtimes import RUNTIMES, RuntimeSpec


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
            outputs = self._network(self._on_device(images))
        logits, patch_logits, patch_distances = (output.cpu().numpy() for output in outputs)
        return logits, patch_logits, patch_distances

    @property
    def basis(self) -> np.ndarray:
        """The basis of the normal subspace, `(D, K)` float32."""
        return self.detector.normality.basis.cpu().numpy()

    def centred(self, images: np.ndarray) -> np.ndarray:
        """Take `(B, S, S, 3)` uint8 RGB; give features less the mean of the normal subspace, `(B, P, D)` float32."""
        normality = self._network.normality
        with torch.inference_mode():
            _, features = self._network.run_blocks(self._on_device(images), normality.last_block)
            return (features - normality.mean).cpu().numpy()

    def with_basis(self, basis: np.ndarray) -> Self:
        """Give the same network with another basis, `(D, K)` float32."""
        detector = copy.deepcopy(self.detector)
        detector.normality.basis = torch.from_numpy(basis).to(detector.normality.mean.device)
        return type(self)(detector, RUNTIMES[self.name])

    def _on_device(self, images: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(images).to(self.detector.classifier.weight.device)

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
