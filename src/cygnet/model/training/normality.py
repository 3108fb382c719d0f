"""Fitting of the normality part: the subspace that the patches of normal frames span.

Only count, sum and sum of products of the features are kept, in float64: memory does not grow with the number of
frames, there is no seed, and in another order the frames give the same subspace but for rounding. They are kept for
each stretch of time, so that `left_out` can fit without one; the features themselves stay in a file for it.

Where the camera moves, each frame counts twice: as it is, and turned with another brightness (`with_variants`). The
subspace then holds the next view too. It is also larger, so with a fixed camera it would only hide more.
"""

import copy
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import torch

from cygnet.model.network.detector import Detector
from cygnet.model.network.normality import Subspace
from cygnet.model.serving.blocks import FirstBlocks, block_runner
from cygnet.model.training.examples import mapped_tensor
from cygnet.vision.rng import generator
from cygnet.vision.transforms import vary_normal

logger = logging.getLogger(__name__)

IMAGES_AT_ONCE = 8
STRETCHES = 20
"""Number of stretches of time that frames are counted in."""


class Covariance:
    """Mean and covariance of vectors, seen batch by batch.

    They are counted relative to the first batch's mean: squares of large numbers would lose digits.
    """

    def __init__(self) -> None:
        self.count = 0
        self.origin = self.total = self.products = torch.zeros(0, dtype=torch.float64)

    def add(self, vectors: torch.Tensor) -> None:
        """Count `(N, D)` vectors, N >= 1."""
        vectors = vectors.double()
        if not self.count:
            self._start(vectors.mean(0))
        centred = vectors - self.origin
        self.count += len(vectors)
        self.total += centred.sum(0)
        self.products += centred.T @ centred

    @classmethod
    def merged(cls, parts: Iterable["Covariance"]) -> Self:
        """Count what at least one part has counted, as if all vectors had been added here; the parts stay."""
        whole = cls()
        for part in parts:
            if not whole.count:
                whole._start(part.origin)
            shift = part.origin - whole.origin
            cross = torch.outer(shift, part.total)
            whole.count += part.count
            whole.total += part.total + part.count * shift
            whole.products += part.products + cross + cross.T + part.count * torch.outer(shift, shift)
        return whole

    def _start(self, origin: torch.Tensor) -> None:
        self.origin = origin
        self.total = torch.zeros_like(origin)
        self.products = torch.zeros(len(origin), len(origin), dtype=torch.float64)

    def mean(self) -> torch.Tensor:
        """Return the mean, `(D,)` float64."""
        return self.origin + self.total / self.count

    def principal_axes(self, explained_frac: float) -> torch.Tensor:
        """Return the fewest principal axes that explain this share of the variance, `(D, K)` float64, K >= 1."""
        offset = self.total / self.count
        variances, axes = torch.linalg.eigh(self.products / self.count - torch.outer(offset, offset))
        variances, axes = variances.flip(0).clamp(min=0), axes.flip(1)
        explained = variances.cumsum(0) / variances.sum()
        return axes[:, : int((explained < explained_frac).sum()) + 1]

    def set_subspace(self, subspace: Subspace, explained_frac: float) -> None:
        """Give a subspace this mean, and the axes that explain this share of the variance."""
        subspace.mean = self.mean().float()
        subspace.basis = self.principal_axes(explained_frac).float().contiguous()


@dataclass(frozen=True)
class FrameFeatures:
    """What the network says of N normal frames, in the order of `image_ids`: by source and time."""

    image_ids: list[str]
    features: torch.Tensor  # (N, P, D) float16, memory-mapped
    stretches: np.ndarray  # (N,) int64, ascending from 0: frames with the same number follow each other
    counted: list[Covariance]  # of each stretch


def fit_normality(
    detector: Detector,
    frames: Iterable[tuple[str, np.ndarray]],
    image_ids: list[str],
    explained_frac: float,
    path: Path,
) -> tuple[Detector, FrameFeatures]:
    """Fit the subspace on normal images; the network runs once over them.

    Args:
        detector: With the blocks that will be served; it stays as it is.
        frames: `image_id` and image, `(H, W, 3)` uint8 BGR, in any order; at least one. What comes under the same id
            again counts too; the features of the first are kept.
        image_ids: All of them by source and time.
        explained_frac: Share of the variance that the subspace explains, > 0 and < 1.
        path: The memory-mapped file to write, of 2 P D bytes for each frame; it must outlive the features.

    Returns:
        A copy of the detector with the subspace, and the features.
    """
    fitted = copy.deepcopy(detector)
    seen = _compute_features(fitted, frames, image_ids, path)
    Covariance.merged(seen.counted).set_subspace(fitted.normality, explained_frac)
    fitted.normality.to(fitted.classifier.weight.device)
    logger.info(
        "Normality: %d of %d dimensions explain %g of the patches of %d normal images.",
        fitted.normality.basis.shape[1],
        fitted.backbone.config.hidden_size,
        explained_frac,
        len(image_ids),
    )
    return fitted, seen


def with_variants(frames: Iterable[tuple[str, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    """Give each frame, and under the same `image_id` a variant of it that follows from the id alone."""
    for image_id, image in frames:
        yield image_id, image
        yield image_id, vary_normal(image, generator(0, image_id))


def _compute_features(
    detector: Detector, frames: Iterable[tuple[str, np.ndarray]], image_ids: list[str], path: Path
) -> FrameFeatures:
    run = block_runner(FirstBlocks(detector, detector.normality.last_block))
    place_of = {image_id: place for place, image_id in enumerate(image_ids)}
    count = min(STRETCHES, len(image_ids))
    stretches = np.arange(len(image_ids)) * count // len(image_ids)
    counted = [Covariance() for _ in range(count)]
    kept, seen = torch.empty(0), np.zeros(len(image_ids), bool)
    rows = ((place_of[image_id], detector.preprocessing.resize(image)) for image_id, image in frames)
    while batch := list(islice(rows, IMAGES_AT_ONCE)):
        places, images = zip(*batch, strict=True)
        _, features = run(torch.from_numpy(np.stack(images)))  # (B, P, D)
        if not len(kept):
            kept = mapped_tensor(path, (len(image_ids), *features.shape[1:]), torch.float16)
        for place, of_frame in zip(places, features, strict=True):
            counted[stretches[place]].add(of_frame)
            if not seen[place]:
                kept[place] = of_frame.half()
                seen[place] = True
    return FrameFeatures(image_ids, kept, stretches, counted)
