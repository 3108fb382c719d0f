"""Fine-tuning of the detector.

- AdamW or Muon with warm-up and linear decay. The loss weighs the classes by their inverse frequency. Each patch has a
  loss of its own, from the masks: it gives every token something to learn.
- An epoch is judged by the validation NLL at the best temperature: calibration corrects overconfidence later, and
  overconfidence alone must not reject an epoch. Fitting stops early, and the best epoch is kept.
- What is validated and kept is a moving average of the weights (EMA), or a point between it and the checkpoint's
  weights (WiSE-FT: Wortsman et al., "Robust fine-tuning of zero-shot models", 2022). Fitting makes the train frames so
  familiar that unseen normal objects look abnormal; weights in between know the scene without that. The shares of
  `fitted_fracs` are tried from the largest down, as long as the NLL falls.
- The whole backbone is fitted, or its last blocks, or the heads alone: see `frozen`. Rows are drawn by `loader`.

Accelerate places model and batches: the same code runs on a CPU or a GPU, and several GPUs of one machine share each
batch. Where the hardware allows, it computes in bfloat16. A GPU never waits for the CPU within an epoch: worker
processes fetch the rows, and no step reads a number back.

The state is saved after every epoch. A fit that was killed continues from there and ends with the same metrics, also
when parameters have changed that it does not read.
"""

import copy
import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DataLoaderConfiguration, find_executable_batch_size
from sklearn.metrics import roc_auc_score
from torch.nn.functional import cross_entropy

from cygnet.errors import UserError
from cygnet.model.evaluation.calibrate import fit_temperature, negative_log_likelihood
from cygnet.model.network import hardware
from cygnet.model.network.detector import Detector
from cygnet.model.training.examples import Batch, Examples
from cygnet.model.training.frozen import FromBlock, freeze, run_frozen_blocks
from cygnet.model.training.loader import TrainingRows, make_loader
from cygnet.model.training.optimisation import (
    LARGEST_GRADIENT_NORM,
    class_weights,
    make_optimizers,
    patch_loss,
    set_learning_rate,
    update_ema,
)
from cygnet.model.training.results import Fitted
from cygnet.model.training.resume import StateStore, TrainingState, code_digest, detector_digest
from cygnet.model.training.settings import FitSettings
from cygnet.parameters.training import Training
from cygnet.progress import tracked
from cygnet.tables import ABNORMAL, NORMAL

logger = logging.getLogger(__name__)

IMAGES_ON_CPU = 16
"""Upper bound on the images at once on a CPU: fitting cygnet-vit-tiny takes 1.7 GB with 16 images and 3.3 GB with 64,
and is no faster with 64."""
UNTRAINED = {"train_loss": math.nan, "images": 0}
"""History of epoch 0, the checkpoint before fitting."""


@dataclass(frozen=True)
class Splits:
    """What to fit on, and what decides when to stop and which epoch is kept."""

    train: Examples
    validation: Examples


def fit(detector: Detector, splits: Splits, settings: FitSettings, store: StateStore, folder: Path) -> Fitted:
    """Fit until the validation NLL has not fallen for `patience` epochs, or for `epochs`.

    The last state stays in `store` until another fit replaces it. The same fit again, with the same rows and the same
    code, returns the same result at once.

    Args:
        detector: As loaded; it is changed in place.
        splits: The rows.
        settings: The parameters.
        store: Where the state is saved after every epoch.
        folder: For memory-mapped files: with frozen blocks, the tokens of all images in 16 bits.

    Raises:
        UserError: The validation logits are NaN or infinite, or `last_blocks` would fit all blocks.
    """
    training = settings.training
    frozen = freeze(detector, training)
    fingerprints = (splits.train.fingerprint, splits.validation.fingerprint)
    key = " ".join((settings.key(), *fingerprints, detector_digest(detector), code_digest()))
    progress = _Progress.of(store.load(key))
    if progress.is_finished(training):
        logger.info("This fit has finished before: its result is reused.")
        return progress.result(detector)
    train, validation = (
        run_frozen_blocks(detector, examples, frozen, folder / f"{name}.tokens", training.batch_size)
        for name, examples in (("train", splits.train), ("validation", splits.validation))
    )
    inputs = _Inputs(TrainingRows(train, settings.pairs), validation, frozen)
    fitting = _Fit(detector, inputs, training, store, key)
    # as many rows at once as fit into memory; a step always takes `batch_size`
    most = training.batch_size if torch.cuda.is_available() else IMAGES_ON_CPU // (2 if settings.pairs else 1)
    sizes = [*(size for size in range(most, 0, -1) if training.batch_size % size == 0), 0]
    smaller = iter(sizes[1:])
    fitted: Fitted = find_executable_batch_size(
        fitting.run, starting_batch_size=sizes[0], reduce_batch_size_fn=lambda: next(smaller)
    )()
    return fitted


@dataclass
class _Progress:
    """What the epochs so far have led to."""

    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    """Weights of the best epoch."""
    seconds: float = 0.0

    @classmethod
    def of(cls, state: dict[str, Any] | None) -> Self:
        """Read it from a saved state; nothing so far, if there is none."""
        return cls(state["history"], state["best"], state["seconds"]) if state else cls()

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest NLL, the first of equals; 0 before there is any."""
        best = min(self.history, key=lambda row: row["validation_nll"], default={"epoch": 0})
        return int(best["epoch"])

    def has_stopped(self, training: Training) -> bool:
        """Tell whether the NLL has not fallen for too long."""
        return len(self.history) - self.best_epoch > training.patience

    def is_finished(self, training: Training) -> bool:
        """Tell whether no epoch is left to be fitted."""
        return len(self.history) > training.epochs or self.has_stopped(training)

    def result(self, detector: Detector) -> Fitted:
        """Put the best weights into a detector, on the device of fits, and return it with the history."""
        detector.load_state_dict(self.best)
        detector.to(PartialState().device).eval().backbone.set_attn_implementation("sdpa")
        history = pd.DataFrame(self.history)
        history["is_best"] = history["epoch"] == self.best_epoch
        return Fitted(detector, history, int(history["images"].sum()), self.seconds)


@dataclass(frozen=True)
class _Inputs:
    """What the network is given: images, or tokens after the frozen blocks."""

    rows: TrainingRows
    validation: Examples
    frozen: int


@dataclass(frozen=True)
class _Session:
    """What one attempt at a fit sets up on its device; an attempt ends when memory runs out."""

    accelerator: Accelerator
    images_at_once: int
    net: torch.nn.Module
    loader: Any  # Accelerate's wrapper
    state: TrainingState


class _Fit:
    """One fit: what stays the same over its epochs and attempts."""

    def __init__(self, detector: Detector, inputs: _Inputs, training: Training, store: StateStore, key: str) -> None:
        self.detector, self.inputs, self.training = detector, inputs, training
        self.store, self.key = store, key
        self.class_weights = class_weights(inputs.rows.labels())
        self.initial = [value.detach().clone() for value in detector.parameters()]
        self.ema, self.kept = (copy.deepcopy(detector).eval() for _ in range(2))

    def run(self, images_at_once: int) -> Fitted:
        """Fit with this many images in memory, from where the last attempt or a killed run stopped."""
        session = self._prepare(images_at_once)
        progress = self._resume(session)
        start_s = time.perf_counter() - progress.seconds
        while not progress.is_finished(self.training):
            epoch = len(progress.history)
            torch.manual_seed(self.training.seed + epoch)  # of dropout, where the checkpoint has it
            trained = self._fit_epoch(session, epoch) if epoch else UNTRAINED
            validated = self._validate(session, sorted(self.training.fitted_fracs, reverse=True) if epoch else [1.0])
            progress.history.append({"epoch": epoch, **trained, **validated})
            if progress.best_epoch == epoch:
                interpolate(self.kept, self.initial, self.ema, validated["fitted_frac"])
                progress.best = copy.deepcopy(self.kept.state_dict())
            _log(progress.history[-1], self.training)
            progress.seconds = time.perf_counter() - start_s
            self._save(session, progress)
        if progress.has_stopped(self.training):
            logger.info("Stopped early: no lower validation NLL for %d epochs.", self.training.patience)
        return progress.result(self.kept)

    def _prepare(self, images_at_once: int) -> _Session:
        """Place network, optimizers and rows on the device, as fast as it allows."""
        training = self.training
        accelerator = Accelerator(
            mixed_precision=hardware.mixed_precision(),
            gradient_accumulation_steps=training.batch_size // images_at_once,
            dataloader_config=DataLoaderConfiguration(
                use_seedable_sampler=True, data_seed=training.seed, non_blocking=True
            ),
        )
        device = accelerator.device
        for network in (self.detector, self.ema, self.kept):
            network.backbone.set_attn_implementation(hardware.select_attention(device))
        self.ema.to(device)
        self.kept.to(device)
        self.initial = [value.to(device) for value in self.initial]
        optimizers = make_optimizers(
            self.detector, training.optimizer, training.learning_rate, training.weight_decay, training.layer_decay
        )
        module: torch.nn.Module = FromBlock(self.detector, self.inputs.frozen)
        if torch.cuda.device_count() > 1:  # in one process: the loss is that of the whole batch, as on one GPU
            module = torch.nn.DataParallel(module)
        elif hardware.can_compile(device):
            for block in self.detector.blocks[self.inputs.frozen :]:  # all alike: compiled once
                block.compile()
        loader = make_loader(self.inputs.rows, images_at_once, device)
        net, loader, *optimizers = accelerator.prepare(module, loader, *optimizers)
        return _Session(accelerator, images_at_once, net, loader, TrainingState(self.detector, self.ema, optimizers))

    def _resume(self, session: _Session) -> _Progress:
        saved = self.store.load(self.key)
        if saved is not None:
            session.state.restore(saved)
            logger.info("Continuing after epoch %d.", saved["history"][-1]["epoch"])
        return _Progress.of(saved)

    def _save(self, session: _Session, progress: _Progress) -> None:
        """Save the state; of a finished fit, only what its result needs."""
        if session.accelerator.is_main_process:
            state = {} if progress.is_finished(self.training) else session.state.dump()
            self.store.save(self.key, {**vars(progress), **state})

    def _fit_epoch(self, session: _Session, epoch: int) -> dict[str, float]:
        """Fit one epoch; return the mean loss and the number of images."""
        accelerator, loader = session.accelerator, session.loader
        session.net.train()
        loader.set_epoch(epoch)
        self.inputs.rows.set_epoch(epoch)
        steps_per_epoch = math.ceil(len(loader) / accelerator.gradient_accumulation_steps)
        steps = steps_per_epoch * self.training.epochs
        warmup = round(self.training.warmup_frac * steps)
        step = steps_per_epoch * (epoch - 1) + 1
        weights = self.class_weights.to(accelerator.device)
        losses, images = [], 0
        for batch in tracked(loader, f"Epoch {epoch} of {self.training.epochs}", "batches"):
            with accelerator.accumulate(session.net):
                for optimizer in session.state.optimizers:
                    set_learning_rate(optimizer, step, steps, warmup, steps - warmup)
                losses.append(self._step(session, batch, weights))
                if accelerator.sync_gradients:
                    update_ema(self.ema, self.detector, self.training.average, step)
                    step += 1
            images += len(batch[1]) * accelerator.num_processes
        return {"train_loss": float(torch.stack(losses).double().mean()), "images": images}

    def _step(self, session: _Session, batch: Batch, class_weights: torch.Tensor) -> torch.Tensor:
        """Go forward and backward, and update the weights where the batch completes a step; return the loss."""
        inputs, labels, coverage = batch
        logits, patch_logits = session.net(inputs)  # (B, 2), (B, G, G)
        loss = cross_entropy(logits.float(), labels, weight=class_weights)
        loss = loss + self.training.patch_loss_weight * patch_loss(patch_logits, coverage)
        session.accelerator.backward(loss)
        if session.accelerator.sync_gradients:
            session.accelerator.clip_grad_norm_(session.net.parameters(), LARGEST_GRADIENT_NORM)
        for optimizer in session.state.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach()

    def _validate(self, session: _Session, fitted_fracs: list[float]) -> dict[str, float]:
        """Measure weights at these shares of the way to the EMA, until the NLL rises; return the best."""
        measured: list[dict[str, float]] = []
        for fitted_frac in fitted_fracs:
            interpolate(self.kept, self.initial, self.ema, fitted_frac)
            measured.append({"fitted_frac": fitted_frac, **self._measure(session)})
            if len(measured) > 1 and measured[-1]["validation_nll"] > measured[-2]["validation_nll"]:
                break
        return min(measured, key=lambda row: row["validation_nll"])

    @torch.inference_mode()
    def _measure(self, session: _Session) -> dict[str, float]:
        """Measure NLL, in nats at the best temperature, and AUROC of `kept` on validation.

        The classes weigh the same, as in the loss.

        Raises:
            UserError: A logit is NaN or infinite.
        """
        accelerator, validation = session.accelerator, self.inputs.validation
        net = FromBlock(self.kept, self.inputs.frozen)
        parts = []
        batches = torch.arange(len(validation.labels)).split(session.images_at_once)
        for indices in tracked(batches, "Validating", "images", len(validation.labels), len):
            with accelerator.autocast():
                logits, _ = net(validation.take(indices)[0].to(accelerator.device))
            parts.append(logits.float().cpu())
        logits, classes = torch.cat(parts).numpy(), validation.labels.numpy()
        if not np.isfinite(logits).all():
            msg = (
                "The validation logits are NaN or infinite: lower training.learning_rate, which is "
                f"{self.training.learning_rate:g}."
            )
            raise UserError(msg)
        weights = class_weights(validation.labels).numpy()[classes]
        temperature = fit_temperature(logits, classes, weights)
        margin = logits[:, ABNORMAL] - logits[:, NORMAL]
        return {
            "validation_nll": negative_log_likelihood(logits / temperature, classes, weights),
            "validation_auroc": float(roc_auc_score(classes == ABNORMAL, margin)),
        }


@torch.no_grad()
def interpolate(kept: Detector, initial: list[torch.Tensor], ema: Detector, fitted_frac: float) -> None:
    """Set `kept` to this share of the way from the initial weights to the EMA; with 1 to exactly the EMA."""
    for value, start, end in zip(kept.parameters(), initial, ema.parameters(), strict=True):
        value.copy_(torch.lerp(start, end, fitted_frac))


def _log(row: dict[str, float], training: Training) -> None:
    loss = "" if math.isnan(row["train_loss"]) else f"train loss {row['train_loss']:.4f}, "
    nll, auroc = row["validation_nll"], row["validation_auroc"]
    logger.info("Epoch %d of %d: %svalidation NLL %.4f, AUROC %.4f", row["epoch"], training.epochs, loss, nll, auroc)
