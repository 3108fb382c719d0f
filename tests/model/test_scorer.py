"""What the scorer promises: the same scores wherever it runs, calibrated, without a pickle."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from cygnet.model.scorer import Calibration, Scorer, scores_of, softmax_abnormal
from cygnet.vision.codec import encode_jpeg, encode_png
from cygnet.vision.crop import frame_to_image

COLUMNS = ["logit_abnormal", "logit_normal", "anomaly_score", "is_anomalous"]


@pytest.fixture
def images(scene: Callable[..., np.ndarray]) -> list[np.ndarray]:
    """Give 40 images: more than one batch."""
    return [scene(seed) for seed in range(40)]


def test_saved_scorer_gives_identical_scores(scorer: Scorer, images: list[np.ndarray], tmp_path: Path) -> None:
    scorer.save(tmp_path / "detector")
    loaded = Scorer.load(tmp_path / "detector")
    pd.testing.assert_frame_equal(loaded.score(images), scorer.score(images), check_exact=True)
    assert loaded.calibration == scorer.calibration
    assert loaded.detector.preprocessing == scorer.detector.preprocessing
    assert loaded.crop_horizontal_bias == scorer.crop_horizontal_bias


def test_saved_folder_has_no_pickle(scorer: Scorer, tmp_path: Path) -> None:
    scorer.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "detector.json",
        "model.safetensors",
        "preprocessor_config.json",
    }


def test_patches_have_probabilities_of_their_own(scorer: Scorer, images: list[np.ndarray]) -> None:
    logits, maps = scorer.infer(images)
    assert logits.shape == (40, 2)
    assert maps.shape == (40, 2, 2)
    assert maps.dtype == np.float32
    assert 0 <= maps.min() < maps.max() <= 1


def test_answer_has_four_columns_of_the_agreed_types(scorer: Scorer, images: list[np.ndarray]) -> None:
    rows = scorer.score(images[:3])
    assert rows.dtypes.astype(str).to_dict() == dict(zip(COLUMNS, ["float32"] * 3 + ["bool"], strict=True))
    assert scorer.score([]).columns.tolist() == COLUMNS
    assert len(scorer.score([])) == 0


def test_logits_are_divided_by_the_temperature(scorer: Scorer, images: list[np.ndarray]) -> None:
    with torch.inference_mode():
        raw = scorer.detector(scorer.detector.preprocessing.resize_batch(images[:8]))[0].numpy()
    answered = scorer.score(images[:8])[["logit_abnormal", "logit_normal"]].to_numpy()
    np.testing.assert_allclose(answered, raw / 1.7, rtol=0, atol=1e-6)


def test_softmax_of_the_logits_is_the_score(scorer: Scorer, images: list[np.ndarray]) -> None:
    rows = scorer.score(images)
    powers = np.exp(rows[["logit_abnormal", "logit_normal"]].to_numpy(np.float64))
    np.testing.assert_allclose(rows["anomaly_score"], powers[:, 0] / powers.sum(axis=1), rtol=0, atol=1e-6)
    assert rows["anomaly_score"].std() > 0.01


def test_batch_scores_as_one_by_one(scorer: Scorer, images: list[np.ndarray]) -> None:
    together, alone = scorer.score(images), pd.concat([scorer.score([image]) for image in images])
    np.testing.assert_allclose(together[COLUMNS[:3]], alone[COLUMNS[:3]], rtol=0, atol=1e-5)


def test_threshold_itself_is_anomalous(scorer: Scorer, images: list[np.ndarray]) -> None:
    scores = np.sort(scorer.score(images)["anomaly_score"])
    stricter = Scorer(
        scorer.detector,
        dataclasses.replace(scorer.calibration, threshold=float(scores[20])),
        scorer.crop_horizontal_bias,
    )
    assert stricter.score(images)["is_anomalous"].sum() == 20


@pytest.mark.parametrize("size_px", [(640, 360), (360, 640), (1920, 1080), (300, 200)])
def test_frame_and_its_cropped_image_score_the_same(
    scorer: Scorer, scene: Callable[..., np.ndarray], size_px: tuple[int, int]
) -> None:
    frame = encode_jpeg(cv2.resize(scene(5), size_px), 95)
    image = encode_png(frame_to_image(frame, scorer.crop_horizontal_bias))
    pixels = [scorer.decode(frame, cropped=False), scorer.decode(image, cropped=True)]
    assert pixels[0].shape == (256, 256, 3)
    assert np.array_equal(*pixels)
    one, other = (scorer.score([decoded]) for decoded in pixels)
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_frame_is_cropped_at_the_scorers_bias(scorer: Scorer) -> None:
    frame = np.zeros((256, 512, 3), np.uint8)
    frame[:] = np.arange(512)[None, :, None] // 2
    left = scorer.decode(encode_png(frame), cropped=False)[0, 0, 0]
    assert left == round(256 * 0.4) // 2


@pytest.mark.parametrize("cropped", [True, False])
def test_bytes_that_are_no_image_are_refused(scorer: Scorer, cropped: bool) -> None:
    for encoded in (b"", b"no image", b"\xff\xd8\xff\xe0"):
        with pytest.raises(ValueError, match="no image"):
            scorer.decode(encoded, cropped=cropped)


def test_scores_of_extreme_logits_are_finite() -> None:
    rows = scores_of(np.array([[1e5, -1e5], [-1e5, 1e5], [0, 0]]), Calibration(1.0, 0.5))
    assert rows["anomaly_score"].tolist() == [1.0, pytest.approx(0.0, abs=1e-30), 0.5]
    assert rows["is_anomalous"].tolist() == [True, False, True]
    assert softmax_abnormal(np.array([np.log(3.0)]), np.array([0.0]))[0] == pytest.approx(0.75)
