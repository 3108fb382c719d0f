"""What every kind of anomaly promises: the mask is what changed, and enough of it."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cygnet.anomaly_kinds
from cygnet.anomaly_kinds import Kind
from cygnet.parameters.synthesis import Synthesis
from cygnet.tables import KIND_NULL
from cygnet.vision.anomalies import FEWEST_CHANGED_PX, changed_mask, draw_anomaly, draw_once, make_kinds
from cygnet.vision.rng import generator

SCENE = Callable[..., np.ndarray]
KINDS = ["polygon", "polygon_soft", "cutpaste", "scar", "perlin", "blend", "blur", "shift", "null"]


@pytest.fixture
def synthesis(parameters: dict[str, Synthesis]) -> Callable[..., Synthesis]:
    """Give a maker of parameters: `synthesis(salt_vs_pepper=1.0)` changes the `image` preset of conf/base."""

    def make(**changes: Any) -> Synthesis:
        settings = parameters["synthesis"].model_dump()
        settings["polygon"]["image"] |= changes
        return Synthesis.model_validate(settings)

    return make


def draw_changed(changed_px: list[int]) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """A kind whose next draws change so many pixels."""
    counts = iter(changed_px)

    def draw(image: np.ndarray, *_: object) -> tuple[np.ndarray, np.ndarray]:
        mask = np.zeros(image.shape[:2], np.uint8)
        mask.flat[: next(counts)] = 255
        return image, mask

    return draw


def test_every_declared_kind_can_be_drawn(synthesis: Callable[..., Synthesis]) -> None:
    assert sorted(make_kinds(synthesis())) == sorted(cygnet.anomaly_kinds.KINDS) == sorted(KINDS)


def test_a_kind_is_one_entry_and_one_function(
    synthesis: Callable[..., Synthesis], scene: SCENE, monkeypatch: pytest.MonkeyPatch
) -> None:
    def invert(image: np.ndarray, *_: object) -> np.ndarray:
        return 255 - image

    monkeypatch.setattr("cygnet.vision.spot_anomalies.inverted", invert, raising=False)
    with_one_more = {**cygnet.anomaly_kinds.KINDS, "inverted": Kind("cygnet.vision.spot_anomalies:inverted")}
    for module in ("cygnet.vision.anomalies", "cygnet.parameters.synthesis"):
        monkeypatch.setattr(f"{module}.KINDS", with_one_more)
    settings = synthesis().model_dump()
    settings["kinds"]["test"]["inverted"] = 3
    made = make_kinds(Synthesis.model_validate(settings))
    image, mask = made["inverted"](scene(1), scene(2), generator(3), 0.5)
    assert np.array_equal(image, 255 - scene(1))
    assert np.array_equal(mask, changed_mask(scene(1), image))


def test_parameters_are_checked_without_the_code_that_draws() -> None:
    check = "import sys, cygnet.parameters.check; sys.exit('cv2' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


@pytest.mark.parametrize(("levels", "marked"), [(0, 0), (8, 0), (9, 255), (-8, 0), (-9, 255), (127, 255), (-128, 255)])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_mask_marks_pixels_that_differ_by_more_than_8_levels_in_any_channel(
    channel: int, levels: int, marked: int
) -> None:
    before = np.full((2, 2, 3), 128, np.uint8)
    after = before.copy()
    after[1, 0, channel] = 128 + levels
    assert changed_mask(before, after).tolist() == [[0, 0], [marked, 0]]


@pytest.mark.parametrize("severity", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_an_image_of_the_same_shape_and_the_mask_of_what_it_changed(
    kind: str, severity: float, synthesis: Callable[..., Synthesis], scene: SCENE
) -> None:
    image, donor = scene(1), scene(2)
    drawn, mask = make_kinds(synthesis())[kind](image, donor, generator(3), severity)
    assert (drawn.shape, drawn.dtype) == (image.shape, np.uint8)
    assert (mask.shape, mask.dtype) == (image.shape[:2], np.uint8)
    assert np.array_equal(mask, np.where(np.abs(drawn.astype(int) - image).max(axis=2) > 8, 255, 0))
    assert np.array_equal(image, scene(1))
    assert np.array_equal(donor, scene(2))


@pytest.mark.parametrize("kind", KINDS)
def test_same_rng_gives_the_same_pixels(kind: str, synthesis: Callable[..., Synthesis], scene: SCENE) -> None:
    draw = make_kinds(synthesis())[kind]
    (first, first_mask), (again, again_mask) = (draw(scene(1), scene(2), generator(3), 0.7) for _ in range(2))
    assert np.array_equal(first, again)
    assert np.array_equal(first_mask, again_mask)


def test_null_changes_nothing_and_its_mask_is_empty(synthesis: Callable[..., Synthesis], scene: SCENE) -> None:
    draw = make_kinds(synthesis())[KIND_NULL]
    anomaly = draw_once(draw, scene(1), scene(2), generator(3), (0.0, 1.0))
    assert np.array_equal(anomaly.image, scene(1))
    assert not anomaly.mask.any()
    assert anomaly.area_frac == 0


def test_null_that_may_not_be_empty_is_nothing(synthesis: Callable[..., Synthesis], scene: SCENE) -> None:
    assert draw_anomaly(make_kinds(synthesis())[KIND_NULL], scene(1), scene(2), generator(3), (0.0, 1.0)) is None


@pytest.mark.parametrize("seed", range(5))
def test_area_is_the_share_of_the_mask(seed: int, synthesis: Callable[..., Synthesis], scene: SCENE) -> None:
    draw = make_kinds(synthesis())["polygon"]
    anomaly = draw_anomaly(draw, scene(1), scene(2), generator(seed), (0.0, 1.0))
    assert anomaly.area_frac == (anomaly.mask == 255).mean()
    assert anomaly.area_frac > 0


def test_severity_is_drawn_over_its_whole_range(scene: SCENE) -> None:
    drawn = []

    def draw(image: np.ndarray, _donor: np.ndarray, _rng: object, severity: float) -> tuple[np.ndarray, np.ndarray]:
        drawn.append(severity)
        return image, np.full(image.shape[:2], 255, np.uint8)

    told = [draw_anomaly(draw, scene(1), scene(2), generator(seed), (0.2, 0.4)).severity for seed in range(60)]
    assert told == drawn
    assert 0.2 <= min(told) < 0.22
    assert 0.38 < max(told) <= 0.4


def test_patches_on_a_white_image_are_redrawn_until_a_black_one_shows(
    synthesis: Callable[..., Synthesis],
) -> None:
    white = np.full((256, 256, 3), 255, np.uint8)
    draw = make_kinds(synthesis(edge_patches=(0, 0), salt_vs_pepper=0.8))["polygon"]
    for seed in range(10):
        anomaly = draw_anomaly(draw, white, white, generator(seed), (0.0, 1.0))
        assert np.count_nonzero(anomaly.mask) >= 20
        assert not anomaly.image[anomaly.mask == 255].any()


def test_white_alone_on_a_white_image_is_nothing(synthesis: Callable[..., Synthesis]) -> None:
    white = np.full((256, 256, 3), 255, np.uint8)
    draw = make_kinds(synthesis(salt_vs_pepper=1.0))["polygon"]
    assert draw_anomaly(draw, white, white, generator(1), (0.0, 1.0)) is None


def test_first_draw_of_20_pixels_is_taken(scene: SCENE) -> None:
    anomaly = draw_anomaly(draw_changed([0, 19, 20, 500]), scene(1), scene(2), generator(1), (0.0, 1.0))
    assert np.count_nonzero(anomaly.mask) == 20


def test_drawing_once_takes_an_empty_draw(scene: SCENE) -> None:
    draw = draw_changed([0, 500])
    anomaly = draw_once(draw, scene(1), scene(2), generator(1), (0.0, 1.0))
    assert not anomaly.mask.any()


def test_an_anomaly_changes_nothing_outside_its_area(scene: SCENE, synthesis: Callable[..., Synthesis]) -> None:
    area = np.zeros((256, 256), np.uint8)
    area[100:180, 60:150] = 255
    image, donor = scene(1), scene(2)
    for name, draw in make_kinds(synthesis(), area).items():
        for number in range(5):
            anomaly = draw_anomaly(draw, image, donor, generator(name, number), synthesis().severity)
            if name == KIND_NULL:
                assert anomaly is None
                continue
            assert anomaly is not None
            assert np.array_equal(anomaly.image[area == 0], image[area == 0])
            assert np.count_nonzero(anomaly.mask) >= FEWEST_CHANGED_PX
            assert not anomaly.mask[area == 0].any()
