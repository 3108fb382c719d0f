"""The runtimes of a detector, each declared once: its library, its precision, and what a served model needs for it.

To add one, add an entry to `RUNTIMES` and its name to `cygnet.parameters.serving.RuntimeName`; a test compares the two.
A new library also takes a class that implements `Runtime`. The served model carries this module, which therefore
imports a library only when its runtime is made or loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np

from cygnet.model.network.preprocessing import Preprocessing

if TYPE_CHECKING:
    from cygnet.model.network.detector import Detector


class Runtime(Protocol):
    """A network that is ready to run, with the preprocessing that it was fitted with."""

    name: str  # as in serving.runtime
    batch_size: int  # images per call of `run`
    preprocessing: Preprocessing

    @property
    def basis(self) -> np.ndarray:
        """The orthonormal basis of the normal subspace, `(D, K)` float32."""

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Take `(B, S, S, 3)` uint8 RGB.

        Returns:
            Logits `(B, 2)`, patch logits `(B, G, G)`, and the patches' squared distances to the normal subspace
            `(B, G, G)`, >= 0; float32.
        """

    def centred(self, images: np.ndarray) -> np.ndarray:
        """Take the same; return the patches' features less the mean of the normal subspace, `(B, P, D)` float32."""

    def with_basis(self, basis: np.ndarray) -> Self:
        """Give the same network with another basis, `(D, K)` float32; needs what `of` needs."""

    def save(self, folder: Path, settings: dict[str, Any]) -> None:
        """Write the network and its preprocessing; a single-file format carries the scorer's settings too."""

    @classmethod
    def load(cls, folder: Path, spec: "RuntimeSpec") -> Self:
        """Read what `save` wrote."""

    @classmethod
    def of(cls, detector: "Detector", spec: "RuntimeSpec") -> Self:
        """Make the runtime of a fitted detector, which stays as it is."""


@dataclass(frozen=True)
class Library:
    """What runs a network, and what a served model needs for it beside what `packaging` lists for every runtime."""

    runtime: Callable[[], type[Runtime]]  # imports the library
    modules: tuple[str, ...]  # of this package, to carry in the served model
    requirements: tuple[str, ...]  # distributions to install where it is served


@dataclass(frozen=True)
class RuntimeSpec:
    """A runtime: a library at a precision. In less than float32, scores differ from those of torch in float32."""

    name: str
    library: Library
    precision: Literal["float32", "bfloat16", "int8"]

    def load(self, folder: Path) -> Runtime:
        """Read what a runtime of this kind has saved."""
        return self.library.runtime().load(folder, self)

    def make(self, detector: "Detector") -> Runtime:
        """Make the runtime of a fitted detector, which stays as it is."""
        return self.library.runtime().of(detector, self)


def _torch_runtime() -> type[Runtime]:
    from cygnet.model.serving.torch_runtime import TorchRuntime

    return TorchRuntime


def _onnx_runtime() -> type[Runtime]:
    from cygnet.model.serving.onnx_runtime import OnnxRuntime

    return OnnxRuntime


TORCH = Library(
    _torch_runtime,
    modules=("model/network/detector.py", "model/network/normality.py", "model/serving/torch_runtime.py"),
    requirements=("safetensors", "torch", "transformers"),
)
ONNX = Library(_onnx_runtime, modules=("model/serving/onnx_runtime.py",), requirements=("onnxruntime",))

RUNTIMES = {
    spec.name: spec
    for spec in (
        RuntimeSpec("torch", TORCH, "float32"),
        RuntimeSpec("torch_bf16", TORCH, "bfloat16"),
        RuntimeSpec("onnx", ONNX, "float32"),
        RuntimeSpec("onnx_int8", ONNX, "int8"),
    )
}
