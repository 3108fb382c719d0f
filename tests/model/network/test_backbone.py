"""What the backbone promises: a ViT with our two labels, whichever way it was had, or one sentence why not."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
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
from cygnet.model.network.backbone import load_detector
from cygnet.model.network.detector import Detector
from cygnet.model.network.preprocessing import Preprocessing
from cygnet.parameters.training import Training

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


def of_checkpoint(training: Training, checkpoint: Path | str, **changes: object) -> Training:
    return training.model_copy(update={"checkpoint": str(checkpoint), **changes})


def some_images(size_px: int, count: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, size_px, size_px, 3), dtype=torch.uint8, generator=torch.Generator())


def test_without_a_checkpoint_a_vit_of_the_asked_size_is_made(training: Training) -> None:
    detector = load_detector(training)
    assert detector.preprocessing == Preprocessing(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    sizes = ("image_size", "patch_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    assert [getattr(detector.backbone.config, name) for name in sizes] == [32, 16, 32, 1, 2]
    assert detector.backbone.config.id2label == {0: "abnormal", 1: "normal"}


def test_weights_follow_from_the_seed(training: Training) -> None:
    first, again = load_detector(training).state_dict(), load_detector(training).state_dict()
    other = load_detector(training.model_copy(update={"seed": training.seed + 1})).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "backbone.embeddings.patch_embeddings.projection.weight"
    assert not torch.equal(first[name], other[name])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_checkpoint_keeps_its_weights_and_gets_new_heads(architecture: str, tmp_path: Path, training: Training) -> None:
    saved = ARCHITECTURES[architecture]()
    saved.save_pretrained(tmp_path)
    detector = load_detector(of_checkpoint(training, tmp_path))
    assert detector.preprocessing.size_px == 28
    before, after = saved.base_model.state_dict(), detector.backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in after)
    assert not detector.classifier.weight.any()
    assert not detector.patch_head.weight.any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tokens_are_those_of_hugging_face_and_each_head_sees_its_own(
    architecture: str, tmp_path: Path, training: Training
) -> None:
    saved = ARCHITECTURES[architecture]().eval()
    saved.save_pretrained(tmp_path)
    detector = load_detector(of_checkpoint(training, tmp_path)).eval()
    for head in (detector.classifier, detector.patch_head):
        torch.nn.init.normal_(head.weight)
    torch.nn.init.zeros_(detector.pooling)
    images = some_images(28)
    special = {"vit": 1, "deit": 2, "dinov2": 1, "registers": 5}[architecture]
    with torch.inference_mode():
        logits, patch_logits, _ = detector(images)
        tokens = saved.base_model(detector.preprocessing.normalise(images)).last_hidden_state
        expected = detector.classifier(tokens[:, 0]), detector.patch_head(tokens[:, special:]).reshape(3, 2, 2)
    torch.testing.assert_close(logits, expected[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(patch_logits, expected[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_input_size_that_patches_fill(architecture: str, tmp_path: Path, training: Training) -> None:
    ARCHITECTURES[architecture]().save_pretrained(tmp_path)
    detector = load_detector(of_checkpoint(training, tmp_path, image_size_px=42))
    assert detector.preprocessing.size_px == 42
    assert detector(some_images(42))[1].shape == (3, 3, 3)
    with pytest.raises(UserError, match="patches of 14 px do not fill a side of 40 px"):
        load_detector(of_checkpoint(training, tmp_path, image_size_px=40))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_heads_are_kept_where_both_are_there_with_our_labels(
    architecture: str, tmp_path: Path, training: Training
) -> None:
    ARCHITECTURES[architecture]().save_pretrained(tmp_path / "foreign")
    detector = load_detector(of_checkpoint(training, tmp_path / "foreign", image_size_px=42)).eval()
    for head in (detector.classifier, detector.patch_head):
        torch.nn.init.normal_(head.weight)
    detector.save(tmp_path / "ours")
    again = load_detector(of_checkpoint(training, tmp_path / "ours")).eval()
    with torch.inference_mode():
        for one, other in zip(detector(some_images(42)), again(some_images(42)), strict=True):
            assert torch.equal(one, other)
    config = json.loads((tmp_path / "ours/config.json").read_text())
    config["id2label"], config["label2id"] = {"0": "normal", "1": "abnormal"}, {"normal": 0, "abnormal": 1}
    (tmp_path / "ours/config.json").write_text(json.dumps(config))
    assert not load_detector(of_checkpoint(training, tmp_path / "ours")).classifier.weight.any()


def test_half_precision_file_is_run_in_single_precision(tmp_path: Path, training: Training) -> None:
    detector = load_detector(training)
    detector.save(tmp_path, torch.float16)
    again = load_detector(of_checkpoint(training, tmp_path))
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}
    for one, other in zip(detector.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_checkpoint_brings_its_own_preprocessing(tmp_path: Path, training: Training) -> None:
    ARCHITECTURES["vit"]().save_pretrained(tmp_path)
    numbers = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "size": {"height": 28, "width": 28}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(numbers))
    detector = load_detector(of_checkpoint(training, tmp_path))
    assert detector.preprocessing == Preprocessing(28, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


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


def with_config(**changes: object) -> Callable[[Path], str]:
    """Make a ViT whose config says something else than its weights."""

    def make(folder: Path) -> str:
        ARCHITECTURES["vit"]().save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
        return str(folder)

    return make


def with_weight(name: str, value: torch.Tensor) -> Callable[[Path], str]:
    """Make a checkpoint of ours with another tensor of this name."""

    def make(folder: Path) -> str:
        ARCHITECTURES["vit"]().save_pretrained(folder)
        Detector.load(folder).save(folder)
        weights = load_file(folder / "model.safetensors")
        assert name in weights
        save_file({**weights, name: value}, folder / "model.safetensors", {"format": "pt"})
        return str(folder)

    return make


def of_ours_with_fewer_layers(folder: Path) -> str:
    """Other than of a classifier of transformers, its weights' names have no prefix."""
    ARCHITECTURES["vit"]().save_pretrained(folder)
    Detector.load(folder).save(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    return str(folder)


def without_config(folder: Path) -> str:
    return str(folder)


UNUSABLE = [
    (no_folder, "there is no such folder"),
    (no_hub, "huggingface.co"),
    (no_vit, "it is a 'resnet', allowed are vit, deit, dinov2"),
    (pickled, "model.safetensors"),
    (cut_short, "incomplete"),
    (without_config, "config.json"),
    (with_config(hidden_size=32), r"its embeddings.cls_token has the shape \(1, 1, 16\), by its config \(1, 1, 32\)"),
    (with_config(image_size=56), r"its embeddings.position_embeddings has the shape \(1, 5, 16\)"),
    (with_config(image_size=[28, 56]), r"its image_size is \[28, 56\], allowed is one number"),
    (with_config(num_channels=1), "its num_channels is 1, allowed is 3"),
    (with_config(num_hidden_layers=3), r"its weights lack layers\.2\."),
    (with_config(num_hidden_layers=1), r"its weights have vit\.layers?\..*, and its config only 1 layers"),
    (of_ours_with_fewer_layers, r"its weights have layers\.1\..*, and its config only 1 layers"),
    (with_config(hidden_size="wide"), "hidden_size"),
    (with_weight("patch_head.weight", torch.zeros(1, 8)), r"its patch_head.weight has the shape \(1, 8\)"),
    (with_weight("classifier.bias", torch.zeros(3)), r"its classifier.bias has the shape \(3,\)"),
    (with_weight("classifier.bias", torch.tensor([0.0, torch.nan])), "its classifier.bias has values that are no"),
    (with_weight("layernorm.bias", torch.full((16,), torch.inf)), "its backbone.layernorm.bias has values that are no"),
]


@pytest.mark.parametrize(("make", "reason"), UNUSABLE)
def test_checkpoint_that_can_not_be_used_gets_one_line_that_names_it(
    make: Callable[[Path], str], reason: str, tmp_path: Path, training: Training
) -> None:
    checkpoint = make(tmp_path)
    with pytest.raises(UserError) as refused:
        load_detector(of_checkpoint(training, checkpoint))
    message = refused.value.message
    assert message.startswith(f"training.checkpoint '{checkpoint}' can't be used: ")
    assert re.search(reason, message)
    assert "\n" not in message
