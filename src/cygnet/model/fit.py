"""Fine-tuning: AdamW with warm-up and linear decay, early stopping on validation NLL, the best epoch kept.

Accelerate places the model and the batches, so the same code runs on a processor, a GPU, or several. bfloat16 is used
where the processor has instructions for it. The loss weighs the classes by their inverse frequency, and the masks
help: a linear head, used in fitting only, tells from each patch's last hidden state whether the patch is abnormal. It
gives every token something to learn from the first step, where the image's label alone leaves a ViT on its plateau
for epochs.
"""

import copy
import logging
import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from cygnet.errors import UserError
from cygnet.model.data import Examples
from cygnet.model.fitted import Fitted
from cygnet.model.preprocessing import Preprocessing
from cygnet.parameters import Training
from cygnet.tables import LABELS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

FULL_COVERAGE_FRAC = 0.25
ABNORMAL_PATCH_WEIGHT = 20.0
"""One patch in a hundred is abnormal: unweighted, the patch loss is content to call all of them normal."""


def fit(
    model: "PreTrainedModel",
    preprocessing: Preprocessing,
    train: Examples,
    validation: Examples,
    training: Training,
) -> Fitted:
    """Fit until the validation NLL has not fallen for `patience` epochs, or for `epochs`.

    Args:
        model: Pixel values `(B, 3, S, S)` to logits `(B, 2)`; changed in place.
        preprocessing: The model's.
        train: What to fit on.
        validation: What decides when to stop and which epoch is kept.
        training: Seed, epochs, patience, batch size, optimiser.

    Raises:
        UserError: The loss grew beyond numbers.
    """
    from transformers import get_linear_schedule_with_warmup

    accelerator = Accelerator(mixed_precision="bf16" if has_bf16() else "no")
    if accelerator.device.type == "cpu":  # there, fused attention is slow backwards: 87 images/s against 123
        model.set_attn_implementation("eager")
    order = torch.Generator().manual_seed(training.seed)
    examples = TensorDataset(train.images, train.labels, train.coverage)
    loader = DataLoader(examples, batch_size=training.batch_size, shuffle=True, generator=order)
    net = WithPatchHead(model, preprocessing)
    optimizer = torch.optim.AdamW(
        _parameter_groups(net, training.weight_decay), lr=training.learning_rate, betas=(0.9, 0.95)
    )
    steps = training.epochs * len(loader)
    schedule = get_linear_schedule_with_warmup(optimizer, round(training.warmup_frac * steps), steps)
    net, optimizer, loader, schedule = accelerator.prepare(net, optimizer, loader, schedule)
    loss = Loss(class_weights(train.labels).to(accelerator.device), training.patch_loss_weight)

    history: list[dict[str, float]] = []
    start_s = time.perf_counter()
    for epoch in range(1, training.epochs + 1):
        train_loss = _fit_epoch(accelerator, net, loader, optimizer, schedule, loss)
        nll = _validation_nll(accelerator, net, validation, training.batch_size)
        is_best = not history or nll < min(row["validation_nll"] for row in history)
        history.append(
            {
                "epoch": epoch,
                "learning_rate": schedule.get_last_lr()[0],
                "train_loss": train_loss,
                "validation_nll": nll,
                "is_best": is_best,
            }
        )
        logger.info("Epoch %d of %d: train loss %.4f, validation NLL %.4f", epoch, training.epochs, train_loss, nll)
        if not np.isfinite(nll):
            rate = f"training.learning_rate ({training.learning_rate:g})"
            msg = f"The loss is no number any more in epoch {epoch}: lower {rate}."
            raise UserError(msg)
        if is_best:
            best_weights = copy.deepcopy(model.state_dict())
        elif epoch - max(row["epoch"] for row in history if row["is_best"]) >= training.patience:
            logger.info("Stopped: no better validation NLL for %d epochs.", training.patience)
            break
    seconds = time.perf_counter() - start_s
    model.load_state_dict(best_weights)
    model.set_attn_implementation("sdpa")
    return Fitted(model, preprocessing, pd.DataFrame(history), len(train.labels) * len(history), seconds)


class WithPatchHead(torch.nn.Module):
    """The model from raw pixels on, with a linear head on each patch's last hidden state: for fitting only."""

    def __init__(self, model: "PreTrainedModel", preprocessing: Preprocessing) -> None:
        super().__init__()
        self.model = model
        self.preprocessing = preprocessing
        self.patch_head = torch.nn.Linear(model.config.hidden_size, 1)
        torch.nn.init.zeros_(self.patch_head.weight)
        torch.nn.init.zeros_(self.patch_head.bias)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take `(B, S, S, 3)` uint8 RGB; give logits `(B, 2)` and patch logits `(B, G, G)`."""
        output = self.model(pixel_values=self.preprocessing.normalise(images), output_hidden_states=True)
        side = patches_per_side(self.model)
        tokens = output.hidden_states[-1][:, -side * side :]  # (B, special + G * G, D) -> (B, G * G, D)
        return output.logits, self.patch_head(tokens).reshape(-1, side, side)


class Loss:
    """Weighted cross-entropy of the image, plus binary cross-entropy of the patches whose coverage is known."""

    def __init__(self, weights: torch.Tensor, patch_loss_weight: float) -> None:
        self.weights = weights
        self.patch_loss_weight = patch_loss_weight

    def __call__(
        self, logits: torch.Tensor, patch_logits: torch.Tensor, labels: torch.Tensor, coverage: torch.Tensor
    ) -> torch.Tensor:
        """Take `(B, 2)`, `(B, G, G)`, `(B,)` and `(B, G, G)`; a quarter covered counts as abnormal in full."""
        image_loss = cross_entropy(logits.float(), labels, weight=self.weights)
        known = ~coverage.isnan()
        target = (coverage.nan_to_num() / FULL_COVERAGE_FRAC).clamp(max=1.0)
        patch_losses = binary_cross_entropy_with_logits(
            patch_logits.float(), target, reduction="none", pos_weight=target.new_tensor(ABNORMAL_PATCH_WEIGHT)
        )
        return image_loss + self.patch_loss_weight * (patch_losses * known).sum() / known.sum().clamp(min=1)


def patches_per_side(model: "PreTrainedModel") -> int:
    """Give G, the number of patches along a side of the model's input."""
    return int(model.config.image_size) // int(model.config.patch_size)


def has_bf16() -> bool:
    """Tell whether bfloat16 is quick here: a GPU that has it, or a processor with AVX-512 BF16 or AMX instructions."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def class_weights(labels: torch.Tensor) -> torch.Tensor:
    """Weigh each class by its inverse frequency: `(2,)` float32, mean 1 over the examples."""
    counts = torch.bincount(labels, minlength=len(LABELS))
    return len(labels) / (len(LABELS) * counts.float())


def _parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decay matrices alone: no biases, norms or embeddings of positions."""
    decayed = [p for name, p in model.named_parameters() if p.ndim > 1 and "embeddings" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim <= 1 or "embeddings" in name]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _fit_epoch(
    accelerator: Accelerator,
    net: torch.nn.Module,
    loader: "DataLoader[tuple[torch.Tensor, ...]]",
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    loss: "Loss",
) -> float:
    net.train()
    losses = []
    for images, labels, coverage in loader:  # (B, S, S, 3) uint8, (B,) int64, (B, G, G) float32
        logits, patch_logits = net(images)
        batch_loss = loss(logits, patch_logits, labels, coverage)
        accelerator.backward(batch_loss)
        accelerator.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(batch_loss.detach()))
    return float(np.mean(losses))


@torch.inference_mode()
def _validation_nll(accelerator: Accelerator, net: torch.nn.Module, validation: Examples, batch_size: int) -> float:
    """Mean negative log-likelihood with both classes weighing the same, as in the loss."""
    net.eval()
    weights = class_weights(validation.labels).to(accelerator.device)
    total, weight = 0.0, 0.0
    for start in range(0, len(validation.labels), batch_size):
        images = validation.images[start : start + batch_size].to(accelerator.device)
        labels = validation.labels[start : start + batch_size].to(accelerator.device)
        logits, _ = net(images)
        total += float(cross_entropy(logits.float(), labels, weight=weights, reduction="sum"))
        weight += float(weights[labels].sum())
    return total / weight
