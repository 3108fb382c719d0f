"""The detector run by ONNX Runtime: one graph from uint8 pixels to logits, without torch and transformers.

`cygnet.model.serving.export` makes the graph. For other programs, its file also carries the preprocessing, temperature
and threshold as metadata. Cygnet reads them from the JSON files beside it, as with every runtime.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import onnxruntime

from cygnet.model.network.preprocessing import Preprocessing
from cygnet.model.network.threads import core_count
from cygnet.model.serving.runtimes import RUNTIMES, RuntimeSpec

if TYPE_CHECKING:
    from cygnet.model.network.detector import Detector

FILE_NAME = "detector.onnx"
OUTPUTS = ["logits", "patch_logits", "patch_distances"]
BASIS = "normality.basis"
"""The graph's constant with the basis of the normal subspace."""

RunImages = Callable[[np.ndarray], list[np.ndarray]]
"""From `(B, S, S, 3)` uint8 RGB, B >= 1, to the outputs of a graph, `(B, ...)` each."""


class OnnxRuntime:
    """Runs a graph on the CPU."""

    def __init__(self, graph: bytes | Path, preprocessing: Preprocessing, spec: RuntimeSpec) -> None:
        """Start a session.

        Args:
            graph: From `images`, `(B, S, S, 3)` uint8 RGB, to `OUTPUTS`: see `Runtime.run`.
            preprocessing: Its size is S; the normalisation is part of the graph.
            spec: Which runtime it is.
        """
        self.name = spec.name
        self.preprocessing = preprocessing
        self._graph = graph
        self.batch_size = 4 * core_count()  # no core waits long for the last image
        self._run = image_runner(graph, OUTPUTS)

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Take `(B, S, S, 3)` uint8 RGB; give logits `(B, 2)`, patch logits and patch distances `(B, G, G)`."""
        logits, patch_logits, patch_distances = self._run(images)
        return logits, patch_logits, patch_distances

    @cached_property
    def basis(self) -> np.ndarray:
        """The basis of the normal subspace, `(D, K)` float32; needs onnx, as do the two methods below."""
        from onnx import numpy_helper

        (constant,) = (each for each in self._read_graph().graph.initializer if each.name == BASIS)
        return numpy_helper.to_array(constant)

    def centred(self, images: np.ndarray) -> np.ndarray:
        """Take `(B, S, S, 3)` uint8 RGB; give features less the mean of the normal subspace, `(B, P, D)` float32."""
        (features,) = self._centring(images)
        return features

    @cached_property
    def _centring(self) -> RunImages:
        """The graph up to the product with the basis.

        The graph that is served does without that output.
        """
        from onnx import TensorProto, helper

        model = self._read_graph()
        (name,) = (node.input[0] for node in model.graph.node if BASIS in node.input)
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        return image_runner(model.SerializeToString(), [name])

    def with_basis(self, basis: np.ndarray) -> Self:
        """Give the same network with another basis, `(D, K)` float32."""
        from onnx import numpy_helper

        model = self._read_graph()
        (constant,) = (each for each in model.graph.initializer if each.name == BASIS)
        constant.CopyFrom(numpy_helper.from_array(basis, BASIS))
        del model.graph.value_info[:]  # a quantised graph records shapes, which depend on K
        return type(self)(model.SerializeToString(), self.preprocessing, RUNTIMES[self.name])

    def _read_graph(self) -> Any:
        import onnx

        return onnx.load_model_from_string(self._graph if isinstance(self._graph, bytes) else self._graph.read_bytes())

    def save(self, folder: Path, settings: dict[str, Any]) -> None:
        """Write the graph, with the settings and the preprocessing as metadata, and the preprocessing."""
        import onnx

        model = self._read_graph()
        numbers = {**settings, "preprocessing": self.preprocessing.config()}
        onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in numbers.items()})
        onnx.save_model(model, folder / FILE_NAME)
        self.preprocessing.save(folder)

    @classmethod
    def load(cls, folder: Path, spec: RuntimeSpec) -> Self:
        """Read what `save` wrote."""
        return cls(folder / FILE_NAME, Preprocessing.load(folder), spec)

    @classmethod
    def of(cls, detector: "Detector", spec: RuntimeSpec) -> Self:
        """Export a fitted detector; needs torch and onnx, which serving does without."""
        from cygnet.model.serving.export import export_graph, quantise

        graph = export_graph(detector)
        return cls(quantise(graph) if spec.precision == "int8" else graph, detector.preprocessing, spec)


def image_runner(graph: bytes | Path, outputs: list[str]) -> RunImages:
    """Make a function that runs a graph on the CPU, image by image, with the threads that this process may use.

    Each image has a core of its own, unless there are fewer images than cores: then all cores work on one after the
    other. On two cores, 8 images at once take 55 ms each as one batch, and 49 ms this way (8 blocks of DINOv2-S, AVX2;
    with AVX-512 43 and 35 ms; cygnet-vit-tiny in int8 13 and 8 ms, because int8 must not batch: activations are
    quantised over the whole batch). No image's output depends on the others. With several cores, two sessions hold the
    weights.

    Args:
        graph: From `images`, `(B, S, S, 3)` uint8 RGB.
        outputs: Names of the graph's outputs.
    """
    cores = core_count()
    on_all_cores = on_one_core = _start_session(graph, cores)
    if cores > 1:
        on_one_core = _start_session(graph, 1)
    pool = ThreadPoolExecutor(cores, "onnx")

    def run(images: np.ndarray) -> list[np.ndarray]:
        session, map_images = (on_one_core, pool.map) if len(images) >= cores else (on_all_cores, map)
        parts = map_images(lambda image: session.run(outputs, {"images": image[None]}), images)
        return [np.concatenate(output) for output in zip(*parts, strict=True)]

    return run


def _start_session(graph: bytes | Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    # Threads that spin while they wait would take the cores from decoding and from other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = graph if isinstance(graph, bytes) else str(graph)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
