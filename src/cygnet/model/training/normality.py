"""Fitting of the normality part: the subspace that the patches of normal frames span.

Only count, sum and sum of products of the features are kept, in float64: memory does not grow with the number of
frames, there is no seed, and in another order the frames give the same subspace but for rounding.
"""

import copy
import logging
from collections.abc import Iterable
from itertools import islice

import numpy as np
import torch

from cygnet.model.network.detector import Detector
from cygnet.model.training.frozen import block_runner

logger = logging.getLogger(__name__)

IMAGES_AT_ONCE = 8


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
            self.origin = vectors.mean(0)
            self.total = torch.zeros_like(self.origin)
            self.products = torch.zeros(len(self.origin), len(self.origin), dtype=torch.float64)
        centred = vectors - self.origin
        self.count += len(vectors)
        self.total += centred.sum(0)
        self.products += centred.T @ centred

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


def fit_normality(detector: Detector, images: Iterable[np.ndarray], explained_frac: float) -> Detector:
    """Fit the subspace on normal images.

    Args:
        detector: With the blocks that will be served; it stays as it is.
        images: `(H, W, 3)` uint8 BGR, at least one.
        explained_frac: Share of the variance that the subspace explains, > 0 and < 1.

    Returns:
        A copy of the detector with the subspace.
    """
    fitted = copy.deepcopy(detector)
    run = block_runner(fitted, fitted.normality.last_block)
    covariance, count = Covariance(), 0
    resized = map(fitted.preprocessing.resize, images)
    while batch := list(islice(resized, IMAGES_AT_ONCE)):
        _, features = run(torch.from_numpy(np.stack(batch)))  # (B, P, D)
        covariance.add(features.flatten(0, 1))
        count += len(batch)
    fitted.normality.mean = covariance.mean().float()
    fitted.normality.basis = covariance.principal_axes(explained_frac).float().contiguous()
    fitted.normality.to(fitted.classifier.weight.device)
    logger.info(
        "Normality: %d of %d dimensions explain %g of the patches of %d normal frames.",
        fitted.normality.basis.shape[1],
        fitted.backbone.config.hidden_size,
        explained_frac,
        count,
    )
    return fitted
