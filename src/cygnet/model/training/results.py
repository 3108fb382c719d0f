"""Results of fitting and pretraining, in a module without torch: annotations of nodes resolve fast."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cygnet.tables import parse_image_id

if TYPE_CHECKING:
    from cygnet.model.network.detector import Detector


@dataclass(frozen=True)
class Fitted:
    """A fitted detector, one row of history per epoch, and how long it took.

    Epoch 0 is the checkpoint before fitting; it has no training loss (NaN).
    """

    detector: "Detector"
    history: pd.DataFrame  # epoch, train_loss, images, fitted_frac, validation_nll, validation_auroc, is_best
    images: int  # fitted on, over all epochs
    seconds: float


@dataclass(frozen=True)
class LeftOut:
    """How far normal train frames lie from a subspace that was fitted without them and without their neighbours."""

    frames: pd.DataFrame  # image_id, distance (float64, >= 0): all that were measured, the most distant first
    limit: float  # of the distance; a frame above it is suspicious; infinite if nothing was measured
    maps: dict[str, np.ndarray]  # by image_id: the most distant frames' squared distance of each patch, (G, G) float32

    @property
    def suspicious(self) -> pd.DataFrame:
        """The frames above the limit, the most distant first."""
        return self.frames[self.frames["distance"] > self.limit]

    def clean_distances(self) -> list[float]:
        """List the distances of the frames that are not suspicious; of a frame with several images, the largest."""
        clean = self.frames[self.frames["distance"] <= self.limit]
        frames = [parse_image_id(image_id)[:2] for image_id in clean["image_id"]]
        return clean["distance"].groupby(pd.Index(frames, tupleize_cols=False)).max().tolist()


@dataclass(frozen=True)
class Pretrained:
    """A pretrained detector, a row of history every so many steps, the images it has seen, and how long it took."""

    detector: "Detector"
    history: pd.DataFrame  # step, images, loss, learning_rate, seconds
    images: int
    seconds: float
