"""The detector run by ONNX Runtime: one graph from uint8 pixels to logits, without torch and transformers.

`cygnet.model.serving.export` makes the graph. Its file also carries the preprocessing's numbers, temperature and
threshold as metadata, for use elsewhere; here they are read from the JSON files beside it, as with every runtime.
"""

import json
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime

from cygnet.model.network.preprocessing import Preprocessing
from cygnet.model.network.threads import core_count

FILE_NAME = "detector.onnx"
OUTPUTS = ["logits", "patch_logits"]


class OnnxRuntime:
    """Runs a graph on the CPU."""

    def __init__(self, graph: bytes | Path, preprocessing: Preprocessing, name: str) -> None:
        """Start a session.

        Args:
            graph: From `images`, `(B, S, S, 3)` uint8 RGB, to `logits` `(B, 2)` and `patch_logits` `(B, G, G)`.
            preprocessing: Its size is S; the normalisation is part of the graph.
            name: `onnx`, or `onnx_int8`: one image at a time, because activations are quantised over a whole batch, and
                a score must not depend on the other images of a request.
        """
        self.name = name
        self.batch_size = 1 if name == "onnx_int8" else 8  # 73 images/s of cygnet-vit-tiny, by 32 65
        self.preprocessing = preprocessing
        self._graph = graph
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = core_count()
        options.log_severity_level = 3  # errors
        # Threads that spin while they wait take the cores from decoding, other requests and whatever else runs here.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        source = graph if isinstance(graph, bytes) else str(graph)
        self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take `(B, S, S, 3)` uint8 RGB; give logits `(B, 2)` and patch logits `(B, G, G)`, float32."""
        logits, patch_logits = self._session.run(OUTPUTS, {"images": images})
        return logits, patch_logits

    def save(self, folder: Path, settings: dict[str, Any]) -> None:
        """Write the graph, with the settings and the preprocessing as metadata, and the preprocessing."""
        import onnx

        graph = self._graph if isinstance(self._graph, bytes) else self._graph.read_bytes()
        model = onnx.load_model_from_string(graph)
        numbers = {**settings, "preprocessing": self.preprocessing.config()}
        onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in numbers.items()})
        onnx.save_model(model, folder / FILE_NAME)
        self.preprocessing.save(folder)

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        """Read what `save` wrote."""
        return cls(folder / FILE_NAME, Preprocessing.load(folder), name)
