"""What the carried checkpoints promise.

`cygnet-vit-tiny` is small, has both heads, and a record of what it saw; `dinov2-small` tells its origin and licence.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from cygnet.anomaly_kinds import SEEN_KINDS
from cygnet.model.network.backbone import CARRIED, load_detector
from cygnet.model.network.detector import HEADS, Detector
from cygnet.parameters.base import Parameters

FOLDER = CARRIED / "cygnet-vit-tiny"
DINOV2 = CARRIED / "dinov2-small"
UNSEEN_KINDS = {"blend", "blur", "shift"}


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    with safe_open(folder / "model.safetensors", "pt") as weights:
        return {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118 - it is no dict


def test_weights_are_few_and_in_half_precision_with_both_heads() -> None:
    weights = weights_of(FOLDER)
    assert set(HEADS) <= set(weights)
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert sum(value.numel() for value in weights.values()) <= 6_000_000
    assert (FOLDER / "model.safetensors").stat().st_size <= 12_000_000


def test_config_records_what_it_saw_and_that_leaves_kinds_to_measure_on(
    parameters: dict[str, Parameters],
) -> None:
    config = json.loads((FOLDER / "config.json").read_text())
    assert set(config["kinds_seen"]) == set(SEEN_KINDS)
    assert not UNSEEN_KINDS & set(config["kinds_seen"])
    assert config["images_seen"] == parameters["pretraining"].images
    assert config["seed"] == parameters["pretraining"].seed
    assert not set(config["textures_seen"]) & set(parameters["pretraining"].held_out_textures)


def test_card_says_how_it_was_made() -> None:
    card = (FOLDER / "README.md").read_text()
    for said in ("kedro run --pipeline=pretraining", "apache-2.0", "## Limits", *UNSEEN_KINDS, *SEEN_KINDS):
        assert said in card


def test_it_keeps_its_heads_and_all_its_blocks(parameters: dict[str, Any]) -> None:
    training = parameters["training"].model_copy(update={"checkpoint": FOLDER.name})
    detector, weights = load_detector(training), weights_of(FOLDER)
    assert len(detector.blocks) == detector.backbone.config.num_hidden_layers == parameters["pretraining"].vit.layers
    assert not detector.pooling.any()  # its heads were trained before patches counted for the image
    assert detector.preprocessing.size_px == parameters["pretraining"].input_size_px
    for name in HEADS:
        assert torch.equal(detector.state_dict()[name], weights[name].float())


def test_dinov2_is_in_half_precision_with_origin_and_licence() -> None:
    assert {value.dtype for value in weights_of(DINOV2).values()} == {torch.float16}
    assert (DINOV2 / "model.safetensors").stat().st_size <= 46_000_000
    card = (DINOV2 / "README.md").read_text()
    for said in ("apache-2.0", "facebook/dinov2-small", "arXiv:2304.07193", "make checkpoint-dinov2", "## Limits"):
        assert said in card
    assert "END OF TERMS AND CONDITIONS" in (DINOV2 / "LICENSE").read_text()


def test_dinov2_is_the_default_up_to_its_eighth_block(parameters: dict[str, Any], tmp_path: Path) -> None:
    training = parameters["training"]
    assert (training.checkpoint, training.fitted) == (DINOV2.name, "heads")
    whole = load_detector(training.model_copy(update={"fitted": "last_blocks"})).eval()
    detector = load_detector(training).eval()
    assert (len(whole.blocks), len(detector.blocks)) == (12, 8)
    assert detector.normality.blocks.tolist() == whole.normality.blocks.tolist() == [6, 8]
    assert (detector.preprocessing.size_px, detector.patches_per_side) == (224, 16)
    assert detector.preprocessing.mean == (0.485, 0.456, 0.406)
    detector.save(tmp_path)
    images = torch.randint(0, 256, (1, 224, 224, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tokens, features = detector.run_blocks(images, 8)
        for other in (whole, Detector.load(tmp_path).eval()):
            torch.testing.assert_close(other.run_blocks(images, 8)[0], tokens)
        torch.testing.assert_close(whole.run_blocks(images, 8)[1], features)
    assert tokens.shape == (1, 1 + 16 * 16, 384)
    assert features.shape == (1, 16 * 16, 384)
    assert tokens.isfinite().all()


def test_default_fitting_sees_no_kind_that_is_kept_to_measure_on(parameters: dict[str, Parameters]) -> None:
    kinds = parameters["synthesis"].kinds
    for split in (kinds.train, kinds.validation):
        assert set(split) == set(SEEN_KINDS)
    assert set(kinds.test) >= UNSEEN_KINDS
