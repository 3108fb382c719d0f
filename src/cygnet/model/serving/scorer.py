"""The scorer: the one class that turns images into anomaly scores, in `predictions` and behind the endpoint.

A folder holds it: what its runtime needs (`detector.onnx`, or `config.json` and `model.safetensors` as Hugging Face
writes them), `preprocessor_config.json`, and `detector.json` with everything else. Nothing in it is a pickle, and
loading it imports only what its runtime needs.

Logits leave it already divided by the calibration temperature, so that softmax gives the score to everybody.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pandas as pd

from cygnet.model.network.preprocessing import Preprocessing
from cygnet.scene import TrainingScene
from cygnet.tables import ABNORMAL, NORMAL
from cygnet.vision.codec import decode_image, encode_png, image_size_px
from cygnet.vision.crop import frame_to_image, map_to_frame

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


@dataclass(frozen=True)
class Limits:
    """What is taken at most: rows, bytes and pixels of a request, bytes and pixels of an encoded image."""

    request_rows: int
    request_bytes: int
    request_px: int
    image_bytes: int
    image_px: int


@dataclass(frozen=True)
class Settings:
    """What `detector.json` holds."""

    runtime: str
    calibration: Calibration
    scene: TrainingScene
    limits: Limits

    @classmethod
    def load(cls, folder: Path) -> "Settings":
        """Read the settings of a scorer that was saved, without loading its network.

        Raises:
            ValueError: They are not there, or not all that this version of Cygnet needs.
        """
        try:
            numbers = json.loads((folder / SETTINGS).read_text())
            kinds = {"calibration": Calibration, "scene": TrainingScene, "limits": Limits}
            sections = {name: kind(**numbers.pop(name)) for name, kind in kinds.items()}
            return cls(**sections, **numbers)
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"its {SETTINGS} is not of this version of Cygnet ({error})"
            raise ValueError(msg) from error


class Runtime(Protocol):
    """What runs the network, and the preprocessing that the network was fitted with."""

    name: str  # as in serving.runtime
    batch_size: int  # images that are run at once
    preprocessing: Preprocessing

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take `(B, S, S, 3)` uint8 RGB; give logits `(B, 2)` and patch logits `(B, G, G)`, float32."""

    def save(self, folder: Path, settings: dict[str, Any]) -> None:
        """Write the network and its preprocessing; a single-file format carries the scorer's settings too."""


class Scorer:
    """Scores images with a fitted detector."""

    def __init__(self, runtime: Runtime, calibration: Calibration, scene: TrainingScene, limits: Limits) -> None:
        self.runtime = runtime
        self.calibration = calibration
        self.scene = scene
        self.limits = limits

    def with_calibration(self, calibration: Calibration) -> "Scorer":
        """Give the same scorer with another calibration."""
        return Scorer(self.runtime, calibration, self.scene, self.limits)

    def decode(self, encoded: bytes, *, cropped: bool) -> np.ndarray:
        """Decode a whole frame (cropped and resized here) or an image that is cropped already.

        Args:
            encoded: JPEG, PNG, WebP, BMP or TIFF; see `cygnet.vision.codec.decode_image`.
            cropped: What it is.

        Raises:
            ValueError: The bytes are no image of these formats, or more bytes or pixels than the limits allow.
        """
        self.count_px(encoded)
        return decode_image(encoded) if cropped else frame_to_image(encoded, self.scene.crop_horizontal_bias)

    def count_px(self, encoded: bytes) -> int:
        """Count the pixels of an image without decoding any; raises as `decode` does."""
        if len(encoded) > self.limits.image_bytes:
            msg = f"the image has {len(encoded)} bytes, at most {self.limits.image_bytes} are taken"
            raise ValueError(msg)
        width_px, height_px = image_size_px(encoded)
        if width_px * height_px > self.limits.image_px:
            msg = f"the image has {width_px} x {height_px} pixels, at most {self.limits.image_px} are taken"
            raise ValueError(msg)
        return width_px * height_px

    def score(self, images: Iterable[np.ndarray]) -> pd.DataFrame:
        """Score cropped images.

        Args:
            images: `(H, H, 3)` uint8 BGR each.

        Returns:
            `logit_abnormal`, `logit_normal`, `anomaly_score` (float32, 0-1), `is_anomalous` (bool), a row per image.
        """
        return scores_of(self.infer(images)[0], self.calibration)

    def infer(self, images: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Run the detector; of the images that an iterator gives, a batch is kept at a time.

        Args:
            images: `(H, H, 3)` uint8 BGR each.

        Returns:
            Logits `(N, 2)` float32, not calibrated, and each patch's probability to be abnormal, `(N, G, G)` float32.
        """
        resized = map(self.runtime.preprocessing.resize, images)
        logits, maps = [np.empty((0, 2), np.float32)], []
        while batch := list(islice(resized, self.runtime.batch_size)):
            image_logits, patch_logits = self.runtime.run(np.stack(batch))  # (B, S, S, 3)
            logits.append(image_logits)
            maps.append(softmax_abnormal(patch_logits, np.zeros_like(patch_logits)))
        return np.concatenate(logits), np.concatenate(maps) if maps else np.empty((0, 0, 0), np.float32)

    def draw_heatmap(self, encoded: bytes, anomaly_map: np.ndarray, *, cropped: bool) -> bytes:
        """Scale the map of an image, as `infer` gives it, to the image as it was sent, upright.

        Args:
            encoded: What `decode` has taken.
            anomaly_map: `(G, G)` float32, 0-1.
            cropped: As for `decode`. Of a whole frame, what the square leaves out is 0.

        Returns:
            A grey PNG: 255 is 1.
        """
        height_px, width_px = decode_image(encoded).shape[:2]
        if cropped:
            scaled = cv2.resize(anomaly_map, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
        else:
            scaled = map_to_frame(anomaly_map, height_px, width_px, self.scene.crop_horizontal_bias)
        return encode_png(np.rint(scaled * 255).astype(np.uint8))

    def save(self, folder: Path) -> None:
        """Write the scorer into an empty or missing folder."""
        folder.mkdir(parents=True, exist_ok=True)
        settings = asdict(Settings(self.runtime.name, self.calibration, self.scene, self.limits))
        self.runtime.save(folder, settings)
        (folder / SETTINGS).write_text(json.dumps(settings, indent=1))

    @classmethod
    def load(cls, folder: Path) -> "Scorer":
        """Read what `save` wrote; raises as `Settings.load` does."""
        settings = Settings.load(folder)
        runtime = _load_runtime(settings.runtime, folder)
        return cls(runtime, settings.calibration, settings.scene, settings.limits)


def _load_runtime(name: str, folder: Path) -> Runtime:
    if name.startswith("onnx"):
        from cygnet.model.serving.onnx_runtime import OnnxRuntime

        return OnnxRuntime.load(folder, name)
    from cygnet.model.serving.torch_runtime import TorchRuntime

    return TorchRuntime.load(folder, name)


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
    """Softmax over two logits, of any one shape: the probability of ABNORMAL, float32, 0-1."""
    margin = np.asarray(logit_normal, np.float64) - np.asarray(logit_abnormal, np.float64)
    return (1 / (1 + np.exp(np.clip(margin, -700, 700)))).astype(np.float32)
