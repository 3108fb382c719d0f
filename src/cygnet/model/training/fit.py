"""Fine-tuning: AdamW or Muon with warm-up and linear decay, early stopping on validation NLL, the best epoch kept.

That NLL is at the temperature which suits these logits best: overconfidence alone, which calibration mends, rejects no
epoch.

The loss weighs the classes by their inverse frequency, and the masks help: the patches' head has a loss of its own,
which gives every token something to learn. bfloat16 is used where there are instructions for it.

What is validated and kept is a moving average of the weights, or weights between it and the checkpoint's: fitting makes
the train frames so familiar that whoever else walks by looks abnormal, and weights in between know the scene without
that. How far to go, validation decides (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022): the shares of
`fitted_fracs` are tried from the largest down, as long as its NLL falls.

Few rows are soon known by heart. So every normal row comes, in each epoch, as twins with an anomaly drawn afresh by the
rules of `synthesis`: what pretraining does on procedural scenes goes on here on the real one. Rows that come alone,
abnormal ones or without an anomaly that shows, are varied and encoded as twins are: the classes differ by the anomaly
alone. Where an anomaly lies that was moved so, its mask no longer says: it teaches the image's head only.

All of the backbone is fitted, or its last blocks, or the heads alone. Frozen blocks always give the same for the same
image, so their output is computed once, kept in a memory-mapped file, and reused every epoch.

Accelerate places model and batches, so that the same code runs on a processor or a GPU; several GPUs of one machine
share each batch. A GPU need not wait while it fits: processes of their own fetch the rows, and no step asks it for a
number. After every epoch the state is left in `checkpoints`: a fit that was killed goes on from there and ends with the
same metrics, also when parameters have changed that it does not read.
"""

import copy
import hashlib
import json
import logging
import math
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, find_executable_batch_size
from sklearn.metrics import roc_auc_score
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from cygnet.errors import UserError
from cygnet.model.evaluation.calibrate import fit_temperature, negative_log_likelihood
from cygnet.model.network.detector import Detector
from cygnet.model.network.threads import core_count
from cygnet.model.training.examples import Batch, Examples, batch_of_twins, mapped_tensor
from cygnet.model.training.optimisation import (
    LARGEST_GRADIENT_NORM,
    can_compile,
    has_bf16,
    make_optimizers,
    move_average,
    patch_loss,
    quicker_attention,
    set_learning_rate,
)
from cygnet.model.training.results import Fitted
from cygnet.model.training.resume import Checkpoints, code_digest
from cygnet.parameters.augmentation import Augmentation
from cygnet.parameters.synthesis import Synthesis
from cygnet.parameters.training import Training
from cygnet.tables import ABNORMAL, LABELS, NORMAL
from cygnet.vision.rng import generator
from cygnet.vision.transforms import Policy, select_policy
from cygnet.vision.twins import draw_as_synthesis, make_twins, vary_alone

logger = logging.getLogger(__name__)

IMAGES_ON_PROCESSOR = 16
"""At once at most: a fit of cygnet-vit-tiny needs 1.7 GB so, with 64 images 3.3 GB, and is no slower."""
MOST_PROCESSES = 16
"""That fetch rows: 15 fetch 6,000 images/s of 224 px, and the largest GPUs fit 3,400 of a ViT-Base."""
SHARED_MEMORY, LEAST_SHARED_BYTES = "/dev/shm", 4 * 2**30  # noqa: S108 - where torch's processes leave batches
UNTRAINED = {"train_loss": math.nan, "images": 0}
"""Epoch 0: the checkpoint as it came."""


@dataclass(frozen=True)
class PairedSynthesis:
    """How pairs are made of normal rows: which anomalies, how both images vary, and the seed of all draws."""

    synthesis: Synthesis
    policy: Policy
    seed: int


@dataclass(frozen=True)
class FitSettings:
    """The parameters that fitting reads."""

    training: Training
    synthesis: Synthesis
    augmentation: Augmentation

    @property
    def pairs(self) -> PairedSynthesis | None:
        """How pairs are made; None where rows come as they are: the output of frozen blocks can't be drawn afresh."""
        training, synthesis = self.training, self.synthesis
        if training.twins and training.fitted == "full" and any(synthesis.kinds.train.values()):
            return PairedSynthesis(synthesis, select_policy(self.augmentation), training.seed)
        return None

    def key(self) -> str:
        """Give, as JSON, the values that the fitted weights depend on, and no others."""
        training, unread = self.training, {"threshold", "evaluation"}
        if training.checkpoint is not None:
            unread.add("small_vit")
        if training.fitted != "last_blocks":
            unread.add("last_blocks")
        values: dict[str, Any] = {"training": training.model_dump(exclude=unread)}
        if self.pairs is not None:
            values["synthesis"] = self.synthesis.model_dump(exclude={"seeds": True, "kinds": {"validation", "test"}})
            values["augmentation"] = {self.augmentation.preset: self.pairs.policy.model_dump()}
        return json.dumps(values)


@dataclass(frozen=True)
class Splits:
    """What is fitted on, and what decides when to stop and which epoch is kept."""

    train: Examples
    validation: Examples


def fit(detector: Detector, splits: Splits, settings: FitSettings, checkpoints: Checkpoints, folder: Path) -> Fitted:
    """Fit until the validation NLL has not fallen for `patience` epochs, or for `epochs`.

    The last state stays in `checkpoints` until another fit replaces it. The same fit again, with the same rows and the
    same code, returns the same result at once.

    Args:
        detector: As loaded; it is trained in place, and what is kept of that given back.
        splits: The rows.
        settings: The parameters.
        checkpoints: Where the state is left after every epoch.
        folder: For memory-mapped files: with frozen blocks, the tokens of all images in 16 bits.

    Raises:
        UserError: The loss grew beyond numbers, or `last_blocks` are all there are.
    """
    training, made = settings.training, _Fit(detector, splits, settings, checkpoints, folder)
    # as many rows at once as fit into memory; a step is still made of `batch_size`
    on_processor = IMAGES_ON_PROCESSOR // (2 if settings.pairs else 1)
    most = training.batch_size if torch.cuda.is_available() else on_processor
    sizes = [*(size for size in range(most, 0, -1) if training.batch_size % size == 0), 0]
    smaller = iter(sizes[1:])
    fitted: Fitted = find_executable_batch_size(
        made.run, starting_batch_size=sizes[0], reduce_batch_size_fn=lambda: next(smaller)
    )()
    return fitted


class _Rows(Dataset[Batch]):
    """Rows of memory-mapped examples, fetched a batch at a time; with `pairs` the normal ones as twins."""

    def __init__(self, examples: Examples, pairs: PairedSynthesis | None) -> None:
        self.examples, self.pairs = examples, pairs
        self.normal = (examples.labels == NORMAL).numpy().nonzero()[0]  # their places
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # processes that fetch rows see it change

    def __len__(self) -> int:
        return len(self.examples.labels)

    def __getitems__(self, places: list[int]) -> Batch:
        """Fetch rows; what is drawn follows from seed, epoch and place."""
        preprocessing = self.examples.preprocessing
        if self.pairs is None or preprocessing is None:
            return self.examples.take(torch.tensor(places))
        twins, alone, images, coverage = [], [], [], []
        for place in places:
            rng = generator(self.pairs.seed, "twins", int(self.epoch), place)
            policy = self.pairs.policy if rng.random() < 0.5 else None  # others are only encoded once more
            is_normal = self.examples.labels[place] == NORMAL
            pair = self._draw_twins(rng, place, self.pairs.synthesis, policy) if is_normal else None
            if pair is None:
                image = vary_alone(rng, self.examples.images[place].numpy(), policy)
                known = self.examples.coverage[place]
                alone.append(place)
                images.append(torch.from_numpy(preprocessing.resize(image)))
                coverage.append(torch.full_like(known, torch.nan) if policy and not is_normal else known)
            else:
                twins.append(pair)
        parts = [batch_of_twins(twins, preprocessing, self.examples.coverage.shape[-1])] if twins else []
        if alone:
            parts.append((torch.stack(images), self.examples.labels[alone], torch.stack(coverage)))
        batch_images, labels, shares = (torch.cat(part) for part in zip(*parts, strict=True))
        return batch_images, labels, shares

    def _draw_twins(
        self, rng: np.random.Generator, place: int, synthesis: Synthesis, policy: Policy | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Draw twins of one row, or None where no anomaly shows on it; the donor is another frame, if there is one."""
        others = self.normal[self.examples.frames[self.normal] != self.examples.frames[place]]
        donor = self.examples.images[int(rng.choice(others if len(others) else self.normal))].numpy()
        return make_twins(rng, self.examples.images[place].numpy(), draw_as_synthesis(synthesis, donor), policy)


class _FromBlock(torch.nn.Module):
    """The detector from its first block that is not frozen: what Accelerate wraps and calls."""

    def __init__(self, detector: Detector, frozen: int) -> None:
        super().__init__()
        self.detector, self.frozen = detector, frozen

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.detector.finish(inputs.float(), self.frozen) if self.frozen else self.detector(inputs)


class _Fit:
    """One fit: what stays the same over its epochs."""

    def __init__(
        self, detector: Detector, splits: Splits, settings: FitSettings, checkpoints: Checkpoints, folder: Path
    ) -> None:
        self.detector = detector
        self.training = training = settings.training
        self.checkpoints = checkpoints
        train, validation = splits.train, splits.validation
        parts = (settings.key(), train.fingerprint, validation.fingerprint, digest(detector), code_digest())
        self.key = " ".join(parts)
        self.precision = "bf16" if has_bf16() else "no"
        self.frozen = freeze(detector, training)
        self.initial = [value.detach().clone() for value in detector.parameters()]
        self.train = self._run_frozen(train, folder / "train.tokens")
        self.validation = self._run_frozen(validation, folder / "validation.tokens")
        self.rows = _Rows(self.train, settings.pairs)
        abnormal_twins = torch.full((len(self.rows.normal) if settings.pairs else 0,), ABNORMAL)
        self.weights = class_weights(torch.cat([train.labels, abnormal_twins]))

    def run(self, at_once: int) -> Fitted:
        """Fit with `at_once` images in memory."""
        training = self.training
        accelerator = Accelerator(
            mixed_precision=self.precision,
            gradient_accumulation_steps=training.batch_size // at_once,
            dataloader_config=DataLoaderConfiguration(
                use_seedable_sampler=True, data_seed=training.seed, non_blocking=True
            ),
        )
        attention = quicker_attention(accelerator.device, is_bf16=self.precision == "bf16")
        self.detector.backbone.set_attn_implementation(attention)
        average, kept = (copy.deepcopy(self.detector).to(accelerator.device).eval() for _ in range(2))
        initial = [value.to(accelerator.device) for value in self.initial]
        optimizers = make_optimizers(
            self.detector, training.optimizer, training.learning_rate, training.weight_decay, training.layer_decay
        )
        module: torch.nn.Module = _FromBlock(self.detector, self.frozen)
        if torch.cuda.device_count() > 1:  # in one process: the loss is that of the whole batch, as on one GPU
            module = torch.nn.DataParallel(module)
        elif can_compile(accelerator.device):
            for block in self.detector.blocks[self.frozen :]:  # all alike: compiled once
                block.compile()
        processes = fetching_processes() if accelerator.device.type == "cuda" and has_shared_memory() else {}
        loader = DataLoader(self.rows, batch_size=at_once, shuffle=True, collate_fn=_as_fetched, **processes)
        net, loader, *optimizers = accelerator.prepare(module, loader, *optimizers)
        history: list[dict[str, float]] = []
        best: dict[str, torch.Tensor] = {}
        seconds = 0.0
        state = self.checkpoints.load(self.key)
        if state is not None:
            self.detector.load_state_dict(state["detector"])
            average.load_state_dict(state["average"])
            for optimizer, optimizer_state in zip(optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(optimizer_state)
            history, best, seconds = state["history"], state["best"], state["seconds"]
            logger.info("Going on after epoch %d.", history[-1]["epoch"])
        start_s = time.perf_counter() - seconds
        for epoch in range(len(history), training.epochs + 1):
            if epoch - _best_epoch(history) > training.patience:
                logger.info("Stopped: no better validation NLL for %d epochs.", training.patience)
                break
            loader.set_epoch(epoch)
            self.rows.epoch.fill_(epoch)
            torch.manual_seed(training.seed + epoch)  # of dropout, where the checkpoint has it
            trained = self._fit_epoch(accelerator, net, average, optimizers, loader, epoch) if epoch else UNTRAINED
            measured: list[dict[str, float]] = []
            for fitted_frac in sorted(training.fitted_fracs, reverse=True) if epoch else [1.0]:  # at epoch 0 all agree
                interpolate(kept, initial, average, fitted_frac)
                measured.append({"fitted_frac": fitted_frac, **self._validate(accelerator, kept, at_once)})
                if len(measured) > 1 and measured[-1]["validation_nll"] > measured[-2]["validation_nll"]:
                    break
            history.append({"epoch": epoch, **trained, **min(measured, key=lambda row: row["validation_nll"])})
            if _best_epoch(history) == epoch:
                interpolate(kept, initial, average, history[-1]["fitted_frac"])
                best = copy.deepcopy(kept.state_dict())
            _log(history[-1], training)
            if accelerator.is_main_process:
                states = {
                    "detector": self.detector.state_dict(),
                    "average": average.state_dict(),
                    "best": best,
                    "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                }
                seconds = time.perf_counter() - start_s
                self.checkpoints.save(self.key, {"history": history, "seconds": seconds, **states})
        kept.load_state_dict(best)
        kept.backbone.set_attn_implementation("sdpa")
        table = pd.DataFrame(history)
        table["is_best"] = table["epoch"] == _best_epoch(history)
        return Fitted(kept, table, int(table["images"].sum()), seconds)

    def _fit_epoch(
        self,
        accelerator: Accelerator,
        net: torch.nn.Module,
        average: Detector,
        optimizers: list[Any],  # accelerate's wrappers
        loader: Any,
        epoch: int,
    ) -> dict[str, float]:
        """Fit one epoch; give the mean loss and the number of images."""
        net.train()
        steps_per_epoch = math.ceil(len(loader) / accelerator.gradient_accumulation_steps)
        steps = steps_per_epoch * self.training.epochs
        warmup = round(self.training.warmup_frac * steps)
        step = steps_per_epoch * (epoch - 1) + 1
        weights = self.weights.to(accelerator.device)
        losses, images = [], 0
        for inputs, labels, coverage in loader:
            with accelerator.accumulate(net):
                for optimizer in optimizers:
                    set_learning_rate(optimizer, step, steps, warmup, steps - warmup)
                logits, patch_logits = net(inputs)  # (B, 2), (B, G, G)
                loss = cross_entropy(logits.float(), labels, weight=weights)
                loss = loss + self.training.patch_loss_weight * patch_loss(patch_logits, coverage)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(net.parameters(), LARGEST_GRADIENT_NORM)
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
                if accelerator.sync_gradients:
                    move_average(average, self.detector, self.training.average, step)
                    step += 1
            losses.append(loss.detach())
            images += len(labels) * accelerator.num_processes
        return {"train_loss": float(torch.stack(losses).double().mean()), "images": images}

    @torch.inference_mode()
    def _validate(self, accelerator: Accelerator, kept: Detector, at_once: int) -> dict[str, float]:
        """NLL and AUROC of the weights that would be kept.

        The classes weigh the same, as in the loss, and the NLL is that at the best temperature: what is deployed is
        calibrated.

        Raises:
            UserError: A logit is no number.
        """
        net, labels = _FromBlock(kept, self.frozen), self.validation.labels
        parts = []
        for places in torch.arange(len(labels)).split(at_once):
            with accelerator.autocast():
                logits, _ = net(self.validation.take(places)[0].to(accelerator.device))
            parts.append(logits.float().cpu())
        logits, classes = torch.cat(parts).numpy(), labels.numpy()
        if not np.isfinite(logits).all():
            rate = f"training.learning_rate ({self.training.learning_rate:g})"
            msg = f"The loss is no number any more: lower {rate}."
            raise UserError(msg)
        weights = class_weights(labels).numpy()[classes]
        temperature = fit_temperature(logits, classes, weights)
        margin = logits[:, ABNORMAL] - logits[:, NORMAL]
        return {
            "validation_nll": negative_log_likelihood(logits / temperature, classes, weights),
            "validation_auroc": float(roc_auc_score(classes == ABNORMAL, margin)),
        }

    @torch.no_grad()  # tokens of inference mode could not be fitted on
    def _run_frozen(self, examples: Examples, path: Path) -> Examples:
        """Replace the images by what the frozen blocks make of them: `(N, T, D)` float16, in a memory-mapped file.

        Half precision halves the file, and rounds less than bfloat16 does.
        """
        if not self.frozen:
            return examples
        accelerator = Accelerator(mixed_precision=self.precision)
        self.detector.to(accelerator.device).eval()
        tokens = torch.empty(0)
        for places in torch.arange(len(examples.labels)).split(self.training.batch_size):
            with accelerator.autocast():
                made = self.detector.run_blocks(examples.take(places)[0].to(accelerator.device), self.frozen)
            if not len(tokens):
                tokens = mapped_tensor(path, (len(examples.labels), *made.shape[1:]), torch.float16)
            tokens[places] = made.cpu().half()
        return replace(examples, images=tokens, preprocessing=None)


def freeze(detector: Detector, training: Training) -> int:
    """Switch off the gradients of what is not fitted; give the number of blocks at the start that are frozen.

    Raises:
        UserError: The last blocks would be all of them.
    """
    blocks = len(detector.blocks)
    if training.fitted == "full":
        return 0
    if training.fitted == "last_blocks" and training.last_blocks >= blocks:
        msg = (
            f"training.last_blocks is {training.last_blocks}, and the checkpoint has {blocks} blocks: give fewer, or "
            "training.fitted: full."
        )
        raise UserError(msg)
    frozen = blocks if training.fitted == "heads" else blocks - training.last_blocks
    detector.backbone.requires_grad_(False)
    for module in (*detector.blocks[frozen:], detector.backbone.layernorm) if frozen < blocks else ():
        module.requires_grad_(True)
    return frozen


@torch.no_grad()
def interpolate(kept: Detector, initial: list[torch.Tensor], average: Detector, fitted_frac: float) -> None:
    """Set `kept` to this share of the way from the initial weights to the averaged ones; 1: to these, to the bit."""
    for value, start, end in zip(kept.parameters(), initial, average.parameters(), strict=True):
        value.copy_(torch.lerp(start, end, fitted_frac))


def class_weights(labels: torch.Tensor) -> torch.Tensor:
    """Weigh each class by its inverse frequency: `(2,)` float32, mean 1 over the examples."""
    counts = torch.bincount(labels, minlength=len(LABELS))
    return len(labels) / (len(LABELS) * counts.float())


def digest(detector: Detector) -> str:
    """Digest the preprocessing and all weights."""
    made = hashlib.blake2b(json.dumps(detector.preprocessing.config()).encode(), digest_size=16)
    for value in detector.state_dict().values():
        made.update(value.cpu().contiguous().numpy().ravel())
    return made.hexdigest()


def has_shared_memory() -> bool:
    """Tell whether there is room for what processes hand over; a container has 64 MB where nobody asked for more."""
    return shutil.disk_usage(SHARED_MEMORY).free >= LEAST_SHARED_BYTES


def fetching_processes() -> dict[str, Any]:
    """Give the settings of a loader whose rows are fetched by processes of their own, for all epochs the same ones.

    They are forked, so that memory-mapped files are theirs too. In a forked process OpenCV would wait for ever for the
    threads that it had in its parent: it gets none from here on.
    """
    cv2.setNumThreads(0)
    return {
        "num_workers": min(max(core_count() - 1, 1), MOST_PROCESSES),
        "multiprocessing_context": "fork",
        "persistent_workers": True,
        "pin_memory": torch.cuda.is_available(),
    }


def _as_fetched(batch: Any) -> Any:
    """Collate nothing: `__getitems__` gives whole batches."""
    return batch


def _best_epoch(history: list[dict[str, float]]) -> int:
    """The epoch of the lowest NLL, the first of equals; 0 before there is any."""
    return int(min(history, key=lambda row: row["validation_nll"])["epoch"]) if history else 0


def _log(row: dict[str, float], training: Training) -> None:
    loss = "" if math.isnan(row["train_loss"]) else f"train loss {row['train_loss']:.4f}, "
    nll, auroc = row["validation_nll"], row["validation_auroc"]
    logger.info("Epoch %d of %d: %svalidation NLL %.4f, AUROC %.4f", row["epoch"], training.epochs, loss, nll, auroc)
