"""What annotated frames promise: the region where the map is, the score as the length of a bar, one size for all."""

import json

import numpy as np
import pytest

from cygnet.vision.annotate import (
    ABNORMAL_BGR,
    MOST_SIDE_PX,
    NORMAL_BGR,
    OUTLINE_BGR,
    FrameScore,
    annotated_frames,
    outlined,
    region_of,
    score_bar,
)
from cygnet.vision.frame_squares import Square


def map_of(*likely: tuple[int, int], value: float = 0.9) -> np.ndarray:
    """A map of 4x4 patches, those named likely."""
    anomaly_map = np.full((4, 4), 0.1, np.float32)
    for place in likely:
        anomaly_map[place] = value
    return anomaly_map


def score_of(score: float, threshold: float = 0.5) -> FrameScore:
    return FrameScore(1.5, score, score >= threshold, Square(0, 0, 96), map_of((1, 1)))


def test_region_is_where_the_likely_patches_of_the_square_are() -> None:
    region = region_of(map_of((0, 1), (3, 3)), Square(20, 0, 80), 80, 120)
    expected = np.zeros((80, 120), np.uint8)
    expected[0:20, 40:60] = 255
    expected[60:80, 80:100] = 255
    np.testing.assert_array_equal(region, expected)


def test_region_is_the_likeliest_patch_where_none_is_likely() -> None:
    region = region_of(map_of((2, 0), value=0.3), Square(0, 0, 80), 80, 80)
    assert (region[40:60, :20] == 255).all()
    assert (region == 255).sum() == 20 * 20


def test_region_of_a_letterbox_is_sought_in_the_frame_and_not_in_its_reflection() -> None:
    # patches of 20 px; the frame is in the two rows of patches in the middle
    region = region_of(map_of((0, 3), (2, 1), value=0.4) + 0.05, Square(0, -20, 80), 40, 80)
    assert (region[20:40, 20:40] == 255).all()
    assert (region == 255).sum() == 20 * 20


def test_outline_runs_around_the_mask_and_leaves_it_and_the_image_alone() -> None:
    image = np.full((100, 100, 3), 90, np.uint8)
    mask = np.zeros((100, 100), np.uint8)
    mask[40:60, 40:60] = 255
    drawn = outlined(image, mask)
    is_drawn = (drawn == OUTLINE_BGR).all(axis=2)
    assert is_drawn[37:63, 37:63].any()
    assert not is_drawn[40:60, 40:60].any()
    assert not is_drawn[:35].any()
    assert (image == 90).all()


@pytest.mark.parametrize(("score", "colour"), [(0.25, NORMAL_BGR), (0.75, ABNORMAL_BGR)])
def test_bar_is_as_long_as_the_score_and_coloured_by_the_decision(score: float, colour: tuple[int, int, int]) -> None:
    bar = score_bar((400, 300), score_of(score), 0.5)
    assert bar.shape[1] == 400
    assert bar.shape[0] % 2 == 0
    is_filled = (bar[0] == colour).all(axis=1)
    assert is_filled.sum() == pytest.approx(400 * score, abs=2)
    assert is_filled[: int(400 * score * 0.4)].all()


def test_region_is_outlined_in_anomalous_frames_alone() -> None:
    frame = np.full((96, 96, 3), 60, np.uint8)
    normal, abnormal = annotated_frames([(frame, score_of(0.2)), (frame, score_of(0.8))], 0.5)
    assert (normal[:96] == 60).all()
    assert (abnormal[:96] != 60).any()


def test_frames_of_other_sizes_take_that_of_the_first() -> None:
    shapes = [(97, 61), (61, 97), (200, 122), (10, 10)]
    frames = annotated_frames([(np.full((*shape, 3), 200, np.uint8), score_of(0.2)) for shape in shapes], 0.5)
    sizes = {frame.shape for frame in frames}
    assert len(sizes) == 1
    height, width, _ = sizes.pop()
    assert (height % 2, width % 2) == (0, 0)


def test_a_large_frame_is_scaled_down() -> None:
    (frame,) = annotated_frames([(np.zeros((2160, 3840, 3), np.uint8), score_of(0.2))], 0.5)
    assert frame.shape[1] == MOST_SIDE_PX
    assert frame.shape[0] == pytest.approx(720 * 1.06, abs=3)


def test_what_is_not_looked_at_is_dimmed_and_never_outlined() -> None:
    frame = np.full((96, 96, 3), 100, np.uint8)
    left = (json.dumps([[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]]), None)
    anomaly = FrameScore(1.5, 0.8, True, Square(0, 0, 96), np.ones((4, 4), np.float32))
    normal, abnormal = annotated_frames([(frame, score_of(0.2)), (frame, anomaly)], 0.5, left)
    assert (normal[:96, :47] == 100).all()
    assert (normal[:96, 50:] == 40).all()
    assert (abnormal[:96, 60:] == 40).all()
    assert (abnormal[:96, :60] != normal[:96, :60]).any()
