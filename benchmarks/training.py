"""Fitting a ViT-Base at 224 px: `fit` against a plain float32 loop, on a processor or a GPU; and the sample video.

The baseline is the loop that everybody writes first: float32, AdamW over all weights, the whole model forward and
backward for every image of every epoch. Ours is `fit` with what it does around the steps: validation, moving average,
the best weights kept. Its state is not written: for so few images the 1.4 GB of a ViT-Base would be most of the time,
for the hundreds of a real epoch it is little. Weights are random: they cost the same.

Where all is fitted, on a processor as on a GPU, the rate is that of a second epoch: what a fit does once (copies and a
digest of the weights, epoch 0, compiling on a GPU, the first step's memory) is no part of it, and has a row of its own.
The plain loop is timed from its first step on, which takes as long as the next. Fitting the last two blocks for five
epochs is timed as a whole: there, computing the frozen ones once is the point.

On a GPU a row more says which share of its bfloat16 matrix rate, measured in the same run, the fit reaches with its
input pipeline: 256 px images from a memory-mapped file in the system's cache, shuffled, resized by OpenCV on the
processor, no twins.

The last rows are times, not ratios, of `kedro run --pipelines=training` with the settings of conf/base: from the start
of fitting until the figures of the test split are there, baselines and the check of the served runtime included; and
the whole command, which loads libraries, draws, and registers the model besides.
"""

import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks.measure import Figure, Result, SkipBenchmark, Work, compare, seconds_of
from benchmarks.project import KEDRO_RUN, environment_of, kedro_run, project_copy
from benchmarks.session import parameters_of
from cygnet.model.network.backbone import initial_vit
from cygnet.model.network.detector import Detector
from cygnet.model.network.preprocessing import Preprocessing
from cygnet.model.training.examples import Examples, mapped_tensor
from cygnet.model.training.fit import Splits, fit
from cygnet.model.training.resume import StateStore
from cygnet.model.training.settings import FitSettings
from cygnet.parameters.augmentation import Augmentation
from cygnet.parameters.synthesis import Synthesis
from cygnet.parameters.training import SmallViT, Training

SIZE_PX = 224
BASE = SmallViT(image_size_px=SIZE_PX, patch_size_px=16, hidden_size=768, layers=12, heads=12)
BATCH_SIZE = 16
IMAGES, TURNS = 160, 3  # over all weights; in fewer images the validations that the plain loop lacks weigh too much
REUSED_IMAGES, EPOCHS = 32, 5  # of the last blocks
SETTINGS = {"batch_size": BATCH_SIZE, "optimizer": "adamw", "twins": False}
GPU_BATCH_SIZE, GPU_IMAGES, STORED_PX = 256, 40_960, 256
FLOP_PER_IMAGE = 105e9  # of a ViT-Base/16 at 224 px, forwards and back
MATRIX_SIDE, MATRIX_PRODUCTS = 8192, 30
FIRST_NODE, LAST_NODE = "fit_detector", "evaluate_detector"
"""The nodes of the training pipeline that are timed, from the start of one to the end of the other."""


AUGMENTATION = Augmentation.model_validate(parameters_of("augmentation"))


def run() -> Iterator[Result | Figure]:
    """Measure full fine-tuning of one epoch, the last two blocks over five, a GPU, and the sample video."""
    synthesis = Synthesis.model_validate(parameters_of("synthesis"))
    training = Training.model_validate(parameters_of("training") | SETTINGS)
    if torch.cuda.is_available():
        yield from measure_gpu(training, synthesis)
    else:
        yield from measure_processor(training, synthesis)
        yield Figure("fit ViT-Base, 224 px, on a GPU", "", "no GPU at hand", "40 %")
    evaluated_s, whole_s = _time_sample_s()
    yield Figure("fitting and evaluating on the sample video", "", f"{evaluated_s:.0f} s", "120 s")
    yield Figure("the whole training pipeline there", "", f"{whole_s:.0f} s", "")


def measure_processor(training: Training, synthesis: Synthesis) -> Iterator[Result | Figure]:
    """Measure both ratios on a processor."""
    detector = _detector()
    last = training.model_copy(update={"fitted": "last_blocks", "last_blocks": 2, "epochs": EPOCHS, "patience": EPOCHS})
    some, few = _examples(IMAGES), _examples(REUSED_IMAGES)
    _plain(detector, few, 1)  # warms up
    turns = [
        (seconds_of(lambda: _plain(detector, some, 1)), *_second_epoch_s(detector, some, training, synthesis))
        for _ in range(TURNS)
    ]
    plain_s, ours_s, once_s = (list(part) for part in zip(*turns, strict=True))
    yield Result(Work("fit ViT-Base, 224 px, all of it", IMAGES, "image", 1.9), plain_s, ours_s)
    yield Figure("what that fit does once", "", f"{statistics.median(once_s):.1f} s", "")
    yield compare(
        Work("fit ViT-Base, last 2 blocks, 5 epochs", EPOCHS * REUSED_IMAGES, "image", 6),
        lambda: _plain(detector, few, EPOCHS),
        lambda: _ours(detector, few, last, synthesis),
        repetitions=1,
    )


def measure_gpu(training: Training, synthesis: Synthesis) -> Iterator[Figure]:
    """Measure a plain float32 loop and `fit` on the GPU at hand, in images/s, and its matrix rate."""
    detector = _detector().cuda()
    few = _examples(2 * GPU_BATCH_SIZE)
    _plain(detector, few, 1, GPU_BATCH_SIZE)
    plain_s = _seconds(lambda: _plain(detector, few, 4, GPU_BATCH_SIZE)) / (4 * len(few.labels))
    with tempfile.TemporaryDirectory(prefix="cygnet-bench-") as folder:
        images = mapped_tensor(Path(folder, "images"), (GPU_IMAGES, STORED_PX, STORED_PX, 3), torch.uint8).random_()
        large = training.model_copy(update={"batch_size": GPU_BATCH_SIZE})
        epoch_s, once_s = _second_epoch_s(_detector(), _as_examples(images), large, synthesis)
    ours_s = epoch_s / GPU_IMAGES
    rate = _matrix_rate()
    yield Figure(
        f"fit ViT-Base, 224 px, {torch.cuda.get_device_name()}",
        f"{1 / plain_s:.0f} images/s",
        f"{1 / ours_s:.0f} images/s",
        "",
    )
    yield Figure("what that fit does once", "", f"{once_s:.1f} s", "")
    yield Figure(
        "share of its bfloat16 matrix rate",
        f"{rate / 1e12:.0f} TFLOP/s",
        f"{FLOP_PER_IMAGE / ours_s / rate:.0%}",
        "40 %",
    )


def _matrix_rate() -> float:
    """FLOP/s of bfloat16 products of large random matrices on the GPU."""
    left, right = (torch.randn(MATRIX_SIDE, MATRIX_SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    torch.matmul(left, right)

    def multiply() -> None:
        for _ in range(MATRIX_PRODUCTS):
            torch.matmul(left, right)

    return MATRIX_PRODUCTS * 2 * MATRIX_SIDE**3 / _seconds(multiply)


def _seconds(run: Callable[[], None]) -> float:
    """Time what a GPU does until it has done it."""

    def run_to_the_end() -> None:
        run()
        torch.cuda.synchronize()

    torch.cuda.synchronize()
    return seconds_of(run_to_the_end)


def _detector() -> Detector:
    torch.manual_seed(0)
    return Detector(initial_vit(BASE), Preprocessing(SIZE_PX))


def _time_sample_s() -> tuple[float, float]:
    """Run the pipelines before training, then time training, in a project with a tracker of its own.

    Returns:
        Seconds from the start of fitting to the end of evaluation, and of the whole command.
    """
    with project_copy() as folder:
        kedro_run(folder, "--pipelines=ingestion,synthesis,augmentation")
        started_s: dict[str, float] = {}
        start_s = time.perf_counter()
        with subprocess.Popen(  # noqa: S603
            [*KEDRO_RUN, "--pipelines=training"],
            cwd=folder,
            env=environment_of(folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as training:
            for line in training.stdout or ():
                if (node := re.search(r"Step \d+ of \d+: training\.(\w+)", line)) is not None:
                    started_s[node[1]] = time.perf_counter()
        if training.returncode:
            raise subprocess.CalledProcessError(training.returncode, training.args)
        return _span_s(started_s), time.perf_counter() - start_s


def _span_s(started_s: dict[str, float]) -> float:
    """Give the seconds from the start of `FIRST_NODE` to the start of the node after `LAST_NODE`.

    Args:
        started_s: Start of each node by its name, in the order in which they ran, one after the other.
    """
    names = list(started_s)
    if not {FIRST_NODE, LAST_NODE} <= set(names) or names[-1] == LAST_NODE:
        msg = f"can't time {FIRST_NODE} to {LAST_NODE}: the log names the nodes {', '.join(names) or 'not at all'}"
        raise SkipBenchmark(msg)
    return started_s[names[names.index(LAST_NODE) + 1]] - started_s[FIRST_NODE]


def _examples(count: int) -> Examples:
    return _as_examples(torch.randint(0, 256, (count, SIZE_PX, SIZE_PX, 3), dtype=torch.uint8))


def _as_examples(images: torch.Tensor) -> Examples:
    count, side = len(images), SIZE_PX // BASE.patch_size_px
    labels, coverage = torch.arange(count) % 2, torch.zeros(count, side, side)
    return Examples(images, labels, coverage, np.arange(count), str(count), Preprocessing(SIZE_PX))


class _NotWritten(StateStore):
    """Where no state is left, but the time at which each epoch ended."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.ended_s: list[float] = []

    def save(self, _key: str, _state: dict[str, Any]) -> None:
        self.ended_s.append(time.perf_counter())


def _plain(detector: Detector, train: Examples, epochs: int, batch_size: int = BATCH_SIZE) -> None:
    device = detector.classifier.weight.device
    detector.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-5)
    for _ in range(epochs):
        for places in torch.arange(len(train.labels)).split(batch_size):
            images, labels = (part.to(device) for part in train.take(places)[:2])
            logits, *_ = detector(images)
            cross_entropy(logits, labels).backward()
            optimizer.step()
            optimizer.zero_grad()


def _ours(detector: Detector, train: Examples, training: Training, synthesis: Synthesis) -> list[float]:
    """Fit; give the time at which each epoch ended, from epoch 0 on."""
    detector.requires_grad_(True)
    settings = FitSettings(training, synthesis, AUGMENTATION.reference)
    with tempfile.TemporaryDirectory(prefix="cygnet-bench-") as folder:
        store = _NotWritten(Path(folder))
        fit(detector, Splits(train, _examples(2)), settings, store, Path(folder))
    return store.ended_s


def _second_epoch_s(
    detector: Detector, train: Examples, training: Training, synthesis: Synthesis
) -> tuple[float, float]:
    """Fit all weights for two epochs; give the seconds of the second, and those of what is done once.

    That is how much longer it took until the first epoch's end than the second epoch did.
    """
    two = training.model_copy(update={"fitted": "full", "epochs": 2, "patience": 2})
    start_s = time.perf_counter()
    _, first_s, second_s = _ours(detector, train, two, synthesis)
    epoch_s = second_s - first_s
    return epoch_s, first_s - start_s - epoch_s
