"""What crop and resize promise: the same square at the same place, 256x256, whatever comes in."""

import json
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from cygnet.vision import crop
from cygnet.vision.codec import decode_image, encode_jpeg, encode_png
from cygnet.vision.crop import cut_areas, frame_to_images, maps_to_frame, place_views, seen_places
from support.toys import crop_square, frame_to_image

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


@pytest.mark.parametrize("view", ["square", "whole", "tiles"])
@pytest.mark.parametrize("size_px", [(120, 40), (40, 120), (64, 64), (90, 61)])
def test_maps_lie_where_the_squares_were_cut(view: str, size_px: tuple[int, int]) -> None:
    width_px, height_px = size_px
    places = place_views(view, height_px, width_px, 0.3)
    maps = np.stack([np.full((3, 3), number, np.float32) for number in range(1, len(places) + 1)])
    placed = maps_to_frame(maps, places, height_px, width_px)
    assert placed.shape == (height_px, width_px)
    expected = np.zeros((height_px, width_px), np.float32)
    for number, (left, top, side) in enumerate(places, 1):
        expected[max(top, 0) : top + side, max(left, 0) : left + side] = number  # later ones are higher
    assert np.array_equal(placed, expected)
    assert (placed > 0).all() == (view != "square" or width_px == height_px)


@pytest.mark.parametrize("size_px", [(640, 360), (360, 640), (400, 1000), (1920, 1080), (300, 300)])
def test_every_pixel_is_in_a_tile_and_in_the_whole(scene: SCENE, size_px: tuple[int, int]) -> None:
    frame = cv2.resize(scene(2), size_px)
    counts = {view: len(frame_to_images(encode_png(frame), view, 0.4)) for view in ("square", "whole", "tiles")}
    long, short = max(size_px), min(size_px)
    assert counts == {"square": 1, "whole": 1, "tiles": max(1, int(np.ceil((long / short - 0.2) / 0.8)))}
    seen = np.zeros(size_px[::-1], bool)
    for left, top, side in place_views("tiles", size_px[1], size_px[0], 0.4):
        assert side == short
        seen[top : top + side, left : left + side] = True
    assert seen.all()


def test_the_whole_keeps_the_aspect_ratio(scene: SCENE) -> None:
    frame = cv2.resize(scene(2), (512, 256))
    (image,) = frame_to_images(encode_png(frame), "whole", 0.4)
    expected = cv2.resize(frame, (256, 128), interpolation=cv2.INTER_AREA)
    assert np.array_equal(image[64:192], expected)
    assert np.array_equal(image[:64], image[65:129][::-1])  # reflected at the border


LEFT = (json.dumps([[[0, 0], [0.3, 0], [0.3, 1], [0, 1]]]), None)


@pytest.mark.parametrize("view", ["square", "whole", "tiles"])
def test_what_is_outside_the_area_is_grey_and_changes_nothing(scene: SCENE, view: str) -> None:
    frame = cv2.resize(scene(2), (512, 256))
    other = frame.copy()
    other[:, 160:] = 255 - other[:, 160:]  # the area ends at 154
    images = frame_to_images(encode_png(frame), view, 0.0, LEFT)
    areas = cut_areas(view, 256, 512, 0.0, LEFT)
    for image, same, area in zip(images, frame_to_images(encode_png(other), view, 0.0, LEFT), areas, strict=True):
        assert np.array_equal(image, same)
        inside = cv2.erode(area, np.ones((5, 5), np.uint8)) > 0
        outside = cv2.dilate(area, np.ones((5, 5), np.uint8)) == 0
        assert (image[outside] == 128).all()
        assert (image[inside] != 128).any()


def test_tiles_without_a_part_of_the_area_are_left_out() -> None:
    everything = place_views("tiles", 256, 512, 0.4)
    assert seen_places("tiles", 256, 512, 0.4, LEFT) == everything[:2]
    assert seen_places("tiles", 256, 512, 0.4, (None, LEFT[0])) == everything
    assert len(cut_areas("tiles", 256, 512, 0.4, LEFT)) == 2
    assert cut_areas("tiles", 256, 512, 0.4, (None, None)) == []


def test_a_view_that_sees_nothing_of_the_area_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="nothing of 512x256 pixels to look at"):
        seen_places("square", 256, 512, 1.0, LEFT)
