"""Baselines for the detector: four simple methods, scored on the same rows with the same calibration.

* `majority`: the same score for every image.
* `pixel_statistics`: logistic regression on mean, standard deviation and share of extreme pixels, fitted on `train`.
  It needs no network, and finds white and black polygons on most scenes.
* `median_mad`: each pixel's median and median absolute deviation (MAD) over the normal train frames; the score is a
  high quantile of the robust z over the image. It shows what a fixed camera allows without learning.
* `nearest_neighbour`: distance of each patch's features to the nearest ones of the normal train frames, in the backbone
  before fine-tuning; the score is that of the most distant patch. This is PatchCore (Roth et al., "Towards Total Recall
  in Industrial Anomaly Detection", CVPR 2022) with the cosine distance of ViT patches as in AnomalyDINO (Damm et al.,
  WACV 2025), and a seeded random memory where PatchCore selects a coreset.

The last two have variants (quantile; layer and k); the one with the best AUROC on `validation` is used. Raw scores that
are not logits become logits by a logistic regression on the first half of the validation frames (Platt, "Probabilistic
Outputs for Support Vector Machines", 1999). Temperature and threshold are then fitted as for the detector.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
import pandas as pd
import pyarrow.dataset as pad
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cygnet.model.evaluation.calibrate import calibrate, in_first_half
from cygnet.model.evaluation.counted import counted_rows
from cygnet.model.evaluation.results import FittedBaseline, Variant
from cygnet.model.serving.scorer import scores_of
from cygnet.model.training_set import count_rows, is_normal_train, iterate_rows, read_batches, spread_evenly
from cygnet.parameters.training import Evaluation, Threshold
from cygnet.progress import tracked
from cygnet.tables import ABNORMAL
from cygnet.vision.codec import decode_image
from cygnet.vision.rng import generator

if TYPE_CHECKING:
    import torch

    from cygnet.model.network.detector import Detector
    from cygnet.model.serving.blocks import RunBlocks

BATCH_IMAGES = 32
PATCHES_AT_ONCE = 2048
"""The similarity matrix of more patches is so large that the allocator maps it anew for every batch."""

DARKEST_EXTREME, BRIGHTEST_EXTREME = 8, 247
"""Grey levels up to the first count as black, from the second on as white: JPEG at quality 95 moves them by up to 8."""

Z_SIZE_PX = 128
Z_QUANTILES = (0.95, 0.99, 0.999)
SMALLEST_SCALE = 1.0
"""A pixel that never changed still varies by about one grey level, through JPEG and rounding."""
MAD_TO_STD = 1.4826
"""The standard deviation of a normal distribution, divided by its MAD."""

DEPTHS = (0.25, 0.5, 0.75)
"""Features are taken at these shares of the blocks: the last blocks are biased towards the pretraining task (PatchCore,
section 3.1)."""

NEIGHBOURS = (1, 3, 9)
BACKBONE = "cygnet-vit-tiny"
"""The same carried checkpoint for every detector: a yardstick must not change with what it measures."""


class Baseline(Protocol):
    """A method that scores images, in one or more variants; scores that are logits need no Platt scaling."""

    variants: list[Variant]
    is_logit: bool

    def score(self, images: Sequence[np.ndarray], variants: list[Variant]) -> np.ndarray:
        """Score `(H, W, 3)` uint8 BGR images; returns `(B, variants)` float64, the larger the more abnormal."""


class Majority:
    """The same score for every image."""

    variants: list[Variant] = [{}]  # noqa: RUF012 - never changed
    is_logit = False

    def score(self, images: Sequence[np.ndarray], variants: list[Variant]) -> np.ndarray:
        """Return zeros; the intercept of the Platt scaling makes them the share of abnormal images."""
        return np.zeros((len(images), len(variants)))


class PixelStatistics:
    """Logistic regression on three statistics of the grey image."""

    variants: list[Variant] = [{}]  # noqa: RUF012 - never changed
    is_logit = True

    def __init__(self, statistics: np.ndarray, labels: np.ndarray) -> None:
        """Fit on `(N, 3)` statistics of `train`; both classes weigh the same, as in the detector's loss."""
        self.regression = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        self.regression.fit(statistics, labels == ABNORMAL)

    def score(self, images: Sequence[np.ndarray], variants: list[Variant]) -> np.ndarray:
        """Return the logit."""
        statistics = np.array([pixel_statistics(image) for image in images])
        return np.tile(self.regression.decision_function(statistics)[:, None], len(variants))


def pixel_statistics(image: np.ndarray) -> np.ndarray:
    """Compute mean and standard deviation of the grey levels, and the share of black and white pixels: `(3,)`."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    extreme = (grey <= DARKEST_EXTREME) | (grey >= BRIGHTEST_EXTREME)
    return np.array([grey.mean(), grey.std(), extreme.mean()])


class MedianMad:
    """Robust z of each pixel and colour channel against the normal train frames, at 128 x 128 pixels.

    Each tile of a frame has a median of its own, and an image is compared with the one that it resembles most.
    """

    variants: list[Variant] = [{"quantile": quantile} for quantile in Z_QUANTILES]  # noqa: RUF012 - never changed
    is_logit = False

    def __init__(self, frames: dict[int, list[np.ndarray]]) -> None:
        """Fit on the normal train frames, `(H, W, 3)` uint8 BGR each, by tile."""
        self.models: list[tuple[np.ndarray, np.ndarray]] = []  # median and scale of a tile, (P, 3) float32 each
        for of_tile in frames.values():
            shrunk = np.stack([_shrunk(frame) for frame in of_tile])  # (N, P, 3) uint8
            median = np.median(shrunk, axis=0).astype(np.float32)
            mad = np.median(np.abs(shrunk - median), axis=0)
            self.models.append((median, np.maximum(MAD_TO_STD * mad, SMALLEST_SCALE).astype(np.float32)))

    def score(self, images: Sequence[np.ndarray], variants: list[Variant]) -> np.ndarray:
        """Return the quantiles of z over the pixels; a pixel counts with its most unusual colour channel."""
        shrunk = np.stack([_shrunk(image) for image in images])  # (B, P, 3) uint8
        quantiles = [variant["quantile"] for variant in variants]
        by_tile = []
        for median, scale in self.models:
            z = (np.abs(shrunk - median) / scale).max(axis=2)  # (B, P)
            by_tile.append(np.quantile(z, quantiles, axis=1).T)  # (B, variants)
        return np.min(by_tile, axis=0).astype(np.float64)


def _shrunk(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (Z_SIZE_PX, Z_SIZE_PX), interpolation=cv2.INTER_AREA).reshape(-1, 3)


class NearestNeighbour:
    """Distance of patches to a memory of the normal train frames' patches, in a backbone that was not fine-tuned."""

    is_logit = False

    def __init__(self, detector: "Detector", frames: Sequence[np.ndarray], memory_patches: int, seed: int) -> None:
        """Store patches of the normal train frames, the same number of each.

        Args:
            detector: Before fine-tuning; its heads are not used.
            frames: `(H, W, 3)` uint8 BGR each.
            memory_patches: About how many patches M to store for each layer, or all if there are fewer.
            seed: Of the random choice of patches.
        """
        import torch

        from cygnet.model.network import hardware

        self.device = hardware.select_device()
        self.detector, self.runners = detector, dict[tuple[int, ...], "RunBlocks"]()
        detector.backbone.set_attn_implementation(hardware.select_attention(self.device))
        depth = len(detector.blocks)
        layers = sorted({max(1, round(share * depth)) for share in DEPTHS})
        per_frame = math.ceil(memory_patches / len(frames))
        kept: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
        for start in tracked(range(0, len(frames), BATCH_IMAGES), "Filling the memory of baselines", "batches"):
            features = self._features(frames[start : start + BATCH_IMAGES], layers)
            for number in range(len(features[layers[0]])):
                rng = generator(seed, "memory", start + number)
                chosen = torch.from_numpy(rng.permutation(features[layers[0]].shape[1])[:per_frame])
                for layer in layers:
                    kept[layer].append(features[layer][number, chosen.to(self.device)])
        self.memory = {layer: torch.cat(parts) for layer, parts in kept.items()}  # (M, D) each
        self.variants: list[Variant] = [
            {"layer": layer, "k": k} for layer in layers for k in NEIGHBOURS if k <= len(self.memory[layer])
        ]

    def score(self, images: Sequence[np.ndarray], variants: list[Variant]) -> np.ndarray:
        """Return the mean distance of the most distant patch to its k nearest neighbours, 0-2."""
        import torch

        layers = sorted({int(variant["layer"]) for variant in variants})
        most = int(max(variant["k"] for variant in variants))
        features = self._features(images, layers)
        distances = {}
        for layer in layers:
            patches = features[layer].flatten(0, 1)  # (B * G * G, D)
            nearest = [
                1 - (part @ self.memory[layer].T).topk(most, dim=1)[0] for part in patches.split(PATCHES_AT_ONCE)
            ]  # (patches of the part, most), the nearest first
            distances[layer] = torch.cat(nearest).reshape(len(images), -1, most)  # (B, G * G, most)
        columns = [
            distances[int(variant["layer"])][:, :, : int(variant["k"])].mean(dim=2).amax(dim=1) for variant in variants
        ]
        return torch.stack(columns, dim=1).cpu().numpy().astype(np.float64)

    def _features(self, images: Sequence[np.ndarray], layers: list[int]) -> "dict[int, torch.Tensor]":
        """Compute the patches' features after some blocks, as unit vectors: `(B, G * G, D)` float32 each."""
        import torch

        from cygnet.model.serving.blocks import PatchDirections, block_runner

        if (key := tuple(layers)) not in self.runners:
            self.runners[key] = block_runner(PatchDirections(self.detector, layers))
        resized = np.stack([self.detector.preprocessing.resize(image) for image in images])  # (B, S, S, 3)
        parts = self.runners[key](torch.from_numpy(resized))
        return {layer: part.to(self.device) for layer, part in zip(layers, parts, strict=True)}


def read_normal_frames(train_frames: pad.Dataset, count: int) -> dict[int, list[np.ndarray]]:
    """Read normal train frames without augmentation, at most `count` and evenly spread over time.

    Args:
        train_frames: The table `images`.
        count: The largest number of frames.

    Returns:
        `(H, W, 3)` uint8 BGR each, sorted by frame, by tile.
    """
    keys = np.unique(train_frames.to_table(columns=["frame_id"], filter=is_normal_train())["frame_id"].to_numpy())
    chosen = keys[spread_evenly(len(keys), count)]
    rows = [
        (tile, frame_id, decode_image(image))
        for batch in read_batches(
            train_frames, ["tile", "frame_id", "image"], pad.field("frame_id").isin(chosen), BATCH_IMAGES
        )
        for tile, frame_id, image in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    ]
    rows.sort(key=itemgetter(0, 1))
    return {tile: [image for *_, image in group] for tile, group in groupby(rows, key=itemgetter(0))}


def fit_and_score(
    training_set: pad.Dataset,
    train_frames: pad.Dataset,
    threshold: Threshold,
    settings: Evaluation,
) -> tuple[pd.DataFrame, dict[str, FittedBaseline]]:
    """Fit every baseline on `train`, select and calibrate it on `validation`, and score `validation` and `test`.

    Args:
        training_set: The table.
        train_frames: The table `images`: the frames without augmentation.
        threshold: The rule that chooses the threshold, the same as for the detector.
        settings: `normal_frames`, `memory_patches`, `seed`.

    Returns:
        The rows of table `baselines`, and how each baseline was fitted, by its name.

    Raises:
        UserError: A half of the validation frames lacks a class.
    """
    from cygnet.model.network.backbone import CARRIED
    from cygnet.model.network.detector import Detector

    frames = read_normal_frames(train_frames, settings.normal_frames)
    baselines: dict[str, Baseline] = {
        "majority": Majority(),
        "pixel_statistics": _fit_pixel_statistics(training_set),
        "median_mad": MedianMad(frames),
        "nearest_neighbour": NearestNeighbour(
            Detector.load(CARRIED / BACKBONE),
            [*chain.from_iterable(frames.values())],
            settings.memory_patches,
            settings.seed,
        ),
    }
    variants = {name: baseline.variants for name, baseline in baselines.items()}
    validation, raw = _score(baselines, variants, training_set, "validation")
    best = {name: _best(scores, validation) for name, scores in raw.items()}
    variants = {name: [variants[name][position]] for name, position in best.items()}
    test, raw_test = _score(baselines, variants, training_set, "test")
    parts, fitted = [], {}
    for name, baseline in baselines.items():
        margins = raw[name][:, best[name]], raw_test[name][:, 0]  # (N,) of each split
        if not baseline.is_logit:
            regression = platt(margins[0], validation)
            margins = tuple(regression.decision_function(scores[:, None]) for scores in margins)
        calibration = calibrate(validation.assign(classifier_margin=margins[0]), threshold)
        for rows, margin in zip((validation, test), margins, strict=True):
            scores = scores_of(pd.DataFrame({"classifier_margin": margin}), calibration)
            parts.append(pd.concat([rows, scores], axis=1).assign(baseline=name))
        fitted[name] = FittedBaseline(variants[name][0], calibration)
    return pd.concat(parts, ignore_index=True), fitted


def platt(raw: np.ndarray, validation: pd.DataFrame) -> Any:
    """Fit a logistic regression of the label on one raw score `(N,)`, on the first half of the validation frames.

    Returns:
        A scikit-learn pipeline from `(N, 1)` to the log odds that an image is abnormal.
    """
    counted = counted_rows(validation.assign(raw=raw), "raw")
    first = counted[in_first_half(counted["frame_id"])]
    is_abnormal = (first["label"] == ABNORMAL).to_numpy()
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(first[["raw"]].to_numpy(), is_abnormal)


def _best(scores: np.ndarray, validation: pd.DataFrame) -> int:
    """Find the column of `(N, variants)` with the best AUROC."""
    by_variant = (counted_rows(validation.assign(raw=column), "raw") for column in scores.T)
    return int(np.argmax([roc_auc_score(rows["label"] == ABNORMAL, rows["raw"]) for rows in by_variant]))


def _fit_pixel_statistics(training_set: pad.Dataset) -> PixelStatistics:
    statistics, labels = [], []
    for rows, images in _images(training_set, "train"):
        statistics += [pixel_statistics(image) for image in images]
        labels += rows["label"].tolist()
    return PixelStatistics(np.array(statistics), np.array(labels))


def _score(
    baselines: dict[str, Baseline], variants: dict[str, list[Variant]], training_set: pad.Dataset, split: str
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Score a split, decoding each image once.

    Returns:
        The keys of its rows, sorted by `image_id`, and the scores of each baseline, `(N, variants)` in the same order.
    """
    keys: list[pd.DataFrame] = []
    scores: dict[str, list[np.ndarray]] = {name: [] for name in baselines}
    for rows, images in _images(training_set, split):
        keys.append(rows)
        for name, baseline in baselines.items():
            scores[name].append(baseline.score(images, variants[name]))
    table = pd.concat(keys, ignore_index=True)
    order = table["image_id"].argsort().to_numpy()
    return (
        table.iloc[order].reset_index(drop=True),
        {name: np.concatenate(parts)[order] for name, parts in scores.items()},
    )


def _images(training_set: pad.Dataset, split: str) -> Iterator[tuple[pd.DataFrame, list[np.ndarray]]]:
    batches = iterate_rows(training_set, [split], BATCH_IMAGES)
    for rows in tracked(batches, f"Baselines on {split}", "images", count_rows(training_set, [split]), len):
        yield rows.drop(columns="image"), [decode_image(encoded) for encoded in rows["image"]]
