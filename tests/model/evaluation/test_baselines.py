"""What the baselines promise: each finds what it can, `test` decides nothing, and all are calibrated."""

from collections.abc import Callable

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad
import pytest

from cygnet.model.evaluation.baselines import (
    MedianMad,
    NearestNeighbour,
    PixelStatistics,
    fit_and_score,
    pixel_statistics,
    platt,
    read_normal_frames,
)
from cygnet.model.evaluation.evaluate import evaluate_baselines
from cygnet.model.evaluation.results import FittedBaseline
from cygnet.model.network.backbone import load_detector
from cygnet.model.network.detector import Detector
from cygnet.parameters.training import Evaluation, Training
from cygnet.reports import BaselineMetrics
from cygnet.tables import ABNORMAL, BASELINES, IMAGES, KIND_NORMAL, KIND_NULL, NORMAL, TRAINING_SET
from cygnet.vision.codec import encode_jpeg
from support.reports import assert_conforms
from support.toys import toy_row

SETTINGS = Evaluation(seed=1, resamples=100, normal_frames=12, memory_patches=200)
FRAMES = {"train": range(12), "validation": range(20, 32), "test": range(40, 50)}


@pytest.fixture(scope="module")
def detector(training: Training) -> Detector:
    """Give a tiny ViT that was never trained."""
    return load_detector(training.model_copy(update={"small_vit": training.small_vit.model_copy(update={"layers": 4})}))


@pytest.fixture
def frame() -> Callable[[int], np.ndarray]:
    """Give a maker of a fixed camera's frames: one scene with a little noise, the same for the same number."""

    def make(number: int) -> np.ndarray:
        rng = np.random.default_rng(number)
        scene = cv2.resize(np.random.default_rng(99).integers(60, 190, (8, 8, 3)).astype(np.uint8), (256, 256))
        return np.clip(scene + rng.normal(0, 4, scene.shape), 0, 255).astype(np.uint8)

    return make


def marked(image: np.ndarray, grey: int = 255) -> np.ndarray:
    return cv2.rectangle(image.copy(), (90, 90), (140, 140), (grey, grey, grey), -1)


def rows_of(frame: Callable[[int], np.ndarray]) -> list[dict[str, object]]:
    """Rows of all splits: each frame as it is, with a white square, and (held out) as a control."""
    rows = []
    for split, numbers in FRAMES.items():
        for number in numbers:
            place = {"split": split, "frame_id": f"video/{number:06}"}
            rows += [
                toy_row(f"video/{number:06}/0", NORMAL, image=frame(number), kind=KIND_NORMAL, **place),
                toy_row(f"video/{number:06}/p", ABNORMAL, image=marked(frame(number)), kind="polygon", **place),
            ]
            if split != "train":
                rows.append(toy_row(f"video/{number:06}/z", ABNORMAL, image=frame(number), kind=KIND_NULL, **place))
    return rows


def train_frames(frame: Callable[[int], np.ndarray], labels: dict[int, int] | None = None) -> pad.Dataset:
    rows = [
        {
            "image_id": f"video/{number:06}",
            "frame_id": f"video/{number:06}",
            "tile": 0,
            "tiles": 1,
            "split": split,
            "label": (labels or {}).get(number, NORMAL),
            "label_source": "default",
            "image": encode_jpeg(frame(number), 95),
        }
        for split, numbers in FRAMES.items()
        for number in reversed(numbers)
    ]
    return pad.dataset(pa.Table.from_pylist(rows, schema=IMAGES))


@pytest.fixture
def scored(
    frame: Callable[[int], np.ndarray], detector: Detector, training: Training
) -> tuple[pd.DataFrame, dict[str, FittedBaseline]]:
    """Give the rows of all baselines, and how they were fitted."""
    training_set = pad.dataset(pa.Table.from_pylist(rows_of(frame), schema=TRAINING_SET))
    return fit_and_score(training_set, train_frames(frame), training.threshold, SETTINGS)


def test_white_squares_are_found_by_all_but_the_majority(
    scored: tuple[pd.DataFrame, dict[str, FittedBaseline]],
) -> None:
    metrics = evaluate_baselines(*scored, SETTINGS)
    assert set(metrics) == {"majority", "pixel_statistics", "median_mad", "nearest_neighbour"}
    for name, of_it in metrics.items():
        assert_conforms(of_it, BaselineMetrics)
        assert of_it["auroc"] == (0.5 if name == "majority" else 1.0)
        null = of_it["by_kind"][KIND_NULL]["intervals"]["auroc"]
        assert null["low"] <= 0.5 <= null["high"]
        assert of_it["counts"] == {"normal": 10, "abnormal": 10, "normal_frames": 10, "abnormal_frames": 10}
        assert of_it["nll"] <= np.log(2) + 1e-6
    assert set(metrics["nearest_neighbour"]["variant"]) == {"layer", "k"}


def test_rows_are_those_of_the_table_each_baseline_has_every_held_out_row(
    scored: tuple[pd.DataFrame, dict[str, FittedBaseline]],
) -> None:
    rows, _ = scored
    assert pa.Table.from_pandas(rows, schema=BASELINES, preserve_index=False).num_rows == 4 * 3 * (12 + 10)
    assert not rows.duplicated(["baseline", "image_id"]).any()
    assert set(rows["split"]) == {"validation", "test"}
    softmax = 1 / (1 + np.exp(rows["logit_normal"] - rows["logit_abnormal"]))
    np.testing.assert_allclose(rows["anomaly_score"], softmax, atol=1e-6)


def test_neither_test_rows_nor_the_order_of_rows_decide_anything(
    scored: tuple[pd.DataFrame, dict[str, FittedBaseline]],
    frame: Callable[[int], np.ndarray],
    detector: Detector,
    training: Training,
) -> None:
    rows = [row for row in rows_of(frame) if row["split"] != "test" or row["kind"] == KIND_NORMAL]
    training_set = pad.dataset(pa.Table.from_pylist(rows[::-1], schema=TRAINING_SET))
    again, fitted = fit_and_score(training_set, train_frames(frame), training.threshold, SETTINGS)
    variants, variants_again = (
        {name: baseline.variant for name, baseline in baselines.items()} for baselines in (scored[1], fitted)
    )
    assert variants == variants_again
    both = scored[0].merge(again, on=["baseline", "image_id"])
    assert len(both) == len(again)
    np.testing.assert_allclose(both["anomaly_score_x"], both["anomaly_score_y"], atol=1e-5)


def test_pixel_statistics_are_mean_deviation_and_share_of_extremes() -> None:
    image = np.full((10, 10, 3), 100, np.uint8)
    assert pixel_statistics(image).tolist() == [100, 0, 0]
    image[0], image[1] = 255, 0
    assert pixel_statistics(image)[2] == pytest.approx(0.2)


def test_pixel_statistics_return_log_odds_for_balanced_classes() -> None:
    statistics = np.random.default_rng(0).normal(0, 1, (400, 3))
    labels = np.where(statistics[:, 0] + np.random.default_rng(1).normal(0, 1, 400) > 0.8, ABNORMAL, NORMAL)
    logits = PixelStatistics(statistics, labels).regression.decision_function(statistics)
    said = 1 / (1 + np.exp(-logits))
    missed, alarmed = 1 - said[labels == ABNORMAL].mean(), said[labels == NORMAL].mean()
    assert missed == pytest.approx(alarmed, abs=0.001)
    assert missed < 0.5


def test_median_mad_models_each_pixel_and_tolerates_a_bad_frame(frame: Callable[[int], np.ndarray]) -> None:
    frames = [*(frame(number) for number in range(11)), np.zeros((256, 256, 3), np.uint8)]
    baseline = MedianMad({0: frames})
    flipped = frame(50)[:, ::-1].copy()  # the same pixels, elsewhere
    normal, elsewhere = (baseline.score([image], baseline.variants)[0] for image in (frame(51), flipped))
    assert (elsewhere > 3 * normal).all()
    assert (normal < 8).all()


@pytest.mark.parametrize("is_bf16", [False, True])
def test_nearest_neighbour_has_distance_zero_to_its_own_memory(
    frame: Callable[[int], np.ndarray], detector: Detector, monkeypatch: pytest.MonkeyPatch, is_bf16: bool
) -> None:
    monkeypatch.setattr("cygnet.model.network.hardware.has_bf16", lambda: is_bf16)
    frames = [frame(number) for number in range(3)]
    baseline = NearestNeighbour(detector, frames, memory_patches=10_000, seed=0)
    nearest = [variant for variant in baseline.variants if variant["k"] == 1]
    assert len({variant["layer"] for variant in baseline.variants}) == 3
    np.testing.assert_allclose(baseline.score(frames, nearest), 0, atol=1e-4)
    both = baseline.score([frame(9), marked(frame(9))], nearest)
    assert (both[1] > both[0]).all()


def test_memory_is_bounded_and_seeded(frame: Callable[[int], np.ndarray], detector: Detector) -> None:
    frames = [frame(number) for number in range(5)]
    memories = [NearestNeighbour(detector, frames, memory_patches=10, seed=seed).memory for seed in (0, 0, 1)]
    for one, same, other in zip(*(memory.values() for memory in memories), strict=True):
        assert len(one) == 10
        assert bool((one == same).all())
        assert not bool((one == other).all())


def test_normal_train_frames_are_spread_evenly_over_time(frame: Callable[[int], np.ndarray]) -> None:
    table = train_frames(frame, labels={0: ABNORMAL})
    assert len(read_normal_frames(table, 100)[0]) == 11
    few = read_normal_frames(table, 3)[0]
    for image, number in zip(few, (1, 6, 11), strict=True):
        assert np.abs(image.astype(int) - frame(number)).mean() < 5


def test_platt_makes_probabilities_of_the_first_half(training: Training) -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"frame_id": [f"v/{n:06}" for n in range(4000)], "kind": "polygon"})
    raw = rng.normal(7, 3, 4000)
    rows["label"] = np.where(rng.random(4000) < 1 / (1 + np.exp(7 - raw)), ABNORMAL, NORMAL)
    turned = rows["label"].where(rows.index < 2000, 1 - rows["label"])  # the second half must not matter
    said = platt(raw, rows.assign(label=turned)).decision_function(raw[:, None])
    np.testing.assert_allclose(said, raw - 7, atol=0.8)
