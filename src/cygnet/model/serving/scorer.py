"""The scorer: the one class that turns images into anomaly scores, for `predictions`, for videos and for the endpoint.

It is stored in a folder: the files of its runtime (`detector.onnx`, or `config.json` and `model.safetensors` as Hugging
Face writes them), `preprocessor_config.json`, and `detector.json` with everything else. None of them is a pickle, and
loading them imports only the runtime's own library.

Its logits are divided by the calibration temperature already: their softmax is the score, for every reader.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from cygnet.model.serving.runtimes import RUNTIMES, Runtime
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
    """Upper limits: rows, bytes and pixels of a request, bytes and pixels of an encoded image."""

    request_rows: int
    request_bytes: int
    request_px: int
    image_bytes: int
    image_px: int


@dataclass(frozen=True)
class Settings:
    """The content of `detector.json`."""

    runtime: str
    calibration: Calibration
    scene: TrainingScene
    limits: Limits

    @classmethod
    def load(cls, folder: Path) -> "Settings":
        """Read the settings of a saved scorer without loading its network.

        Raises:
            ValueError: They are missing, incomplete, or of a runtime that this version of Cygnet does not know.
        """
        try:
            stored = json.loads((folder / SETTINGS).read_text())
            kinds = {"calibration": Calibration, "scene": TrainingScene, "limits": Limits}
            sections = {name: kind(**stored.pop(name)) for name, kind in kinds.items()}
            if stored["runtime"] not in RUNTIMES:
                msg = f"unknown runtime {stored['runtime']!r}"
                raise ValueError(msg)
            return cls(**sections, **stored)
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"its {SETTINGS} is not of this version of Cygnet ({error})"
            raise ValueError(msg) from error


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
        """Decode a whole frame, which is cropped and resized here, or an image that is cropped already.

        Args:
            encoded: JPEG, PNG, WebP, BMP or TIFF; see `cygnet.vision.codec.decode_image`.
            cropped: Whether it is cropped already.

        Returns:
            `(H, H, 3)` uint8 BGR.

        Raises:
            ValueError: The bytes are not an image of these formats, or exceed the limits in bytes or pixels.
        """
        self.count_px(encoded)
        return decode_image(encoded) if cropped else frame_to_image(encoded, self.scene.crop_horizontal_bias)

    def count_px(self, encoded: bytes) -> int:
        """Count the pixels of an image from its header; raises as `decode` does."""
        if len(encoded) > self.limits.image_bytes:
            msg = f"the image has {len(encoded)} bytes, at most {self.limits.image_bytes} are allowed"
            raise ValueError(msg)
        width_px, height_px = image_size_px(encoded)
        if width_px * height_px > self.limits.image_px:
            msg = f"the image has {width_px} x {height_px} pixels, at most {self.limits.image_px} are allowed"
            raise ValueError(msg)
        return width_px * height_px

    def score(self, images: Iterable[np.ndarray], threshold: float | None = None) -> tuple[pd.DataFrame, np.ndarray]:
        """Score cropped images; of an iterator, one batch at a time is in memory.

        Args:
            images: `(H, H, 3)` uint8 BGR each.
            threshold: Score from which an image is anomalous, 0-1; None: the calibrated one.

        Returns:
            A row per image with `logit_abnormal`, `logit_normal` (calibrated), `anomaly_score` (float32, 0-1) and
            `is_anomalous` (bool); and the anomaly maps, `(N, G, G)` float32 from 0 to 1, each patch's probability of
            being abnormal.
        """
        resized = map(self.runtime.preprocessing.resize, images)
        logits, maps = [np.empty((0, 2), np.float32)], []
        while batch := list(islice(resized, self.runtime.batch_size)):
            image_logits, patch_logits = self.runtime.run(np.stack(batch))  # (B, S, S, 3)
            logits.append(image_logits)
            maps.append(softmax_abnormal(patch_logits, np.zeros_like(patch_logits)))
        calibration = self.calibration if threshold is None else replace(self.calibration, threshold=threshold)
        scores = scores_of(np.concatenate(logits), calibration)
        return scores, np.concatenate(maps) if maps else np.empty((0, 0, 0), np.float32)

    def draw_heatmap(self, encoded: bytes, anomaly_map: np.ndarray, *, cropped: bool) -> bytes:
        """Scale an anomaly map to the image as it was sent, upright.

        Args:
            encoded: The image, as for `decode`.
            anomaly_map: Its map from `score`, `(G, G)` float32, 0-1.
            cropped: As for `decode`. Of a whole frame, what lies outside the cropped square is 0.

        Returns:
            A grey PNG in which 255 stands for 1.
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
        runtime = RUNTIMES[settings.runtime].load(folder)
        return cls(runtime, settings.calibration, settings.scene, settings.limits)


def scores_of(logits: np.ndarray, calibration: Calibration) -> pd.DataFrame:
    """Calibrate raw logits `(N, 2)` and give the four columns of `Scorer.score`."""
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
    """Softmax over two arrays of logits of the same shape: the probability of ABNORMAL, float32, 0-1."""
    margin = np.asarray(logit_normal, np.float64) - np.asarray(logit_abnormal, np.float64)
    return (1 / (1 + np.exp(np.clip(margin, -700, 700)))).astype(np.float32)
