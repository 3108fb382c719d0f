"""What pretraining gives. Apart from `pretrain`, so that the nodes' annotations resolve without importing torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from cygnet.model.detector import Detector


@dataclass(frozen=True)
class Pretrained:
    """A detector, a row of history every so many steps, the images it has seen, and how long it took."""

    detector: "Detector"
    history: pd.DataFrame  # step, images, loss, learning_rate, seconds
    images: int
    seconds: float
