"""Fitting a ViT-Base at 224 px: `fit` against a plain float32 loop; and the training pipeline on the sample video.

The baseline is the loop that everybody writes first: float32, AdamW over all weights, the whole model forward and
backward for every image of every epoch. Ours is `fit` with what it does around the steps: epoch 0, validation, moving
average. Its state is not written: for so few images the 1.4 GB of a ViT-Base would be most of the time, for the
hundreds of a real epoch it is little. The second row fits the last two blocks for five epochs, and computes the frozen
ones once. Weights are random: they cost the same.

The last row is a time, not a ratio: `kedro run --pipelines=training` with the settings of conf/base, from its start to
its end, with baselines, figures and tracking.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from benchmarks.measure import Figure, Result, compare
from benchmarks.session import ROOT, parameters_of
from cygnet.model.backbone import initial_vit
from cygnet.model.checkpoints import Checkpoints
from cygnet.model.data import Examples
from cygnet.model.detector import Detector
from cygnet.model.fit import fit
from cygnet.model.preprocessing import Preprocessing
from cygnet.parameters import SmallViT, Synthesis, Training

SIZE_PX = 224
BASE = SmallViT(image_size_px=SIZE_PX, patch_size_px=16, hidden_size=768, layers=12, heads=12)
BATCH_SIZE = 16
IMAGES = 160  # of one epoch over all weights; in fewer, the validations that the plain loop lacks weigh too much
REUSED_IMAGES, EPOCHS = 32, 5  # of the last blocks
SETTINGS = {"batch_size": BATCH_SIZE, "optimizer": "adamw", "twins": False}


def run() -> Iterator[Result | Figure]:
    """Measure full fine-tuning of one epoch, the last two blocks over five, and training on the sample video."""
    torch.manual_seed(0)
    detector = Detector(initial_vit(BASE), Preprocessing(SIZE_PX))
    synthesis = Synthesis.model_validate(parameters_of("synthesis"))
    training = Training.model_validate(parameters_of("training") | SETTINGS)
    full = training.model_copy(update={"fitted": "full", "epochs": 1})
    last = training.model_copy(update={"fitted": "last_blocks", "last_blocks": 2, "epochs": EPOCHS, "patience": EPOCHS})
    some, few = _examples(IMAGES), _examples(REUSED_IMAGES)
    yield compare(
        "fit ViT-Base, 224 px, all of it",
        lambda: _plain(detector, some, 1), lambda: _ours(detector, some, full, synthesis),
        items=IMAGES, item="image", asked=1.9, repetitions=2,
    )  # fmt: skip
    yield compare(
        "fit ViT-Base, last 2 blocks, 5 epochs",
        lambda: _plain(detector, few, EPOCHS), lambda: _ours(detector, few, last, synthesis),
        items=EPOCHS * REUSED_IMAGES, item="image", asked=6, repetitions=1,
    )  # fmt: skip
    yield Figure("training pipeline on the sample video", "", f"{_time_sample_s():.0f} s", "120 s")


def _time_sample_s() -> float:
    """Run the pipelines before training, then time training, in a project with a tracker of its own."""
    with tempfile.TemporaryDirectory(prefix="cygnet-bench-") as folder:
        for name in ("pyproject.toml", ".telemetry"):
            shutil.copy(ROOT / name, folder)
        for name in ("src", "conf"):
            shutil.copytree(ROOT / name, Path(folder, name), ignore=shutil.ignore_patterns("local"))
        Path(folder, "conf", "local").mkdir()
        for pipelines in ("ingestion,synthesis,augmentation", "training"):
            command = [sys.executable, "-m", "kedro", "run", f"--pipelines={pipelines}"]
            start_s = time.perf_counter()
            subprocess.run(command, cwd=folder, check=True, capture_output=True)  # noqa: S603
        return time.perf_counter() - start_s


def _examples(count: int) -> Examples:
    images = torch.randint(0, 256, (count, SIZE_PX, SIZE_PX, 3), dtype=torch.uint8)
    side = SIZE_PX // BASE.patch_size_px
    return Examples(images, torch.arange(count) % 2, torch.zeros(count, side, side), str(count), Preprocessing(SIZE_PX))


class _NotWritten(Checkpoints):
    def save(self, key: str, state: dict[str, Any]) -> None:
        pass


def _plain(detector: Detector, train: Examples, epochs: int) -> None:
    detector.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-5)
    for _ in range(epochs):
        for places in torch.arange(len(train.labels)).split(BATCH_SIZE):
            images, labels, _ = train.take(places)
            logits, _ = detector(images)
            cross_entropy(logits, labels).backward()
            optimizer.step()
            optimizer.zero_grad()


def _ours(detector: Detector, train: Examples, training: Training, synthesis: Synthesis) -> None:
    detector.requires_grad_(True)
    with tempfile.TemporaryDirectory(prefix="cygnet-bench-") as folder:
        fit(detector, train, _examples(2), training, synthesis, _NotWritten(Path(folder)), Path(folder))
