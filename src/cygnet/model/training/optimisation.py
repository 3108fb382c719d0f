"""Optimizers, learning rate, losses and moving average of the weights, for pretraining and fine-tuning."""

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from cygnet.tables import LABELS

if TYPE_CHECKING:
    from cygnet.model.network.detector import Detector

BETAS = (0.9, 0.95)
LARGEST_GRADIENT_NORM = 1.0
FULL_COVERAGE_FRAC = 0.25
"""Patches of which the mask covers at least this share count as fully abnormal."""
KNOWN_COVERAGE_FRAC = 0.1
"""Patches of which the mask covers less than this share, but not nothing, are ignored: they can't be told by sight."""


def make_optimizers(
    detector: "Detector", name: str, learning_rate: float, weight_decay: float, layer_decay: float = 1.0
) -> list[torch.optim.Optimizer]:
    """Make AdamW for all trained parameters, or Muon for the matrices of the blocks and AdamW for the rest.

    Biases, norms and embeddings have no weight decay. The heads learn at `learning_rate`, each block at `layer_decay`
    times the rate of the block above (Clark et al., "ELECTRA", 2020). Each group keeps its rate as `highest_lr`.

    Muon (Jordan et al., 2024) equalises the singular values of each update. Scaled as in Liu et al., "Muon is Scalable
    for LLM Training", 2025, it takes the learning rate of AdamW. It learns faster here: in pretraining, the patch loss
    was 0.192 after 30,000 images, and with AdamW alone 0.202 after 30,000 and 0.195 after 40,000.

    Args:
        detector: Parameters with `requires_grad` are trained.
        name: `adamw` or `muon`.
        learning_rate: Of the heads.
        weight_decay: Of matrices.
        layer_decay: 0-1; with 1 all blocks learn at the same rate.

    Returns:
        AdamW, and after it Muon if it has parameters.
    """
    depth_of = {id(parameter): 0 for parameter in detector.backbone.embeddings.parameters()}
    for depth, block in enumerate(detector.blocks, 1):
        depth_of |= {id(parameter): depth for parameter in block.parameters()}
    top = len(detector.blocks) + 1
    matrices = {id(parameter) for parameter in detector.blocks.parameters() if parameter.ndim == 2}
    by_muon = matrices if name == "muon" else set()
    groups: dict[tuple[bool, int, bool], dict[str, Any]] = {}
    for full_name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            depth = depth_of.get(id(parameter), top)
            is_decayed = parameter.ndim > 1 and "embeddings" not in full_name
            rate = learning_rate * layer_decay ** (top - depth)
            group = groups.setdefault(
                (id(parameter) in by_muon, depth, is_decayed),
                {"params": [], "lr": rate, "highest_lr": rate, "weight_decay": weight_decay if is_decayed else 0.0},
            )
            group["params"].append(parameter)
    muon = [group for (is_muon, *_), group in groups.items() if is_muon]
    adamw = [group for (is_muon, *_), group in groups.items() if not is_muon]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(adamw, betas=BETAS, fused=True)]  # on CPU 4x faster
    if muon:
        optimizers.append(torch.optim.Muon(muon, adjust_lr_fn="match_rms_adamw"))
    return optimizers


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, steps: int, warmup: int, decay_steps: float) -> None:
    """Warm up linearly, stay constant, decay linearly to 0 over the last `decay_steps`; `step` counts from 1."""
    factor = min(1.0, step / max(warmup, 1), (steps - step) / max(decay_steps, 1e-9))
    for group in optimizer.param_groups:
        group["lr"] = group["highest_lr"] * factor


def class_weights(labels: torch.Tensor) -> torch.Tensor:
    """Weigh each class by its inverse frequency: `(2,)` float32, mean 1 over the examples."""
    counts = torch.bincount(labels, minlength=len(LABELS))
    return len(labels) / (len(LABELS) * counts.float())


def patch_loss(patch_logits: torch.Tensor, coverage: torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy over the known patches, in nats; 0 if there is none.

    Args:
        patch_logits: `(B, G, G)`, larger means more abnormal.
        coverage: `(B, G, G)` float32, 0-1, share of the patch that the mask covers; NaN where it is unknown.
    """
    known = is_known(coverage)
    target = (coverage.nan_to_num() / FULL_COVERAGE_FRAC).clamp(max=1.0)
    losses = binary_cross_entropy_with_logits(patch_logits.float(), target, reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def is_known(coverage: Any) -> Any:
    """Tell for each patch, by its coverage (array or tensor), whether it is free or covered enough; false for NaN."""
    return (coverage == 0) | (coverage >= KNOWN_COVERAGE_FRAC)


@torch.no_grad()
def update_ema(ema: torch.nn.Module, current: torch.nn.Module, highest_decay: float, step: int) -> None:
    """Move the exponential moving average of the weights (EMA) towards the current weights.

    The decay rises to `highest_decay` over the first steps: the average forgets the initial weights early.
    """
    decay = min(highest_decay, step / (step + 10))
    torch._foreach_lerp_(list(ema.parameters()), list(current.parameters()), 1 - decay)
