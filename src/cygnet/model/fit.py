"""Fine-tuning: AdamW with warm-up and linear decay, early stopping on validation NLL, the best epoch kept.

Accelerate places the model and the batches, so the same code runs on a processor, a GPU, or several. bfloat16 is used where
the processor has instructions for it. The loss weighs the classes by their inverse frequency.
"""

import copy
import logging
import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from cygnet.model.data import Examples
from cygnet.model.fitted import Fitted
from cygnet.model.preprocessing import Preprocessing
from cygnet.parameters import Training
from cygnet.tables import LABELS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


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
    """
    from transformers import get_linear_schedule_with_warmup

    accelerator = Accelerator(mixed_precision="bf16" if has_bf16() else "no")
    order = torch.Generator().manual_seed(training.seed)
    loader = DataLoader(
        TensorDataset(train.images, train.labels), batch_size=training.batch_size, shuffle=True, generator=order
    )
    optimizer = torch.optim.AdamW(
        _parameter_groups(model, training.weight_decay), lr=training.learning_rate, betas=(0.9, 0.95)
    )
    steps = training.epochs * len(loader)
    schedule = get_linear_schedule_with_warmup(optimizer, round(training.warmup_frac * steps), steps)
    net, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    weights = class_weights(train.labels).to(accelerator.device)

    history: list[dict[str, float]] = []
    best_weights = copy.deepcopy(model.state_dict())
    start_s = time.perf_counter()
    for epoch in range(1, training.epochs + 1):
        loss = _fit_epoch(accelerator, net, loader, optimizer, schedule, preprocessing, weights)
        nll = _validation_nll(accelerator, net, validation, preprocessing, training.batch_size)
        is_best = not history or nll < min(row["validation_nll"] for row in history)
        history.append(
            {
                "epoch": epoch,
                "learning_rate": schedule.get_last_lr()[0],
                "train_loss": loss,
                "validation_nll": nll,
                "is_best": is_best,
            }
        )
        logger.info("Epoch %d of %d: train loss %.4f, validation NLL %.4f", epoch, training.epochs, loss, nll)
        if is_best:
            best_weights = copy.deepcopy(accelerator.unwrap_model(net).state_dict())
        elif epoch - max(row["epoch"] for row in history if row["is_best"]) >= training.patience:
            logger.info("Stopped: no better validation NLL for %d epochs.", training.patience)
            break
    seconds = time.perf_counter() - start_s
    fitted = accelerator.unwrap_model(net, keep_fp32_wrapper=False)
    fitted.load_state_dict(best_weights)
    return Fitted(fitted, preprocessing, pd.DataFrame(history), len(train.labels) * len(history), seconds)


def has_bf16() -> bool:
    """Tell whether bfloat16 is quick here: a GPU that has it, or a processor with AVX-512 BF16 or AMX instructions."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
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
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    preprocessing: Preprocessing,
    weights: torch.Tensor,
) -> float:
    net.train()
    losses = []
    for images, labels in loader:  # (B, S, S, 3) uint8, (B,) int64
        logits = net(pixel_values=preprocessing.normalise(images)).logits
        loss = cross_entropy(logits.float(), labels, weight=weights)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return float(np.mean(losses))


@torch.inference_mode()
def _validation_nll(
    accelerator: Accelerator,
    net: torch.nn.Module,
    validation: Examples,
    preprocessing: Preprocessing,
    batch_size: int,
) -> float:
    """Mean negative log-likelihood with both classes weighing the same, as in the loss."""
    net.eval()
    weights = class_weights(validation.labels).to(accelerator.device)
    total, weight = 0.0, 0.0
    for start in range(0, len(validation.labels), batch_size):
        images = validation.images[start : start + batch_size].to(accelerator.device)
        labels = validation.labels[start : start + batch_size].to(accelerator.device)
        logits = net(pixel_values=preprocessing.normalise(images)).logits.float()
        total += float(cross_entropy(logits, labels, weight=weights, reduction="sum"))
        weight += float(weights[labels].sum())
    return total / weight
