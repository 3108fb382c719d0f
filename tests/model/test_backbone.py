"""What the backbone promises: a ViT with our two labels, whichever way it was had, or one sentence why not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    DeiTConfig,
    DeiTForImageClassification,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersForImageClassification,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from cygnet.errors import UserError
from cygnet.model.backbone import load_backbone
from cygnet.model.fit import WithPatchHead, patches_per_side
from cygnet.model.preprocessing import Preprocessing
from cygnet.parameters import Training

SIZES = {
    "image_size": 28,
    "patch_size": 14,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_labels": 5,
}
ARCHITECTURES: dict[str, Callable[[], PreTrainedModel]] = {
    "vit": lambda: ViTForImageClassification(ViTConfig(**SIZES, intermediate_size=32)),
    "deit": lambda: DeiTForImageClassification(DeiTConfig(**SIZES, intermediate_size=32)),
    "dinov2": lambda: Dinov2ForImageClassification(Dinov2Config(**SIZES)),
    "registers": lambda: Dinov2WithRegistersForImageClassification(Dinov2WithRegistersConfig(**SIZES)),
}


def of_checkpoint(training: Training, checkpoint: Path | str) -> Training:
    return training.model_copy(update={"checkpoint": str(checkpoint)})


def assert_has_our_labels(model: PreTrainedModel) -> None:
    assert model.config.id2label == {0: "abnormal", 1: "normal"}
    assert model.config.label2id == {"abnormal": 0, "normal": 1}


def equal_weights(one: PreTrainedModel, other: PreTrainedModel) -> list[bool]:
    return [torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)]


def test_without_a_checkpoint_a_vit_of_the_asked_size_is_made(training: Training) -> None:
    model, preprocessing = load_backbone(training)
    assert isinstance(model, ViTForImageClassification)
    assert preprocessing == Preprocessing(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    sizes = ("image_size", "patch_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    assert [getattr(model.config, name) for name in sizes] == [32, 16, 32, 1, 2]
    assert_has_our_labels(model)
    with torch.inference_mode():
        assert model(pixel_values=torch.zeros(3, 3, 32, 32)).logits.shape == (3, 2)


def test_weights_follow_from_the_seed(training: Training) -> None:
    first, again = load_backbone(training)[0], load_backbone(training)[0]
    other = load_backbone(training.model_copy(update={"seed": training.seed + 1}))[0]
    assert all(equal_weights(first, again))
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_checkpoint_keeps_its_weights_and_gets_a_new_head(
    architecture: str, tmp_path: Path, training: Training
) -> None:
    saved = ARCHITECTURES[architecture]()
    saved.save_pretrained(tmp_path)
    (model, preprocessing), (again, _) = (load_backbone(of_checkpoint(training, tmp_path)) for _ in range(2))
    assert type(model) is type(saved)
    assert preprocessing.size_px == 28
    assert_has_our_labels(model)
    assert model.classifier.weight.shape[0] == 2
    before, after = saved.base_model.state_dict(), model.base_model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(model.classifier.weight, again.classifier.weight)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_patch_head_sees_each_patch_and_no_other_token(architecture: str, training: Training) -> None:
    model = ARCHITECTURES[architecture]().eval()
    assert patches_per_side(model) == 2
    net = WithPatchHead(model, Preprocessing(28))
    seen: list[torch.Tensor] = []
    net.patch_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        logits, patches = net(torch.zeros(3, 28, 28, 3, dtype=torch.uint8))
        tokens = model(pixel_values=-torch.ones(3, 3, 28, 28), output_hidden_states=True).hidden_states[-1]
    assert logits.shape == (3, 5)
    assert patches.shape == (3, 2, 2)
    special = {"vit": 1, "deit": 2, "dinov2": 1, "registers": 5}[architecture]
    assert torch.equal(seen[0], tokens[:, special:])


def test_checkpoint_brings_its_own_preprocessing(tmp_path: Path, training: Training) -> None:
    ARCHITECTURES["vit"]().save_pretrained(tmp_path)
    numbers = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "size": {"height": 28, "width": 28}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(numbers))
    _, preprocessing = load_backbone(of_checkpoint(training, tmp_path))
    assert preprocessing == Preprocessing(28, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def no_folder(folder: Path) -> str:
    return str(folder / "nowhere")


def no_hub(folder: Path) -> str:
    return "nobody/no-such-vit"


def no_vit(folder: Path) -> str:
    ResNetForImageClassification(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])).save_pretrained(folder)
    return str(folder)


def pickled(folder: Path) -> str:
    model = ARCHITECTURES["vit"]()
    model.save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return str(folder)


def cut_short(folder: Path) -> str:
    ARCHITECTURES["vit"]().save_pretrained(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    return str(folder)


def without_config(folder: Path) -> str:
    return str(folder)


@pytest.mark.parametrize("make", [no_folder, no_hub, no_vit, pickled, cut_short, without_config])
def test_checkpoint_that_can_not_be_used_gets_one_line_that_names_it(
    make: Callable[[Path], str], tmp_path: Path, training: Training
) -> None:
    checkpoint = make(tmp_path)
    with pytest.raises(UserError) as refused:
        load_backbone(of_checkpoint(training, checkpoint))
    message = refused.value.message
    assert message.startswith(f"training.checkpoint '{checkpoint}' can't be used: ")
    assert "\n" not in message


def test_other_architecture_is_named_beside_those_that_are_allowed(tmp_path: Path, training: Training) -> None:
    with pytest.raises(UserError, match="it is a 'resnet', allowed are vit, deit, dinov2"):
        load_backbone(of_checkpoint(training, no_vit(tmp_path)))
