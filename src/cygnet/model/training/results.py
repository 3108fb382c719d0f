"""Results of fitting and pretraining, in a module without torch: annotations of nodes resolve fast."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

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
class Pretrained:
    """A pretrained detector, a row of history every so many steps, the images it has seen, and how long it took."""

    detector: "Detector"
    history: pd.DataFrame  # step, images, loss, learning_rate, seconds
    images: int
    seconds: float
