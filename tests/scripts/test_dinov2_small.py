"""What rebuilding DINOv2 from a graph promises: the weights that the graph was exported from."""

import warnings
from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import save_file
from scripts.dinov2_small import UNUSED, largest_difference, rebuild
from transformers import Dinov2Config, Dinov2Model

CONFIG = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=70, patch_size=14)
SIDE_PX = 56  # not the size of the positions: they are interpolated, as in the wheel


class WithHead(torch.nn.Module):
    """A model with the backbone below a head, as in the wheel."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = Dinov2Model(CONFIG)
        for value in self.backbone.parameters():
            torch.nn.init.normal_(value, std=0.1)
        self.head = torch.nn.Linear(32, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Take `(B, 3, S, S)`; give `(B, T, 1)`."""
        return self.head(self.backbone(images).last_hidden_state)


@pytest.fixture(scope="module")
def backbone() -> Dinov2Model:
    """Give the backbone that is exported."""
    return WithHead().eval().backbone


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """Give the graph of the model, exported as the wheel's was."""
    path = tmp_path_factory.mktemp("graph") / "graph.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            WithHead().eval(),
            (torch.zeros(1, 3, SIDE_PX, SIDE_PX),),
            path,
            dynamo=False,
            input_names=["images"],
            dynamic_axes={"images": {0: "batch"}},
        )
    return onnx.load(path)


def test_the_weights_of_the_graph_are_found(backbone: Dinov2Model, graph: onnx.ModelProto, tmp_path: Path) -> None:
    CONFIG.save_pretrained(tmp_path)
    save_file(rebuild(graph.graph, width=32, patches=5 * 5), tmp_path / "model.safetensors", {"format": "pt"})
    rebuilt, told = Dinov2Model.from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    theirs = backbone.state_dict()
    for name, value in rebuilt.state_dict().items():
        assert name == UNUSED or torch.equal(value, theirs[name]), name


def test_other_weights_are_told_by_what_the_graph_computes(graph: onnx.ModelProto) -> None:
    weights = rebuild(graph.graph, width=32, patches=5 * 5)
    assert largest_difference(onnx.ModelProto.FromString(graph.SerializeToString()), weights, CONFIG) < 1e-4
    weights["layernorm.bias"] = weights["layernorm.bias"] + 0.5
    assert largest_difference(graph, weights, CONFIG) > 0.4
