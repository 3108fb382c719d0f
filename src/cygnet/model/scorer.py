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

from cygnet.tables import ABNORMAL, NORMAL
from cygnet.vision.codec import decode_image
from cygnet.vision.crop import frame_to_image

if TYPE_CHECKING:
    from cygnet.model.detector import Detector

BATCH_SIZE = 32
SETTINGS = "detector.json"


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
    """Scores images with a fitted detector. Runs in float32: bfloat16 is for fitting only."""

    def __init__(self, detector: "Detector", calibration: Calibration, crop_horizontal_bias: float) -> None:
        self.detector = detector.eval()
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
        return scores_of(self.infer(images)[0], self.calibration)

    def infer(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Run the detector.

        Args:
            images: `(H, H, 3)` uint8 BGR each.

        Returns:
            Logits `(N, 2)` float32, not calibrated, and each patch's probability to be abnormal, `(N, G, G)` float32.
        """
        import torch

        logits, maps = [], []
        with torch.inference_mode():
            for start in range(0, len(images), BATCH_SIZE):
                batch = self.detector.preprocessing.resize_batch(images[start : start + BATCH_SIZE])  # (B, S, S, 3)
                image_logits, patch_logits = self.detector(batch.to(self.detector.classifier.weight.device))
                logits.append(image_logits.cpu().numpy())
                maps.append(patch_logits.sigmoid().cpu().numpy())
        if not images:
            return np.empty((0, 2), np.float32), np.empty((0, 0, 0), np.float32)
        return np.concatenate(logits), np.concatenate(maps)

    def save(self, folder: Path) -> None:
        """Write the scorer into an empty or missing folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.detector.save(folder)
        settings = {**asdict(self.calibration), "crop_horizontal_bias": self.crop_horizontal_bias}
        (folder / SETTINGS).write_text(json.dumps(settings, indent=1))

    @classmethod
    def load(cls, folder: Path) -> "Scorer":
        """Read what `save` wrote."""
        from cygnet.model.detector import Detector

        settings = json.loads((folder / SETTINGS).read_text())
        crop_horizontal_bias = settings.pop("crop_horizontal_bias")
        return cls(Detector.load(folder), Calibration(**settings), crop_horizontal_bias)


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
