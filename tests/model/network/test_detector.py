"""What the detector promises: two heads over any ViT, any input size, and files that Hugging Face reads."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel

from cygnet.model.network.backbone import initial_vit
from cygnet.model.network.detector import NORMALITY, Detector
from cygnet.model.network.preprocessing import Preprocessing
from cygnet.parameters.pretraining import Pretraining
from cygnet.parameters.training import SmallViT
from support.toys import toy_detector

VIT = SmallViT(image_size_px=64, patch_size_px=16, hidden_size=32, layers=2, heads=2)
HEADS = {"classifier.weight", "classifier.bias", "patch_head.weight", "patch_head.bias"}


@pytest.fixture
def detector() -> Detector:
    """Give a detector that was never fitted, with heads that say something."""
    return toy_detector(VIT)


def noise(size_px: int, count: int = 3) -> torch.Tensor:
    images = np.random.default_rng(1).integers(0, 256, (count, size_px, size_px, 3))
    return torch.from_numpy(images.astype(np.uint8))


@pytest.mark.parametrize("size_px", [48, 64, 112])
@torch.inference_mode()
def test_any_multiple_of_the_patch_is_taken(size_px: int, detector: Detector) -> None:
    logits, patch_logits, patch_distances = detector(noise(size_px))
    assert logits.shape == (3, 2)
    assert patch_logits.shape == patch_distances.shape == (3, size_px // 16, size_px // 16)
    for answer in (logits, patch_logits, patch_distances):
        assert answer.isfinite().all()
    assert patch_distances.min() >= 0


@torch.inference_mode()
def test_under_autocast_tokens_are_of_its_type_and_logits_nearly_the_same(detector: Detector) -> None:
    expected, _, _ = detector(noise(64))
    with torch.autocast("cpu", torch.bfloat16):
        tokens, _ = detector.run_blocks(noise(64), 1)
        logits, _ = detector.finish(tokens.float(), 1)
    assert tokens.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, atol=0.1, rtol=0.02)  # of logits up to 10
    assert detector.run_blocks(noise(64), 1)[0].dtype == torch.float32


@torch.inference_mode()
def test_a_patch_logit_is_in_the_place_of_its_patch(detector: Detector) -> None:
    images = noise(64, 1).repeat(2, 1, 1, 1)
    images[1, 16:32, 48:64] = 255 - images[1, 16:32, 48:64]
    detector.backbone.config.num_hidden_layers = 0
    for layer in detector.backbone.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.weight.zero_()  # no patch sees another
    torch.nn.init.normal_(detector.patch_head.weight)
    _, *of_patches = detector(images)
    for values in of_patches:
        assert (values[0] != values[1]).nonzero().tolist() == [[1, 3]]


@torch.inference_mode()
def test_the_most_abnormal_patches_count_for_the_image(detector: Detector) -> None:
    torch.nn.init.zeros_(detector.classifier.weight)
    torch.nn.init.zeros_(detector.classifier.bias)
    logits, patch_logits, _ = detector(noise(64))
    largest = patch_logits.flatten(1).amax(1) - detector.patch_head.bias  # 3 % of 16 patches is one
    torch.testing.assert_close(logits[:, 0] - logits[:, 1], largest)


@torch.inference_mode()
def test_a_new_detector_says_nothing_about_the_image_and_calls_patches_normal() -> None:
    logits, patch_logits, _ = Detector(initial_vit(VIT), Preprocessing(64))(noise(64))
    assert not logits.any()
    assert (patch_logits == -3).all()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 1e-2)])
@torch.inference_mode()
def test_what_is_saved_is_read_by_hugging_face(
    dtype: torch.dtype, tolerance: float, detector: Detector, tmp_path: Path
) -> None:
    detector.save(tmp_path, dtype)
    with safe_open(tmp_path / "model.safetensors", "pt") as weights:
        names = set(weights.keys())
        assert {weights.get_tensor(name).dtype for name in names - set(NORMALITY)} == {dtype}
        assert names >= HEADS
        heads = {name: weights.get_tensor(name).float() for name in HEADS}
    backbone = AutoModel.from_pretrained(tmp_path, add_pooling_layer=False, dtype=torch.float32)
    numbers = json.loads((tmp_path / "preprocessor_config.json").read_text())
    again = Detector(backbone, Preprocessing(numbers["size"]["height"], numbers["image_mean"], numbers["image_std"]))
    assert not again.load_state_dict(heads, strict=False).unexpected_keys
    for before, after in zip(detector(noise(64))[:2], again.eval()(noise(64))[:2], strict=True):
        assert torch.allclose(before, after, atol=tolerance)


@torch.inference_mode()
def test_normality_is_saved_in_full_precision_and_loaded(detector: Detector, tmp_path: Path) -> None:
    detector.normality.mean += torch.rand(len(detector.normality.mean)) / 3
    detector.save(tmp_path)
    again = Detector.load(tmp_path).eval()
    for name in ("mean", "basis", "blocks"):
        assert torch.equal(getattr(again.normality, name), getattr(detector.normality, name))
    for before, after in zip(detector(noise(64)), again(noise(64)), strict=True):
        torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)
    Detector(initial_vit(VIT), Preprocessing(64)).save(tmp_path / "new")
    assert not Detector.load(tmp_path / "new").normality.basis.numel()  # a carried checkpoint knows no scene


def test_labels_in_the_config_are_ours(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["id2label"] == {"0": "abnormal", "1": "normal"}
    assert config["label2id"] == {"abnormal": 0, "normal": 1}


def test_the_carried_size_is_within_its_limits(parameters: dict[str, Pretraining], tmp_path: Path) -> None:
    detector = Detector(initial_vit(parameters["pretraining"].vit), Preprocessing(160))
    assert sum(parameter.numel() for parameter in detector.parameters()) <= 6e6
    detector.save(tmp_path, torch.float16)
    assert (tmp_path / "model.safetensors").stat().st_size <= 12e6


def test_initial_weights_follow_from_the_seed() -> None:
    vits = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        vits.append(initial_vit(VIT).state_dict())
    assert all(torch.equal(vits[0][name], vits[1][name]) for name in vits[0])
    assert any(not torch.equal(vits[0][name], vits[2][name]) for name in vits[0])
