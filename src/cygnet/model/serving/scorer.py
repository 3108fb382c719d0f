"""The scorer: the one class that turns images into anomaly scores, for `predictions`, for videos and for the endpoint.

It is stored in a folder: the files of its runtime (`detector.onnx`, or `config.json` and `model.safetensors` as Hugging
Face writes them), `preprocessor_config.json`, and `detector.json` with everything else. None of them is a pickle, and
loading them imports only the runtime's own library.

The network says two things of an image: a classifier's logits, and how far its patches lie from what is normal. They
become one score here: see `combination`. Its logits are divided by the calibration temperature already: their softmax
is the score, for every reader.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pandas as pd

from cygnet.model.serving.combination import combine, p_value
from cygnet.model.serving.runtimes import RUNTIMES, Runtime
from cygnet.scene import TrainingScene
from cygnet.tables import ABNORMAL, NORMAL
from cygnet.vision.codec import decode_image, encode_png, image_size_px, jpeg_size_px
from cygnet.vision.crop import Place, decoding_reduction, frame_to_images, maps_to_frame, seen_places
from cygnet.vision.region import area_mask

SETTINGS = "detector.json"


ScoreName = Literal["combined", "classifier", "normality"]
"""What an anomaly score is made of."""


@dataclass(frozen=True)
class Calibration:
    """From what the network says of an image to its score, and the score from which it is anomalous.

    The first half of the validation frames gives `temperature` and both `normal_*`, the second half the threshold; see
    `cygnet.model.evaluation.calibrate`. Of a frame with several images, the largest value counts.
    """

    temperature: float  # > 0; the log odds are divided by it
    threshold: float  # 0-1
    rule: str = "fixed"  # how the threshold was chosen
    target_fpr: float | None = None  # the false-positive rate that the threshold promises
    score: ScoreName = "classifier"
    top_frac: float = 0.03  # of an image's patches, the most distant ones: their mean is its distance
    normal_margins: list[float] = field(default_factory=list)  # of normal frames, ascending; empty: not calibrated yet
    normal_distances: list[float] = field(default_factory=list)
    left_out_distances: list[float] = field(default_factory=list)  # those of train frames, which are among the former
    normal_motions: list[float] = field(default_factory=list)  # of normal frames of video; empty: motion has no part

    def margins(self, parts: pd.DataFrame) -> np.ndarray:
        """Compute the log odds, not yet divided by the temperature, that images are abnormal.

        Args:
            parts: `classifier_margin`, and unless `score` is `classifier`, `normality_distance`. Of frames of video
                also `motion`, which counts if `score` is `combined`; NaN: a frame without.

        Returns:
            `(N,)` float64.
        """
        if self.score == "classifier":
            return parts["classifier_margin"].to_numpy(np.float64)
        p_values = [p_value(parts["normality_distance"].to_numpy(), self.normal_distances)]
        if self.score == "combined":  # a classifier that is not sure of an anomaly has not found one, however rare
            margins = parts["classifier_margin"].to_numpy(np.float64)
            p_values.append(np.maximum(p_value(margins, self.normal_margins), 1 - probability(margins)))
            if "motion" in parts and self.normal_motions:
                p_values.append(p_value(parts["motion"].to_numpy(), self.normal_motions))
        return combine(np.stack(p_values, axis=1))


@dataclass(frozen=True)
class Parts:
    """What the network says of N images, before it is one score."""

    images: pd.DataFrame  # a row each: `classifier_margin`, log odds; `normality_distance`, >= 0; float32
    classifier_maps: np.ndarray  # (N, G, G) float32, 0-1: the classifier's probability that a patch is abnormal
    distance_maps: np.ndarray  # (N, G, G) float32, >= 0: squared distance of each patch to the normal subspace


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
            if "score" not in stored["calibration"]:
                msg = "it has no normality score"
                raise ValueError(msg)
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

    def with_basis(self, basis: np.ndarray) -> "Scorer":
        """Give the same scorer with another basis of the normal subspace, `(D, K)` float32, orthonormal."""
        return Scorer(self.runtime.with_basis(basis), self.calibration, self.scene, self.limits)

    def decode(self, encoded: bytes) -> np.ndarray:
        """Decode an image that is cropped already.

        Args:
            encoded: JPEG, PNG, WebP, BMP or TIFF; see `cygnet.vision.codec.decode_image`.

        Returns:
            `(H, H, 3)` uint8 BGR.

        Raises:
            ValueError: The bytes are not an image of these formats, or exceed the limits in bytes or pixels.
        """
        self.count_px(encoded)
        return decode_image(encoded)

    def see(self, encoded: bytes) -> list[np.ndarray]:
        """Decode a whole frame, and cut and resize what the detector sees of it.

        Returns:
            `(256, 256, 3)` uint8 BGR each: one, or all tiles, grey outside the area that is looked at.

        Raises:
            ValueError: As `decode`, or see `cygnet.vision.crop.seen_places`.
        """
        self.count_px(encoded)
        return frame_to_images(encoded, self.scene.view, self.scene.crop_horizontal_bias, self.scene.area)

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
            `is_anomalous` (bool); and the anomaly maps, `(N, G, G)` float32 from 0 to 1: see `anomaly_maps`.
        """
        parts = self.measure(images)
        calibration = self.calibration if threshold is None else replace(self.calibration, threshold=threshold)
        return scores_of(parts.images, calibration), self.anomaly_maps(parts)

    def score_frames(
        self, frames: Iterable[list[np.ndarray]], threshold: float | None = None
    ) -> tuple[pd.DataFrame, list[np.ndarray]]:
        """Score frames of which several images are seen: the one with the highest score counts.

        Args:
            frames: What `see` returned of each.
            threshold: As for `score`.

        Returns:
            A row per frame as of `score`, and the maps of its images, `(n, G, G)` each.
        """
        starts = [0]

        def images() -> Iterator[np.ndarray]:
            for frame in frames:
                starts.append(starts[-1] + len(frame))
                yield from frame

        scores, maps = self.score(images(), threshold)
        spans = list(pairwise(starts))
        logits = scores["logit_abnormal"].to_numpy()
        best = [start + int(logits[start:stop].argmax()) for start, stop in spans]
        return scores.iloc[best].reset_index(drop=True), [maps[start:stop] for start, stop in spans]

    def measure(self, images: Iterable[np.ndarray]) -> Parts:
        """Run the network, without calibration; arguments as `score`."""
        resized = map(self.runtime.preprocessing.resize, images)
        margins, classifier_maps, distance_maps = [np.empty(0, np.float32)], [], []
        while batch := list(islice(resized, self.runtime.batch_size)):
            logits, patch_logits, patch_distances = self.runtime.run(np.stack(batch))  # (B, S, S, 3)
            margins.append(logits[:, ABNORMAL] - logits[:, NORMAL])
            classifier_maps.append(softmax_abnormal(patch_logits, np.zeros_like(patch_logits)))
            distance_maps.append(patch_distances)
        no_map = [np.empty((0, 1, 1), np.float32)]
        distances = np.concatenate(distance_maps or no_map)
        columns = {
            "classifier_margin": np.concatenate(margins),
            "normality_distance": mean_of_largest(distances, self.calibration.top_frac),
        }
        return Parts(pd.DataFrame(columns), np.concatenate(classifier_maps or no_map), distances)

    def measure_outside(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Give what of each patch's features lies outside the normal subspace: `(B, P, D)` float64, batch by batch.

        The sum of a patch's squares is its distance. Arguments as `score`.
        """
        basis = self.runtime.basis.astype(np.float64)
        resized = map(self.runtime.preprocessing.resize, images)
        while batch := list(islice(resized, self.runtime.batch_size)):
            centred = self.runtime.centred(np.stack(batch)).astype(np.float64)
            yield centred - centred @ basis @ basis.T

    def anomaly_maps(self, parts: Parts) -> np.ndarray:
        """Choose what shows where an anomaly is: the distances, unless the score is the classifier's alone.

        Returns:
            `(N, G, G)` float32, 0-1. A distance is 0.5 where it is that of the most distant normal frame.
        """
        if self.calibration.score == "classifier":
            return parts.classifier_maps
        return parts.distance_maps / (parts.distance_maps + np.float32(self.calibration.normal_distances[-1]))

    def draw_heatmap(self, encoded: bytes, maps: np.ndarray, *, cropped: bool) -> bytes:
        """Scale anomaly maps to the image as it was sent, upright.

        Args:
            encoded: The image.
            maps: Those of its images from `score_frames`, `(n, G, G)` float32, 0-1.
            cropped: Whether it was cropped already. Of a whole frame, what the detector does not see is 0.

        Returns:
            A grey PNG in which 255 stands for 1.
        """
        height_px, width_px = decode_image(encoded).shape[:2]
        if cropped:
            scaled = cv2.resize(maps[0], (width_px, height_px), interpolation=cv2.INTER_LINEAR)
        else:
            scaled = maps_to_frame(maps, self._places(encoded, height_px, width_px), height_px, width_px)
            mask = area_mask(self.scene.area, height_px, width_px)
            if mask is not None:
                scaled[mask == 0] = 0
        return encode_png(np.rint(scaled * 255).astype(np.uint8))

    def _places(self, encoded: bytes, height_px: int, width_px: int) -> list[Place]:
        """Place what `see` has cut out of a frame: at the size at which it was decoded, and then in the frame."""
        reduction = decoding_reduction(jpeg_size_px(encoded))
        size_px = -(-height_px // reduction), -(-width_px // reduction)
        places = seen_places(self.scene.view, *size_px, self.scene.crop_horizontal_bias, self.scene.area)
        return [(left * reduction, top * reduction, side * reduction) for left, top, side in places]

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


def mean_of_largest(maps: np.ndarray, top_frac: float) -> np.ndarray:
    """Return the mean of the largest values of each map `(N, G, G)`, at least one: `(N,)` float32."""
    values = np.sort(maps.reshape(len(maps), maps.shape[1] * maps.shape[2]), axis=1)
    kept = max(1, round(top_frac * values.shape[1]))
    return values[:, -kept:].mean(axis=1, dtype=np.float64).astype(np.float32)


def scores_of(parts: pd.DataFrame, calibration: Calibration) -> pd.DataFrame:
    """Calibrate what the network says, see `Calibration.margins`; return the four columns of `Scorer.score`."""
    margins = calibration.margins(parts) / calibration.temperature
    score = softmax_abnormal(margins / 2, -margins / 2)
    return pd.DataFrame(
        {
            "logit_abnormal": (margins / 2).astype(np.float32),
            "logit_normal": (-margins / 2).astype(np.float32),
            "anomaly_score": score,
            "is_anomalous": score >= np.float32(calibration.threshold),
        },
        index=parts.index,
    )


def softmax_abnormal(logit_abnormal: np.ndarray, logit_normal: np.ndarray) -> np.ndarray:
    """Softmax over two arrays of logits of the same shape: the probability of ABNORMAL, float32, 0-1."""
    return probability(np.asarray(logit_abnormal, np.float64) - np.asarray(logit_normal, np.float64)).astype(np.float32)


def probability(log_odds: np.ndarray) -> np.ndarray:
    """Turn log odds into probabilities, > 0 and < 1, float64."""
    return 1 / (1 + np.exp(np.clip(-log_odds, -700, 700)))
