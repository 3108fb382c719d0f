"""What the choices by hardware promise: the same result, and nothing that the machine lacks."""

import shutil

import pytest
import torch

from cygnet.model.network import hardware
from cygnet.model.network.backbone import load_detector
from cygnet.parameters.training import SmallViT, Training

TWO_BLOCKS = SmallViT(image_size_px=32, patch_size_px=16, hidden_size=32, layers=2, heads=2)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_plain_attention_is_that_of_torch(
    dtype: torch.dtype, tolerance: float, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = load_detector(training.model_copy(update={"small_vit": TWO_BLOCKS}))
    for module in (detector.classifier, detector.patch_head):
        torch.nn.init.normal_(module.weight)
    images = torch.randint(0, 256, (7, 32, 32, 3), dtype=torch.uint8)  # in fours: the last part is smaller
    answers, slopes = [], []
    monkeypatch.setattr(hardware, "has_bf16", lambda: True)
    for name in ("sdpa", hardware.select_attention(torch.device("cpu"))):
        detector.backbone.set_attn_implementation(name)
        detector.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits, patch_logits, _ = detector(images)
        (logits.float().square().sum() + patch_logits.float().square().sum()).backward()
        answers.append(torch.cat([logits.flatten(), patch_logits.flatten()]).float().detach())
        slopes.append(detector.blocks[0].attention.q_proj.weight.grad.clone())
    assert name == "plain"
    for one, other in (answers, slopes):
        assert one.abs().max() > 0
        assert (one - other).norm() <= tolerance * one.norm()


@pytest.mark.parametrize(
    ("device", "is_bf16", "name"), [("cpu", True, "plain"), ("cpu", False, "sdpa"), ("cuda", True, "sdpa")]
)
def test_plain_attention_is_for_bfloat16_on_a_cpu_alone(
    device: str, is_bf16: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "has_bf16", lambda: is_bf16)
    assert hardware.select_attention(torch.device(device)) == name


def test_only_a_gpu_is_worth_compiling_for() -> None:
    assert not hardware.can_compile(torch.device("cpu"))


@pytest.mark.parametrize(("free_bytes", "has_room"), [(64 * 2**20, False), (8 * 2**30, True)])
def test_a_container_with_little_shared_memory_is_noticed(
    free_bytes: int, has_room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free_bytes, 0, free_bytes))
    assert hardware.has_shared_memory() is has_room


@pytest.mark.parametrize(
    ("instructions", "is_fast"), [({"avx2": True}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)]
)
def test_bfloat16_is_fast_where_the_cpu_has_instructions_for_it(
    instructions: dict[str, bool], is_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = dict.fromkeys(("avx2", "avx512_bf16", "amx_bf16"), False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: others | instructions)
    assert hardware.has_bf16() == is_fast
