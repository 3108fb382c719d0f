"""What crop and resize promise: the same square at the same place, 256x256, whatever comes in."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from cygnet.vision import crop
from cygnet.vision.codec import decode_image, encode_jpeg, encode_png
from cygnet.vision.crop import crop_square, frame_to_image, map_to_frame

SCENE = Callable[..., np.ndarray]


def coordinates(width_px: int, height_px: int) -> np.ndarray:
    """An image whose pixels say where they are: blue the column, green the row."""
    rows, columns = np.mgrid[:height_px, :width_px].astype(np.uint8)
    return np.dstack([columns, rows, np.zeros_like(rows)])


@pytest.mark.parametrize(("bias", "left_px"), [(0.0, 0), (0.4, 24), (0.5, 30), (1.0, 60)])
def test_square_of_a_wide_frame_is_at_its_bias_and_full_height(bias: float, left_px: int) -> None:
    square = crop_square(coordinates(100, 40), bias)
    assert square.shape == (40, 40, 3)
    assert square[0, 0].tolist() == [left_px, 0, 0]
    assert square[-1, -1].tolist() == [left_px + 39, 39, 0]


@pytest.mark.parametrize("bias", [0.0, 0.4, 1.0])
def test_square_of_a_tall_frame_is_centred_whatever_the_bias(bias: float) -> None:
    square = crop_square(coordinates(40, 100), bias)
    assert square.shape == (40, 40, 3)
    assert square[0, 0].tolist() == [0, 30, 0]
    assert square[-1, -1].tolist() == [39, 69, 0]


@pytest.mark.parametrize("bias", [0.0, 0.4, 1.0])
def test_square_frame_is_not_cut(bias: float) -> None:
    image = coordinates(40, 40)
    assert np.array_equal(crop_square(image, bias), image)


@pytest.mark.parametrize(("width_px", "height_px"), [(1, 1), (33, 400), (640, 360), (257, 256), (1100, 1030)])
def test_image_is_always_256_pixels_square(width_px: int, height_px: int) -> None:
    image = frame_to_image(encode_jpeg(np.full((height_px, width_px, 3), 90, np.uint8), 95), 0.4)
    assert image.shape == (256, 256, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - 90).max() <= 1


def test_image_of_the_final_size_keeps_its_pixels(scene: SCENE) -> None:
    image = scene(2)
    assert np.array_equal(frame_to_image(encode_png(image), 0.4), image)


def test_bias_moves_the_square_by_whole_pixels_of_the_frame(scene: SCENE) -> None:
    frame = scene(2, 512)[:256]
    assert np.array_equal(frame_to_image(encode_png(frame), 0.25), frame[:, 64:320])


def test_large_jpeg_looks_as_if_decoded_at_full_size(scene: SCENE) -> None:
    encoded = encode_jpeg(scene(2, 1600)[:1200], 95)
    square = crop_square(decode_image(encoded), 0.4)
    full = cv2.resize(square, (256, 256), interpolation=cv2.INTER_AREA)
    assert cv2.absdiff(frame_to_image(encoded, 0.4), full).mean() < 1


@pytest.mark.parametrize(("side_px", "reduction"), [(1023, 1), (1024, 2), (2047, 2), (2048, 4), (4096, 8)])
def test_large_jpeg_is_reduced_while_two_pixels_are_left_for_one(
    side_px: int, reduction: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reductions = []

    def decode(encoded: bytes, factor: int) -> np.ndarray:
        reductions.append(factor)
        return decode_image(encoded, factor)

    monkeypatch.setattr(crop, "decode_image", decode)
    frame_to_image(encode_jpeg(np.zeros((side_px, side_px + 8, 3), np.uint8), 95), 0.4)
    assert reductions == [reduction]


def test_bytes_that_are_no_image_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="no image"):
        frame_to_image(b"no image", 0.4)


@pytest.mark.parametrize("size_px", [(120, 40), (40, 120), (64, 64)])
def test_map_lies_where_the_square_was_cut(size_px: tuple[int, int]) -> None:
    width_px, height_px = size_px
    placed = map_to_frame(np.ones((3, 3), np.float32), height_px, width_px, 0.3)
    assert placed.shape == (height_px, width_px)
    square = crop_square(placed, 0.3)
    assert (square == 1).all()
    assert placed.sum() == square.size
