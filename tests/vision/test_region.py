"""What the area promises: it lies where polygons and mask images say, at any size of the frame."""

import base64
import json

import numpy as np
import pytest

from cygnet.vision.codec import encode_png
from cygnet.vision.region import EVERYWHERE, area_mask, blank_outside, fill_outside, restore_outside

LEFT_HALF = json.dumps([[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]])
TOP_HALF = json.dumps([[[0, 0], [1, 0], [1, 0.5], [0, 0.5]]])


def as_shape(mask: np.ndarray) -> str:
    """Record a mask image as a scene does."""
    return base64.b64encode(encode_png(mask)).decode()


@pytest.mark.parametrize(("height", "width"), [(360, 640), (64, 96), (1080, 1920), (481, 853)])
def test_polygons_are_shares_of_the_frame(height: int, width: int) -> None:
    mask = area_mask((LEFT_HALF, None), height, width)
    expected = np.zeros((height, width), np.uint8)
    expected[:, : width // 2] = 255
    assert (mask != expected).any(axis=0).sum() <= 1  # a column of rounding
    assert set(np.unique(mask)) == {0, 255}


def test_overlapping_polygons_are_all_inside() -> None:
    both = json.dumps(json.loads(LEFT_HALF) + json.loads(TOP_HALF))
    mask = area_mask((both, None), 100, 100)
    assert mask[:50, :50].all()
    assert mask[:49].all()
    assert mask[:, :49].all()
    assert not mask[52:, 52:].any()


def test_what_is_ignored_is_cut_out_of_the_region_or_of_the_whole_frame() -> None:
    mask = area_mask((LEFT_HALF, TOP_HALF), 100, 200)
    assert mask[52:, :99].all()
    assert not mask[:49].any()
    assert not mask[:, 102:].any()
    alone = area_mask((None, TOP_HALF), 100, 200)
    assert alone[52:].all()
    assert not alone[:49].any()


def test_a_mask_image_is_scaled_to_the_frame_and_stays_binary() -> None:
    small = np.zeros((36, 64), np.uint8)
    small[10:20, 30:50] = 255
    mask = area_mask((as_shape(small), None), 360, 640)
    assert np.array_equal(mask, np.kron(small, np.ones((10, 10), np.uint8)))


@pytest.mark.parametrize("size_px", [(360, 660), (640, 360), (300, 640)])
def test_a_mask_of_another_aspect_ratio_is_a_value_error(size_px: tuple[int, int]) -> None:
    with pytest.raises(
        ValueError, match=f"{size_px[1]}x{size_px[0]} has another aspect ratio than the mask of 640x360"
    ):
        area_mask((as_shape(np.full((360, 640), 255, np.uint8)), None), *size_px)


def test_a_mask_may_differ_by_what_rounding_to_pixels_makes() -> None:
    shape = as_shape(np.full((1080, 1920), 255, np.uint8))
    for size_px in ((135, 240), (360, 640), (240, 427), (90, 161)):
        assert area_mask((shape, None), *size_px).shape == size_px


def test_everywhere_is_no_mask() -> None:
    assert area_mask(EVERYWHERE, 10, 10) is None


def test_a_mask_that_is_shared_can_not_be_changed() -> None:
    mask = area_mask((LEFT_HALF, None), 10, 10)
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = 1


def test_outside_is_grey_or_as_before_and_inside_stays() -> None:
    mask = np.zeros((4, 4), np.uint8)
    mask[:, :2] = 255
    image = np.full((4, 4, 3), 10, np.uint8)
    after = np.full((4, 4, 3), 20, np.uint8)
    kept = restore_outside(image, after, mask)
    filled = fill_outside(image, mask)
    assert (filled[:, :2] == 10).all()
    assert (filled[:, 2:] == 128).all()
    assert (kept[:, :2] == 20).all()
    assert (kept[:, 2:] == 10).all()


def test_a_map_is_blank_in_patches_that_lie_wholly_outside() -> None:
    mask = np.zeros((256, 256), np.uint8)
    mask[:, :70] = 255  # all of the first of four columns of patches, a part of the second
    blanked = blank_outside(np.ones((4, 4), np.float32), mask)
    assert blanked.dtype == np.float32
    assert blanked.tolist() == [[1, 1, 0, 0]] * 4
    assert blank_outside(blanked, None) is blanked
