"""What squares promise: the pixels that ingestion would have made, tiles that cover the frame, no foreign padding."""

import json
from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np
import pytest

from cygnet.vision.codec import encode_jpeg
from cygnet.vision.crop import TILE_OVERLAP_FRAC, frame_to_images
from cygnet.vision.frame_squares import Square, cut_square, squares_of

SIZES = [(360, 640), (256, 256), (64, 96), (97, 61), (481, 853), (1080, 1920), (1031, 1153), (2160, 2049)]


SLANTED = json.dumps([[[0.1, 0.05], [0.8, 0.3], [0.6, 0.9]], [[0, 0.5], [0.3, 0.6], [0.1, 1]]])
CORNER = json.dumps([[[0.3, 0], [1, 0], [1, 0.6]]])


@pytest.fixture
def frame(scene: Callable[..., np.ndarray]) -> Callable[[int, int], np.ndarray]:
    """Give a maker of frames of any height and width, with detail down to the pixel."""

    def make(height: int, width: int) -> np.ndarray:
        resized = cv2.resize(scene(3), (width, height), interpolation=cv2.INTER_CUBIC)
        noise = np.random.default_rng(1).integers(-12, 13, resized.shape)
        return np.clip(resized + noise, 0, 255).astype(np.uint8)

    return make


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize(
    ("view", "bias"), [("square", 0.0), ("square", 0.4), ("square", 1.0), ("tiles", 0.4), ("whole", 0.4)]
)
def test_squares_have_the_very_pixels_that_ingestion_makes(
    height: int, width: int, view: str, bias: float, frame: Callable[[int, int], np.ndarray]
) -> None:
    image = frame(height, width)
    squares, images = squares_of(view, height, width, bias), frame_to_images(encode_jpeg(image, 95), view, bias)
    for square, expected in zip(squares, images, strict=True):
        np.testing.assert_array_equal(cut_square(image, square, 95), expected)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("view", ["square", "tiles", "whole"])
def test_squares_of_an_area_have_the_very_pixels_that_ingestion_makes(
    height: int, width: int, view: str, frame: Callable[[int, int], np.ndarray]
) -> None:
    image = frame(height, width)
    for area in ((SLANTED, None), (SLANTED, CORNER), (None, CORNER)):
        squares, images = (
            squares_of(view, height, width, 0.4, area),
            frame_to_images(encode_jpeg(image, 95), view, 0.4, area),
        )
        for square, expected in zip(squares, images, strict=True):
            np.testing.assert_array_equal(cut_square(image, square, 95, area), expected)


@pytest.mark.parametrize(("height", "width"), [*SIZES, (50, 1000), (1000, 50)])
def test_tiles_cover_the_frame_and_overlap(height: int, width: int) -> None:
    squares = squares_of("tiles", height, width, 0.4)
    side = squares[0].side_px
    seen = np.zeros((height, width), int)
    for square in squares:
        assert square.side_px == side
        seen[square.top_px : square.top_px + side, square.left_px : square.left_px + side] += 1
    assert seen.min() == 1
    starts = sorted(square.left_px + square.top_px for square in squares)
    assert all(second - first <= side * (1 - TILE_OVERLAP_FRAC) + 8 for first, second in pairwise(starts))


def test_a_wide_frame_takes_two_tiles_and_a_square_one() -> None:
    assert len(squares_of("tiles", 1080, 1920, 0.4)) == 2
    assert len(squares_of("tiles", 300, 300, 0.4)) == 1


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_letterbox_holds_the_whole_frame_in_proportion(
    height: int, width: int, frame: Callable[[int, int], np.ndarray]
) -> None:
    (square,) = squares_of("whole", height, width, 0.4)
    assert square.left_px <= 0
    assert square.top_px <= 0
    assert square.left_px + square.side_px >= width
    assert square.top_px + square.side_px >= height
    image = cut_square(frame(height, width), square, 95)
    assert image.shape == (256, 256, 3)


def test_a_letterbox_is_padded_with_the_frame_reflected(frame: Callable[[int, int], np.ndarray]) -> None:
    (square,) = squares_of("whole", 100, 200, 0.4)
    assert square == Square(0, -50, 200)
    image = cut_square(frame(100, 200), square, 95)  # the frame is in rows 64 to 191
    np.testing.assert_array_equal(image[:64], image[65:129][::-1])
    np.testing.assert_array_equal(image[192:], image[127:191][::-1])
