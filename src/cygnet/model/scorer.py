"""The scorer: the one class that turns images into anomaly scores, in `predictions` and behind the endpoint.

A folder holds it: `config.json` and `model.safetensors` (Hugging Face), `preprocessor_config.json`, and `detector.json`
with the temperature, the threshold and the crop. Nothing in it is a pickle.

Logits leave it already divided by the calibration temperature, so that softmax gives the score to everybody.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cygnet.model.preprocessing import Preprocessing
from cygnet.tables import ABNORMAL, NORMAL
from cygnet.vision.codec import decode_image
from cygnet.vision.crop import frame_to_image

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BATCH_SIZE = 32


@dataclass(frozen=True)
class Calibration:
    """Temperature that the logits are divided by (> 0), and the score from which an image is anomalous (0-1).

    `rule` says how the threshold was chosen, `target_fpr` is the false-positive rate that it promises, or None.
    """

    temperature: float
    threshold: float
    rule: str = "fixed"
    target_fpr: float | None = None


class Scorer:
    """Scores images with a fitted model. Runs in float32: bfloat16 is for fitting only."""

    def __init__(
        self,
        model: "PreTrainedModel",
        preprocessing: Preprocessing,
        calibration: Calibration,
        crop_horizontal_bias: float,
    ) -> None:
        self.model = model.eval()
        self.preprocessing = preprocessing
        self.calibration = calibration
        self.crop_horizontal_bias = crop_horizontal_bias

    def decode(self, encoded: bytes, *, cropped: bool) -> np.ndarray:
        """Decode a whole frame (cropped and resized here) or an image that is cropped already.

        Raises:
            ValueError: The bytes are no image.
        """
        return decode_image(encoded) if cropped else frame_to_image(encoded, self.crop_horizontal_bias)

    def score(self, images: Sequence[np.ndarray]) -> pd.DataFrame:
        """Score cropped images.

        Args:
            images: `(H, H, 3)` uint8 BGR each.

        Returns:
            `logit_abnormal`, `logit_normal`, `anomaly_score` (float32, 0-1), `is_anomalous` (bool), a row per image.
        """
        batches = [images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE)]
        logits = [self._logits(batch) for batch in batches]
        return scores_of(np.concatenate(logits) if logits else np.empty((0, 2)), self.calibration)

    def _logits(self, images: Sequence[np.ndarray]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            pixels = self.preprocessing.batch(images).to(self.model.device)  # (B, 3, S, S)
            return self.model(pixel_values=pixels).logits.cpu().numpy()  # (B, 2)

    def save(self, folder: Path) -> None:
        """Write the scorer into an empty or missing folder."""
        _disable_progress_bars()
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder, safe_serialization=True)
        self.preprocessing.save(folder)
        detector = {**asdict(self.calibration), "crop_horizontal_bias": self.crop_horizontal_bias}
        (folder / "detector.json").write_text(json.dumps(detector, indent=1))

    @classmethod
    def load(cls, folder: Path) -> "Scorer":
        """Read what `save` wrote."""
        import torch
        from transformers import AutoModelForImageClassification

        _disable_progress_bars()
        detector = json.loads((folder / "detector.json").read_text())
        return cls(
            AutoModelForImageClassification.from_pretrained(folder, use_safetensors=True, dtype=torch.float32),
            Preprocessing.load(folder),
            Calibration(detector["temperature"], detector["threshold"]),
            detector["crop_horizontal_bias"],
        )


def _disable_progress_bars() -> None:
    """A few megabytes from disk are no long work."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def scores_of(logits: np.ndarray, calibration: Calibration) -> pd.DataFrame:
    """Calibrate raw logits `(N, 2)` and give the four columns of the score."""
    calibrated = (logits / calibration.temperature).astype(np.float32)
    score = softmax_abnormal(calibrated[:, ABNORMAL], calibrated[:, NORMAL])
    return pd.DataFrame(
        {
            "logit_abnormal": calibrated[:, ABNORMAL],
            "logit_normal": calibrated[:, NORMAL],
            "anomaly_score": score,
            "is_anomalous": score >= np.float32(calibration.threshold),
        }
    )


def softmax_abnormal(logit_abnormal: np.ndarray, logit_normal: np.ndarray) -> np.ndarray:
    """Softmax over the two logits, `(N,)` each: the probability of ABNORMAL, float32, 0-1."""
    margin = np.asarray(logit_normal, np.float64) - np.asarray(logit_abnormal, np.float64)
    return (1 / (1 + np.exp(np.clip(margin, -700, 700)))).astype(np.float32)
