"""What fitting gives. Apart from `fit`, so that the nodes' annotations resolve without importing torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from cygnet.model.preprocessing import Preprocessing

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Fitted:
    """A fitted model with its preprocessing, one row of history per epoch, and how long it took."""

    model: "PreTrainedModel"
    preprocessing: Preprocessing
    history: pd.DataFrame  # epoch, learning_rate, train_loss, validation_nll, is_best
    images: int  # fitted on, over all epochs
    seconds: float
