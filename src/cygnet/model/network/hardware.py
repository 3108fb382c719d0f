"""What the network asks of the hardware: device, bfloat16, attention, compilation, memory for worker processes.

Every choice that depends on the machine is made here, from what the machine has and never from a parameter. How many
CPU threads to use stands in `cygnet.model.network.threads`: served models carry that module, and it needs no torch.
"""

import os
import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

PLAIN_ATTENTION = "plain"
"""Name under which `_attend` is registered with transformers."""
IMAGES_PER_ATTENTION = 4
"""Attention weights of more images at once do not fit into the CPU's cache, and lie in memory that the system maps anew
each time. Forward and backward of cygnet-vit-tiny at 144 px, per 32 images: 56 ms with 57 images at once, 41 ms with
4."""
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where torch's worker processes leave their batches
LEAST_SHARED_BYTES = 4 * 2**30


def select_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bf16() -> bool:
    """Tell whether bfloat16 is fast here: on a GPU that supports it, or a CPU with AVX-512 BF16 or AMX instructions."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def mixed_precision() -> str:
    """Name the precision of fits for Accelerate: bfloat16 where it is fast, else float32."""
    return "bf16" if has_bf16() else "no"


def select_attention(device: torch.device) -> str:
    """Name the attention that trains most images/s, for `set_attn_implementation` of transformers.

    In bfloat16 on a CPU that is the plain formula: the backward pass of torch's fused kernel is slow, and `eager` of
    transformers computes the softmax in float32. Forward and backward with 325 tokens of cygnet-vit-tiny, 32 images:
    plain 41 ms, fused 80 ms (2 cores of an EPYC). In float32 the fused kernel is as fast or faster.
    """
    if device.type != "cpu" or not has_bf16():
        return "sdpa"
    from transformers import AttentionInterface

    AttentionInterface.register(PLAIN_ATTENTION, _attend)
    return PLAIN_ATTENTION


def can_compile(device: torch.device) -> bool:
    """Tell whether to compile blocks for this device: for a GPU, if Triton and a C compiler with headers are there.

    Steps of a ViT-Base are then 1.3 times as fast (one H200, 256 images), after some seconds at the start. On a CPU of
    two cores, compiling takes longer than fitting.
    """
    has_compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    has_headers = Path(sysconfig.get_paths()["include"], "Python.h").exists()
    return device.type == "cuda" and find_spec("triton") is not None and bool(has_compiler) and has_headers


def has_shared_memory() -> bool:
    """Tell whether worker processes can hand over their batches; by default a container has 64 MB for that."""
    return shutil.disk_usage(SHARED_MEMORY).free >= LEAST_SHARED_BYTES


def _attend(
    _module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _attention_mask: None,  # all tokens of an image see each other
    **options: Any,  # `scaling` and `dropout` among others
) -> tuple[torch.Tensor, None]:
    """Attend, as transformers calls it: `(B, heads, T, D)` each to `(B, T, heads, D)`."""
    attended, parts = [], (query * options["scaling"], key, value)
    with torch.autocast(query.device.type, enabled=False):  # it would take the softmax to float32 and back
        for some in zip(*(part.split(IMAGES_PER_ATTENTION) for part in parts), strict=True):
            queries, keys, values = some  # (4, heads, T, D) each
            weights = torch.softmax(queries @ keys.transpose(2, 3), dim=-1)  # (4, heads, T, T)
            weights = torch.nn.functional.dropout(weights, options["dropout"])
            attended.append((weights @ values).transpose(1, 2))
    return torch.cat(attended), None
