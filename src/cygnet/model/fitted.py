"""What fitting gives. Apart from `fit`, so that the nodes' annotations resolve without importing torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from cygnet.model.detector import Detector


@dataclass(frozen=True)
class Fitted:
    """A fitted detector, one row of history per epoch, and how long it took.

    Epoch 0 is the checkpoint before fitting; it has no training loss (NaN).
    """

    detector: "Detector"
    history: pd.DataFrame  # epoch, train_loss, images, fitted_frac, validation_nll, validation_auroc, is_best
    images: int  # fitted on, over all epochs
    seconds: float
