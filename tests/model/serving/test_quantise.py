"""What int8 promises: the same scores on every processor.

The reference is onnx's own evaluator: NumPy, whose integer products do not saturate.
"""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.reference import ReferenceEvaluator

from cygnet.model.serving.export import OPSET, export_graph, quantise
from cygnet.model.serving.scorer import softmax_abnormal
from support.toys import SMALL_VIT, toy_detector

DEPTH = 192
INT16 = np.iinfo(np.int16)
LARGEST_ACTIVATION = 255


def product_with(weights: np.ndarray) -> bytes:
    """Write a graph that is one matrix product with `(K, N)` weights."""
    depth, width = weights.shape
    graph = make_graph(
        [make_node("MatMul", ["x", "weights"], ["y"])],
        "product",
        [make_tensor_value_info("x", TensorProto.FLOAT, ["rows", depth])],
        [make_tensor_value_info("y", TensorProto.FLOAT, ["rows", width])],
        [numpy_helper.from_array(weights, "weights")],
    )
    return make_model(graph, opset_imports=[make_opsetid("", OPSET)], ir_version=10).SerializeToString()


def exact(graph: bytes, **inputs: np.ndarray) -> list[np.ndarray]:
    return ReferenceEvaluator(onnx.load_model_from_string(graph)).run(None, inputs)


def as_run(graph: bytes, **inputs: np.ndarray) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, inputs)


def constants(graph: bytes, suffix: str) -> list[np.ndarray]:
    initializers = onnx.load_model_from_string(graph).graph.initializer
    return [numpy_helper.to_array(part) for part in initializers if part.name.endswith(suffix)]


@pytest.fixture(scope="module")
def graph() -> bytes:
    """Give the int8 graph of a toy detector."""
    return quantise(export_graph(toy_detector(SMALL_VIT)))


WORST = {
    "all-positive": np.ones((DEPTH, 8), np.float32),
    "all-negative": -np.ones((DEPTH, 8), np.float32),
    "positive-then-negative": np.repeat(np.float32([1, -1]), DEPTH // 2)[:, None].repeat(8, axis=1),
    "random": np.random.default_rng(0).normal(0, 1, (DEPTH, 24)).astype(np.float32),
}


@pytest.mark.parametrize("rows", [1, 3, 37])  # there are kernels for few rows
@pytest.mark.parametrize("weights", WORST.values(), ids=WORST)
def test_sums_of_the_largest_activations_and_weights_are_exact(weights: np.ndarray, rows: int) -> None:
    product = quantise(product_with(weights))
    bright = np.ones((rows, DEPTH), np.float32)  # quantised: all 255
    (answered,), (expected,) = (run(product, x=bright) for run in (as_run, exact))
    np.testing.assert_allclose(answered, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_no_sum_of_two_products_leaves_16_bits(graph: bytes) -> None:
    weights = constants(graph, "_quantized")
    assert len(weights) >= 6  # four of attention, two of the MLP
    for weight in weights:
        assert weight.dtype == np.int8
        lowest, highest = int(weight.min()), int(weight.max())
        assert INT16.min <= 2 * LARGEST_ACTIVATION * lowest
        assert 2 * LARGEST_ACTIVATION * highest <= INT16.max
        assert (lowest, highest) == (-64, 64)  # all of the range is used


def test_zero_points_exclude_kernels_that_quantise_activations_in_another_way(graph: bytes) -> None:
    zero_points = constants(graph, "_zero_point")
    assert len(zero_points) == len(constants(graph, "_quantized"))
    assert all(zeros.any() for zeros in zero_points)


def test_detector_scores_as_with_exact_sums(graph: bytes) -> None:
    for image in np.random.default_rng(0).integers(0, 256, (12, 1, 32, 32, 3), dtype=np.uint8):
        answered, expected = (run(graph, images=image) for run in (as_run, exact))
        scores = [softmax_abnormal(logits[:, 0], logits[:, 1]) for logits, *_ in (answered, expected)]
        np.testing.assert_allclose(*scores, rtol=0, atol=0.003)  # where an activation is rounded the other way
        np.testing.assert_allclose(answered[1], expected[1], rtol=0, atol=0.02)
        np.testing.assert_allclose(answered[2], expected[2], rtol=0.01)
