"""Small stand-ins for what the pipelines make: a detector, rows of `training_set`, and an MLflow store.

torch is imported where it is needed: some tests also run where there is none (see `test_python312`).
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from omegaconf import OmegaConf

from cygnet.model.network.preprocessing import Preprocessing
from cygnet.model.serving.scorer import Calibration, Limits, ScoreName, Scorer
from cygnet.parameters.serving import RuntimeName
from cygnet.parameters.training import SmallViT, Training
from cygnet.scene import Scene, TrainingScene
from cygnet.tables import ABNORMAL, KIND_NORMAL, KIND_REAL, LABEL_RANGES, NORMAL, TRAINING_SET
from cygnet.vision.codec import encode_jpeg, encode_map, encode_png
from cygnet.vision.crop import frame_to_images, place_views

if TYPE_CHECKING:
    from cygnet.model.network.detector import Detector

CONF_BASE = Path(__file__).parents[2] / "conf" / "base"
LIMITS = Limits(
    request_rows=50, request_bytes=2_000_000, request_px=9_000_000, image_bytes=1_000_000, image_px=4_000_000
)
IMAGES_SCENE = Scene(
    interval_s=0.1,
    view="square",
    crop_horizontal_bias=0.4,
    frame_jpeg_quality=95,
    image_jpeg_quality=95,
    image_size_px=256,
)
SCENE = TrainingScene(**dataclasses.asdict(IMAGES_SCENE), training_jpeg_quality=95, camera="fixed")
SMALL_VIT = SmallViT(image_size_px=32, patch_size_px=16, hidden_size=32, layers=1, heads=2)


def label_ranges(*rows: tuple[str, float, float, str]) -> pd.DataFrame:
    """Give labelled ranges: the source, start and end in seconds, and the label of each."""
    return pd.DataFrame(rows, columns=LABEL_RANGES.names)


def base_parameters() -> dict[str, Any]:
    """The parameters of conf/base, merged and resolved as Kedro does."""
    files = [OmegaConf.load(file) for file in sorted(CONF_BASE.glob("parameters*.yml"))]
    return OmegaConf.to_container(OmegaConf.merge(*files), resolve=True)


def toy_training(training: Training, **changes: Any) -> Training:
    """The project's parameters with a ViT of one layer, fitted whole, without twins, warm-up and averaging."""
    plain = {
        "checkpoint": None,
        "small_vit": SMALL_VIT,
        "fitted": "full",
        "learning_rate": 0.001,
        "twins": False,
        "warmup_frac": 0.0,
        "average": 0.0,
        "fitted_fracs": [1.0],
    }
    return training.model_copy(update={**plain, **changes})


def toy_detector(small_vit: SmallViT) -> "Detector":
    """A detector that was never fitted, with heads that say something."""
    import torch

    from cygnet.model.network.backbone import initial_vit
    from cygnet.model.network.detector import Detector

    torch.manual_seed(1)
    detector = Detector(initial_vit(small_vit), Preprocessing(small_vit.image_size_px)).eval()
    _say_something(detector)
    return detector


def _say_something(detector: "Detector") -> None:
    """Draw heads, and a subspace of half the dimensions."""
    import torch

    for head in (detector.classifier, detector.patch_head):
        torch.nn.init.normal_(head.weight)
    width = len(detector.normality.mean)
    detector.normality.basis = torch.eye(width)[:, : width // 2]


def toy_scorer(
    training: Training,
    temperature: float = 1.7,
    threshold: float = 0.5,
    runtime: RuntimeName = "torch",
    score: ScoreName = "classifier",
    **limits: int,
) -> Scorer:
    """A scorer that was never fitted; its parts are drawn so that scores differ from image to image."""
    import torch

    from cygnet.model.network.backbone import load_detector
    from cygnet.model.serving.runtimes import RUNTIMES

    detector = load_detector(toy_training(training))
    _say_something(detector)
    with torch.no_grad():  # by the classifier a grey image scores 0.5
        grey = torch.full((1, 32, 32, 3), 128, dtype=torch.uint8)
        detector.classifier.bias -= detector(grey)[0][0]
        distance = float(detector(grey)[2].mean())
    normal = {"normal_margins": [-2.0, -1.0, 0.0, 1.0], "normal_distances": [0.9 * distance, distance, 1.1 * distance]}
    return Scorer(
        RUNTIMES[runtime].make(detector),
        Calibration(temperature, threshold, score=score, **normal),
        scene=SCENE,
        limits=dataclasses.replace(LIMITS, **limits),
    )


def crop_square(image: np.ndarray, bias: float) -> np.ndarray:
    """The largest square of a frame."""
    ((left, top, side),) = place_views("square", image.shape[0], image.shape[1], bias)
    return image[top : top + side, left : left + side]


def frame_to_image(encoded: bytes, bias: float) -> np.ndarray:
    """The image of a frame of which one square is seen."""
    (image,) = frame_to_images(encoded, "square", bias)
    return image


def toy_image(label: int, seed: int = 0, size_px: int = 64) -> np.ndarray:
    """A noisy grey BGR image: normal ones are dark, abnormal ones bright."""
    noise = np.random.default_rng(seed).integers(-20, 21, (size_px, size_px, 3))
    return ((60 if label == NORMAL else 190) + noise).astype(np.uint8)


def ramps(size_px: int) -> np.ndarray:
    """A BGR image that shows how it was moved: blue grows with x, green with y."""
    levels = np.linspace(70, 180, size_px)
    blue, green = np.meshgrid(levels, levels)
    return np.dstack([blue, green, np.full_like(blue, 120)]).astype(np.uint8)


def slopes_of(image: np.ndarray, reach_frac: float = 0.25, is_used: np.ndarray | None = None) -> np.ndarray:
    """How blue and green of moved `ramps` grow along x and y, in shares of what they did: `(2, 2)`.

    The identity for an image that was not moved; the determinant is negative for one that was mirrored.

    Args:
        image: BGR.
        reach_frac: Share of the side up to which pixels around the centre count.
        is_used: Which pixels count besides.
    """
    size_px = image.shape[0]
    y, x = np.mgrid[:size_px, :size_px]
    chosen = np.maximum(abs(x - size_px / 2), abs(y - size_px / 2)) < reach_frac * size_px
    if is_used is not None:
        chosen &= is_used
    design = np.column_stack([x[chosen], y[chosen], np.ones(chosen.sum())])
    fitted, *_ = np.linalg.lstsq(design, image[chosen][:, :2].astype(float), rcond=None)
    return fitted[:2].T * (size_px - 1) / 110


def toy_row(image_id: str, label: int, split: str = "train", **columns: Any) -> dict[str, Any]:
    """One row of `training_set`; without a mask, unless one is given as an array."""
    image = columns.pop("image", toy_image(label, seed=sum(image_id.encode())))
    mask = columns.pop("mask", None)
    return {
        "image_id": image_id,
        "frame_id": image_id,
        "split": split,
        "label": label,
        "kind": KIND_NORMAL if label == NORMAL else KIND_REAL,
        "severity": None,
        "image": encode_jpeg(image, 95),
        "mask": None if mask is None else encode_png(mask),
        **columns,
    }


def toy_rows(per_class: int = 4, splits: tuple[str, ...] = ("train", "validation", "test")) -> pa.Table:
    """A `training_set` with as many normal as abnormal rows in each split."""
    rows = [
        toy_row(f"{split}/{label}/{number}", label, split)
        for split in splits
        for label in (ABNORMAL, NORMAL)
        for number in range(per_class)
    ]
    return pa.Table.from_pylist(rows, schema=TRAINING_SET)


def toy_predictions(normal: list[float], abnormal: list[float], threshold: float = 0.5) -> pd.DataFrame:
    """Rows of `predictions` for `test` with given scores, each of a frame of its own; abnormal ones are polygons."""
    scores = np.array([*normal, *abnormal], np.float32)
    labels = np.array([NORMAL] * len(normal) + [ABNORMAL] * len(abnormal), np.int32)
    margin = np.log(scores.astype(float)) - np.log1p(-scores.astype(float))
    maps = [encode_map(np.full((2, 2), score, np.float32)) for score in scores]
    return pd.DataFrame(
        {
            "image_id": [f"image-{place}" for place in range(len(scores))],
            "frame_id": [f"frame-{place}" for place in range(len(scores))],
            "split": "test",
            "label": labels,
            "kind": np.where(labels == NORMAL, KIND_NORMAL, "polygon"),
            "logit_abnormal": (margin / 2).astype(np.float32),
            "logit_normal": (-margin / 2).astype(np.float32),
            "anomaly_score": scores,
            "is_anomalous": scores >= np.float32(threshold),
            "severity": np.where(labels == NORMAL, np.nan, 0.5).astype(np.float32),
            "classifier_margin": margin.astype(np.float32),
            "normality_distance": (2 * scores).astype(np.float32),
            "anomaly_map": maps,
            "classifier_map": maps,
        }
    )


@contextmanager
def tracked(folder: Path) -> Iterator[None]:
    """Track and register in a store below `folder`, made at first use; afterwards MLflow is as it was before."""
    uri = f"sqlite:///{folder}/mlflow.db"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.setenv("MLFLOW_REGISTRY_URI", uri)
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        try:
            experiment = mlflow.get_experiment_by_name("toys")
            location = (folder / "artifacts").as_uri()
            number = experiment.experiment_id if experiment else mlflow.create_experiment("toys", location)
            with mlflow.start_run(experiment_id=number):
                yield
        finally:
            mlflow.set_tracking_uri(None)
            mlflow.set_registry_uri(None)
