"""What preprocessing promises: the numbers travel with the model, and the pixels are what they say."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cygnet.model.network.preprocessing import Preprocessing

IMAGENET = Preprocessing(32, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_saved_file_is_read_by_hugging_face(tmp_path: Path) -> None:
    IMAGENET.save(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved == {
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "size": {"height": 32, "width": 32},
    }
    assert Preprocessing.load(tmp_path) == IMAGENET


@pytest.mark.parametrize(("size_px", "interpolation"), [(256, cv2.INTER_AREA), (20, cv2.INTER_CUBIC)])
def test_batch_equals_the_plain_computation(scene: Callable[..., np.ndarray], size_px: int, interpolation: int) -> None:
    images = [scene(seed, size_px) for seed in (1, 2, 3)]
    batch = IMAGENET.normalise(torch.from_numpy(np.stack([IMAGENET.resize(image) for image in images])))
    assert batch.dtype == torch.float32
    assert batch.shape == (3, 3, 32, 32)
    for image, pixels in zip(images, batch.numpy(), strict=True):
        rgb = cv2.resize(image, (32, 32), interpolation=interpolation)[:, :, ::-1].astype(np.float64)
        expected = (rgb / 255 - np.array(IMAGENET.mean)) / np.array(IMAGENET.std)
        np.testing.assert_allclose(pixels, expected.transpose(2, 0, 1), rtol=0, atol=1e-6)


def test_blue_of_opencv_becomes_the_last_channel() -> None:
    blue = np.zeros((32, 32, 3), np.uint8)
    blue[:, :, 0] = 255
    pixels = Preprocessing(32).normalise(torch.from_numpy(Preprocessing(32).resize(blue)[None]))[0]
    assert [channel.unique().tolist() for channel in pixels] == [[-1.0], [-1.0], [1.0]]


def test_image_of_the_right_size_keeps_its_pixels(scene: Callable[..., np.ndarray]) -> None:
    image = scene(0, 32)
    assert np.array_equal(IMAGENET.resize(image), image[:, :, ::-1])
