"""What the motion score promises: it sees what moves, wherever it is and however small, and only one lag back."""

import numpy as np
import pytest

from cygnet.vision.motion import LONGEST_LAG_S, MotionMeter, shrink

STILL = np.full((256, 256, 3), 90, np.uint8)


def with_object(left_px: int, top_px: int = 100, side_px: int = 16) -> np.ndarray:
    image = STILL.copy()
    image[top_px : top_px + side_px, left_px : left_px + side_px] = 200
    return image


def motions(images: list[np.ndarray], lag_s: float = 0.1, spacing_s: float = 0.1) -> list[list[float]]:
    meter = MotionMeter(lag_s)
    return [meter.measure(spacing_s * number, [shrink(image)]) for number, image in enumerate(images)]


def test_what_moves_scores_what_stands_still_does_not() -> None:
    first, still, moved, stands = motions([with_object(40), with_object(40), with_object(80), with_object(80)])
    assert (first, still, stands) == ([], [0.0], [0.0])
    assert moved[0] == pytest.approx(110 / 2, abs=30)  # the object lies in one to four cells


@pytest.mark.parametrize("places", [(0, 48, 16), (240, 96, 240), (112, 160, 112)])
def test_a_small_object_scores_alike_wherever_it_is(places: tuple[int, int, int]) -> None:
    before, after, top = places
    assert motions([with_object(before, top), with_object(after, top)])[1] == [110.0]


def test_more_contrast_scores_more_and_noise_little() -> None:
    rng = np.random.default_rng(0)
    noisy = [np.clip(STILL + rng.normal(0, 4, STILL.shape), 0, 255).astype(np.uint8) for _ in range(2)]
    noise = motions(noisy)[1][0]
    dim, bright = (motions([STILL, STILL + np.uint8(levels)])[1][0] for levels in (10, 40))
    assert 0 < noise < 3 < dim < bright


@pytest.mark.parametrize(
    ("spacing_s", "lag_s", "back"),
    [(0.04, 0.1, 2), (0.04, 0.2, 5), (0.1, 0.1, 1), (0.2, 0.2, 1), (0.14, 0.1, 1), (1 / 30, 0.1, 3), (0.03, 0.25, 8)],
)
def test_a_frame_is_compared_with_the_one_nearest_to_the_lag(spacing_s: float, lag_s: float, back: int) -> None:
    levels = np.arange(0, 240, 8) ** 2 // 240
    images = [np.full((256, 256, 3), level, np.uint8) for level in levels]
    found = motions(images, lag_s, spacing_s)
    assert found[-1] == [levels[-1] - levels[-1 - back]]
    assert [bool(each) for each in found] == [number * spacing_s > 0.5 * lag_s - 1e-6 for number in range(len(found))]


@pytest.mark.parametrize(("spacing_s", "lag_s"), [(0.2, 0.1), (1.0, 0.25), (6.0, 6.0), (6.0, LONGEST_LAG_S + 0.1)])
def test_frames_too_far_apart_have_no_motion(spacing_s: float, lag_s: float) -> None:
    assert motions([STILL] * 5, lag_s, spacing_s) == [[]] * 5


def test_each_image_of_a_frame_has_its_own_and_a_frame_of_another_shape_none() -> None:
    meter = MotionMeter(0.1)
    assert meter.measure(0.0, [shrink(STILL), shrink(STILL)]) == []
    assert meter.measure(0.1, [shrink(STILL), shrink(with_object(48, 48))]) == [0.0, 110.0]
    assert meter.measure(0.2, [shrink(STILL)]) == []
    assert meter.measure(0.3, [shrink(STILL)]) == [0.0]


def test_frames_that_no_later_one_needs_are_not_kept() -> None:
    meter = MotionMeter(0.1)
    for number in range(1000):
        meter.measure(number / 100, [shrink(STILL)])
        assert len(meter._seen) <= 17


@pytest.mark.parametrize("start", [20, 33, 59])
def test_a_meter_that_starts_late_enough_measures_the_same(start: int) -> None:
    rng = np.random.default_rng(1)
    images = [shrink(rng.integers(0, 256, (256, 256, 3), np.uint8)) for _ in range(60)]
    times_s = np.cumsum(rng.uniform(0.01, 0.06, 60)).tolist()
    whole, late = MotionMeter(0.1), MotionMeter(0.1)
    expected = [whole.measure(time_s, [image]) for time_s, image in zip(times_s, images, strict=True)]
    lead = next(number for number in range(60) if times_s[number] >= times_s[start] - late.reach_s)
    found = [late.measure(times_s[number], [images[number]]) for number in range(lead, 60)]
    assert found[start - lead :] == expected[start:]
