"""The fitted detector as an ONNX graph, in float32 or int8.

torch's tracing exporter makes the graph, because the newer one needs `onnxscript`. The batch is the only dynamic axis.
Interpolated positions are constants, because ONNX has no antialiased interpolation.

int8 is ONNX Runtime's dynamic quantisation of the matrix products: weights by channel, once; activations as they come.
It needs no calibration images. `cygnet.model.evaluation.parity` measures on the test split what it does to the scores.

Weights take 7 of the 8 bits. AVX2 and AVX-512 without VNNI add pairs of products in 16 bits, which saturate at 32,767:
255 x 127 x 2 does, 255 x 64 x 2 = 32,640 does not, and every processor computes the same sums. A zero point by channel
makes up for the bit, and keeps Arm processors with SME from another quantisation of the activations. Scores of
cygnet-vit-tiny differ from float32 by 0.0029 in the mean; 8 bits would give 0.0030, saturated 0.0058. Unsigned weights
do not saturate either (0.0032), but ONNX Runtime has no VNNI or AMX kernel for them: a ViT-Base takes 643 ms with AVX2,
this 488 ms, float32 820 ms.
"""

import copy
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from cygnet.model.network.detector import Detector
from cygnet.model.serving.blocks import FirstBlocks, PatchDirections
from cygnet.model.serving.onnx_runtime import OUTPUTS

OPSET = 17
"""The first with LayerNormalization as one operator; ONNX Runtime has it since 1.12."""


def export_graph(detector: Detector) -> bytes:
    """Export a detector as an ONNX graph, normalisation included; `OnnxRuntime` describes inputs and outputs."""
    copied = copy.deepcopy(detector).cpu().eval()
    return _export(copied, copied, OUTPUTS)


def export_blocks(blocks: FirstBlocks | PatchDirections) -> bytes:
    """Export some blocks, from `images` to their `outputs`."""
    copied = copy.deepcopy(blocks).cpu().eval()
    return _export(copied, copied.detector, [*copied.outputs])


def _export(module: torch.nn.Module, detector: Detector, outputs: list[str]) -> bytes:
    """Export a module from images to `outputs`; `detector` is the one that it runs."""
    size_px = detector.preprocessing.size_px
    images = torch.zeros((1, size_px, size_px, 3), dtype=torch.uint8)
    with TemporaryDirectory() as folder, warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # about the older exporter, and about what tracing turns into constants
        _fix_positions(detector, images)
        torch.onnx.export(
            module,
            (images,),
            Path(folder, "graph.onnx"),
            dynamo=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in ("images", *outputs)},
        )
        return Path(folder, "graph.onnx").read_bytes()


def _fix_positions(detector: Detector, images: torch.Tensor) -> None:
    """Fix the embeddings' positions for images of this size, instead of tracing their interpolation."""
    embeddings = detector.backbone.embeddings
    interpolate, positions = embeddings.interpolate_pos_encoding, []

    def keep(*tokens_and_size: Any) -> torch.Tensor:
        positions.append(interpolate(*tokens_and_size))
        return positions[0]

    embeddings.interpolate_pos_encoding = keep
    detector(images)
    embeddings.interpolate_pos_encoding = lambda *_: positions[0]


def quantise(graph: bytes) -> bytes:
    """Quantise the matrix products of a graph with constant weights to int8, weights to -64..64.

    The product with the normal subspace stays as it is: the distance is a small difference of large numbers.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory() as folder:
        plain, prepared, quantised = (Path(folder, f"{name}.onnx") for name in ("plain", "prepared", "quantised"))
        plain.write_bytes(graph)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        names = [node.name for node in onnx.load(prepared).graph.node]
        quantize_dynamic(
            prepared,
            quantised,
            nodes_to_exclude=[name for name in names if "/normality/" in name],
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"WeightSymmetric": False},
        )
        return quantised.read_bytes()
