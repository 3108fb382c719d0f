"""What pretraining and fine-tuning share: rates by depth and step, the loss of known patches, the average."""

from typing import Any

import numpy as np
import pytest
import torch

from cygnet.model.network.backbone import load_detector
from cygnet.model.training.optimisation import (
    has_bf16,
    make_optimizers,
    move_average,
    patch_loss,
    quicker_attention,
    set_learning_rate,
)
from cygnet.parameters.training import SmallViT, Training

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
    heads = {*detector.classifier.parameters(), *detector.patch_head.parameters()}
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


def test_average_moves_by_its_share() -> None:
    average, current = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    for module, value in ((average, 1.0), (current, 3.0)):
        torch.nn.init.constant_(module.weight, value)
        torch.nn.init.constant_(module.bias, value)
    move_average(average, current, 0.75, step=1000)
    assert average.weight.item() == average.bias.item() == 1.5


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_plain_attention_is_that_of_torch(dtype: torch.dtype, tolerance: float, training: Training) -> None:
    detector = load_detector(training.model_copy(update={"small_vit": TWO_BLOCKS}))
    for module in (detector.classifier, detector.patch_head):
        torch.nn.init.normal_(module.weight)
    images = torch.randint(0, 256, (7, 32, 32, 3), dtype=torch.uint8)  # in fours: the last part is smaller
    answers, slopes = [], []
    for name in ("sdpa", quicker_attention(torch.device("cpu"), is_bf16=True)):
        detector.backbone.set_attn_implementation(name)
        detector.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits, patch_logits = detector(images)
        (logits.float().square().sum() + patch_logits.float().square().sum()).backward()
        answers.append(torch.cat([logits.flatten(), patch_logits.flatten()]).float().detach())
        slopes.append(detector.blocks[0].attention.q_proj.weight.grad.clone())
    assert name == "plain"
    for one, other in (answers, slopes):
        assert one.abs().max() > 0
        assert (one - other).norm() <= tolerance * one.norm()


def test_plain_attention_is_for_bfloat16_on_a_processor_alone() -> None:
    assert quicker_attention(torch.device("cpu"), is_bf16=False) == "sdpa"
    assert quicker_attention(torch.device("cuda"), is_bf16=True) == "sdpa"


@pytest.mark.parametrize(
    ("instructions", "is_quick"), [({"avx2": True}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)]
)
def test_bfloat16_is_quick_where_the_processor_has_instructions_for_it(
    instructions: dict[str, bool], is_quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = dict.fromkeys(("avx2", "avx512_bf16", "amx_bf16"), False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: others | instructions)
    assert has_bf16() == is_quick
