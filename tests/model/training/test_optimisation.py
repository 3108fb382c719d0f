"""What pretraining and fine-tuning share: rates by depth and step, the loss of known patches, the average."""

from typing import Any

import numpy as np
import pytest
import torch

from cygnet.model.network.backbone import load_detector
from cygnet.model.training.optimisation import (
    class_weights,
    make_optimizers,
    patch_loss,
    set_learning_rate,
    update_ema,
)
from cygnet.parameters.training import SmallViT, Training
from cygnet.tables import ABNORMAL, NORMAL

TWO_BLOCKS = SmallViT(image_size_px=32, patch_size_px=16, hidden_size=32, layers=2, heads=2)


def groups(optimizers: list[torch.optim.Optimizer]) -> list[dict[str, Any]]:
    return [group for optimizer in optimizers for group in optimizer.param_groups]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_each_block_learns_at_its_share_of_the_rate_above(name: str, training: Training) -> None:
    detector = load_detector(training.model_copy(update={"small_vit": TWO_BLOCKS}))
    found = groups(make_optimizers(detector, name, 0.1, 0.05, layer_decay=0.5))
    rate_of = {id(p): group["lr"] for group in found for p in group["params"]}
    assert len(rate_of) == sum(len(group["params"]) for group in found) == len(list(detector.parameters()))
    assert rate_of[id(detector.classifier.weight)] == 0.1
    assert rate_of[id(detector.backbone.layernorm.weight)] == 0.1
    assert [rate_of[id(block.mlp.fc1.weight)] for block in detector.blocks] == [0.025, 0.05]
    assert rate_of[id(detector.backbone.embeddings.cls_token)] == 0.0125


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_matrices_alone_decay(name: str, training: Training) -> None:
    detector = load_detector(training)
    found = groups(make_optimizers(detector, name, 0.1, 0.05))
    decay_of = {id(p): group["weight_decay"] for group in found for p in group["params"]}
    for full_name, parameter in detector.named_parameters():
        is_decayed = parameter.ndim > 1 and "embeddings" not in full_name
        assert decay_of[id(parameter)] == (0.05 if is_decayed else 0.0), full_name


def test_muon_has_the_matrices_of_the_blocks_alone(training: Training) -> None:
    detector = load_detector(training)
    _, muon = make_optimizers(detector, "muon", 0.1, 0.05)
    expected = {p for p in detector.blocks.parameters() if p.ndim == 2}
    assert {p for group in muon.param_groups for p in group["params"]} == expected


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_what_is_frozen_is_left_out(name: str, training: Training) -> None:
    detector = load_detector(training)
    detector.backbone.requires_grad_(False)
    heads = {*detector.classifier.parameters(), *detector.patch_head.parameters(), detector.pooling}
    found = groups(make_optimizers(detector, name, 0.1, 0.05))
    assert {p for group in found for p in group["params"]} == heads


@pytest.mark.parametrize(
    ("decay_steps", "expected"), [(8, [0.5, 1, 0.875, 0.5, 0]), (4, [0.5, 1, 1, 1, 0]), (0, [0.5, 1, 1, 1, 0])]
)
def test_rate_warms_up_stays_and_falls(decay_steps: int, expected: list[float]) -> None:
    optimizer = torch.optim.AdamW([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.2, "highest_lr": 0.2}])
    rates = []
    for step in (1, 2, 3, 6, 10):
        set_learning_rate(optimizer, step, 10, 2, decay_steps)
        rates.append(optimizer.param_groups[0]["lr"] / 0.2)
    assert rates == pytest.approx(expected)


def test_patch_loss_is_the_entropy_of_known_patches() -> None:
    patch_logits = torch.tensor([[[0.5, -1.0], [2.0, 3.0]], [[9.0, 9.0], [9.0, 9.0]]])
    coverage = torch.tensor([[[0.0, 0.125], [0.25, 0.05]], [[float("nan")] * 2] * 2])
    patches, targets = np.array([0.5, -1.0, 2.0]), np.array([0, 0.5, 1])
    expected = np.mean(targets * np.log1p(np.exp(-patches)) + (1 - targets) * np.log1p(np.exp(patches)))
    assert patch_loss(patch_logits, coverage).item() == pytest.approx(expected, rel=1e-6)


def test_patch_loss_without_a_known_patch_is_zero() -> None:
    patch_logits = torch.zeros(1, 2, 2, requires_grad=True)
    loss = patch_loss(patch_logits, torch.full((1, 2, 2), float("nan")))
    loss.backward()
    assert loss.item() == 0
    assert patch_logits.grad is not None
    assert not patch_logits.grad.any()


def test_ema_moves_by_its_share() -> None:
    ema, current = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    for module, value in ((ema, 1.0), (current, 3.0)):
        torch.nn.init.constant_(module.weight, value)
        torch.nn.init.constant_(module.bias, value)
    update_ema(ema, current, 0.75, step=1000)
    assert ema.weight.item() == ema.bias.item() == 1.5


def test_classes_weigh_by_inverse_frequency() -> None:
    labels = torch.tensor([ABNORMAL] * 30 + [NORMAL] * 10)
    weights = class_weights(labels)
    assert weights.tolist() == pytest.approx([40 / 60, 40 / 20])
    assert weights[labels].mean().item() == pytest.approx(1)
