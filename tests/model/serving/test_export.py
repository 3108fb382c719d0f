"""What the export promises: every backbone that can be fitted can be served, with the same numbers."""

import copy
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformers import (
    DeiTConfig,
    DeiTModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    PreTrainedModel,
    ViTConfig,
    ViTModel,
)

from cygnet.model.network.detector import Detector
from cygnet.model.network.preprocessing import Preprocessing
from cygnet.model.serving.export import export_graph
from cygnet.model.serving.runtimes import RUNTIMES
from support.toys import SMALL_VIT, toy_detector

SIZES = {"image_size": 28, "patch_size": 14, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
ARCHITECTURES: dict[str, Callable[[], PreTrainedModel]] = {
    "vit": lambda: ViTModel(ViTConfig(**SIZES, intermediate_size=32), add_pooling_layer=False),
    "deit": lambda: DeiTModel(DeiTConfig(**SIZES, intermediate_size=32), add_pooling_layer=False),
    "dinov2": lambda: Dinov2Model(Dinov2Config(**SIZES)),
    "registers": lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SIZES)),
}


def some_images(size_px: int, count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size_px, size_px, 3), dtype=np.uint8)


@pytest.mark.parametrize("size_px", [28, 42])  # the checkpoint's own, and one that interpolates its positions
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_graph_of_every_backbone_answers_as_torch_at_every_batch_size(architecture: str, size_px: int) -> None:
    torch.manual_seed(0)
    backbone = ARCHITECTURES[architecture]()
    torch.nn.init.normal_(backbone.embeddings.position_embeddings)
    detector = Detector(backbone, Preprocessing(size_px, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))).eval()
    for head in (detector.classifier, detector.patch_head):
        torch.nn.init.normal_(head.weight)
    graph, plain = RUNTIMES["onnx"].make(detector), RUNTIMES["torch"].make(detector)
    for count in (1, 5):
        for one, other in zip(
            graph.run(some_images(size_px, count)), plain.run(some_images(size_px, count)), strict=True
        ):
            assert one.shape == other.shape
            assert one.dtype == other.dtype == np.float32
            np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["onnx", "onnx_int8"])
@pytest.mark.parametrize("cores", [1, 2, 4])
def test_no_image_depends_on_the_others_however_many_cores_there_are(
    name: str, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(cores))
    runtime, images = RUNTIMES[name].make(toy_detector(SMALL_VIT)), some_images(32, 5)
    together = runtime.run(images)
    for index in range(len(images)):
        for one, all_of_them in zip(runtime.run(images[index : index + 1]), together, strict=True):
            np.testing.assert_array_equal(one[0], all_of_them[index])


def test_the_graph_itself_takes_any_number_of_images() -> None:
    detector, images = toy_detector(SMALL_VIT), some_images(32, 5)
    session = onnxruntime.InferenceSession(export_graph(detector), providers=["CPUExecutionProvider"])
    for one, other in zip(
        session.run(None, {"images": images}), RUNTIMES["onnx"].make(detector).run(images), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)


def test_graph_takes_raw_pixels_and_has_one_dynamic_axis() -> None:
    graph = onnx.load_model_from_string(export_graph(toy_detector(SMALL_VIT))).graph
    (images,) = graph.input
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    dimensions = [axis.dim_param or axis.dim_value for axis in images.type.tensor_type.shape.dim]
    assert dimensions == ["batch", 32, 32, 3]
    assert [output.name for output in graph.output] == ["logits", "patch_logits", "patch_distances"]


def test_int8_graph_is_a_good_deal_smaller() -> None:
    detector = toy_detector(SMALL_VIT.model_copy(update={"hidden_size": 128, "layers": 4}))
    plain, quantised = (RUNTIMES[name].make(detector)._graph for name in ("onnx", "onnx_int8"))
    assert len(quantised) < 0.5 * len(plain)


@pytest.mark.parametrize("name", RUNTIMES)
def test_making_a_runtime_leaves_the_detector_as_it_is(name: str) -> None:
    detector = toy_detector(SMALL_VIT)
    before = copy.deepcopy(detector.state_dict())
    RUNTIMES[name].make(detector).run(some_images(32))
    for key, value in detector.state_dict().items():
        assert value.dtype == before[key].dtype
        assert torch.equal(value, before[key])
