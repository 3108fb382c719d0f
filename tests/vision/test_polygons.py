"""What polygon patches promise: pure white and black only, as many and as large as the parameters say."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from cygnet.parameters.synthesis import Polygon, Synthesis
from cygnet.vision import polygons
from cygnet.vision.polygons import Patch, draw_polygons, fill_patch
from cygnet.vision.rng import generator

SCENE = Callable[..., np.ndarray]
PRESETS = ["image", "frame"]


@pytest.fixture
def polygon(parameters: dict[str, Synthesis]) -> Callable[..., Polygon]:
    """Give a maker of settings: `polygon("frame", shape={...}, frame={...})` changes those of conf/base."""

    def make(preset: str, **changes: dict[str, Any]) -> Polygon:
        settings = parameters["synthesis"].polygon.model_dump() | {"preset": preset}
        for section, values in changes.items():
            settings[section] = settings[section] | values
        return Polygon.model_validate(settings)

    return make


@pytest.fixture
def patches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float, float, int]]:
    """Give the list that every drawn patch is added to: x, y, area in pixels, grey value."""
    drawn = []

    def fill(image: np.ndarray, rng: np.random.Generator, patch: Patch, shape: Any) -> None:
        drawn.append((*patch.centre_px, patch.area_px, patch.value))
        fill_patch(image, rng, patch, shape)

    monkeypatch.setattr(polygons, "fill_patch", fill)
    return drawn


def changed_px(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The new pixels `(n, 3)`, where the images differ."""
    return after[(before != after).any(axis=2)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("preset", PRESETS)
def test_what_changes_is_pure_white_or_black(
    preset: str, seed: int, polygon: Callable[..., Polygon], scene: SCENE
) -> None:
    image = scene(seed)
    changed = changed_px(image, draw_polygons(image, image, generator(seed), 1.0, polygon(preset)))
    assert len(changed) >= 100
    assert {tuple(pixel) for pixel in changed.tolist()} <= {(0, 0, 0), (255, 255, 255)}


@pytest.mark.parametrize("preset", PRESETS)
def test_image_that_came_in_is_untouched(preset: str, polygon: Callable[..., Polygon], scene: SCENE) -> None:
    image = scene(1)
    draw_polygons(image, image, generator(1), 1.0, polygon(preset))
    assert np.array_equal(image, scene(1))


@pytest.mark.parametrize("preset", PRESETS)
def test_same_rng_gives_the_same_pixels_and_another_gives_others(
    preset: str, polygon: Callable[..., Polygon], scene: SCENE
) -> None:
    first, again, other = (
        draw_polygons(scene(1), scene(1), generator(seed), 0.5, polygon(preset)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("salt_vs_pepper", "value"), [(1.0, 255), (0.0, 0)])
def test_salt_alone_has_no_pepper_and_pepper_alone_no_salt(
    salt_vs_pepper: float, value: int, preset: str, polygon: Callable[..., Polygon], scene: SCENE
) -> None:
    settings = polygon(preset, **{preset: {"salt_vs_pepper": salt_vs_pepper}})
    for seed in range(10):
        changed = changed_px(scene(1), draw_polygons(scene(1), scene(1), generator(seed), 1.0, settings))
        assert set(changed.ravel().tolist()) == {value}


def test_image_preset_draws_white_as_often_as_asked(
    polygon: Callable[..., Polygon], patches: list[tuple[float, float, float, int]]
) -> None:
    blank = np.full((256, 256, 3), 128, np.uint8)
    for seed in range(150):
        draw_polygons(blank, blank, generator(seed), 1.0, polygon("image", image={"salt_vs_pepper": 0.8}))
    assert np.mean([value == 255 for *_, value in patches]) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    ("edge_patches", "expected"),
    [((0, 6), [0, 1, 2, 3, 4, 5, 6]), ((2, 4), [2, 2, 2, 3, 4, 4, 4]), ((3, 3), [3] * 7)],
)
def test_number_of_edge_patches_grows_with_severity_over_its_range(
    edge_patches: tuple[int, int],
    expected: list[int],
    polygon: Callable[..., Polygon],
    patches: list[tuple[float, float, float, int]],
    scene: SCENE,
) -> None:
    counts = []
    for severity in [0.0, 0.2, 0.3, 0.5, 0.7, 0.8, 1.0]:
        patches.clear()
        draw_polygons(
            scene(1), scene(1), generator(1), severity, polygon("image", image={"edge_patches": edge_patches})
        )
        counts.append(len(patches) - 1)
    assert counts == expected


def test_image_preset_puts_one_patch_near_the_centre_and_the_others_along_all_four_edges(
    polygon: Callable[..., Polygon], patches: list[tuple[float, float, float, int]], scene: SCENE
) -> None:
    sides = []
    for seed in range(20):
        patches.clear()
        draw_polygons(scene(1), scene(1), generator(seed), 1.0, polygon("image"))
        centre, *edge = patches
        assert 0.35 <= min(centre[:2]) / 256 <= max(centre[:2]) / 256 <= 0.55
        for x, y, *_ in edge:
            distances = np.array([x, 256 - x, y, 256 - y]) / 256
            assert 0 <= distances.min() <= 0.2
            sides.append(int(distances.argmin()))
    assert min(sides.count(side) for side in range(4)) > 0.15 * len(sides)


def test_frame_preset_changes_the_share_asked_for(polygon: Callable[..., Polygon]) -> None:
    settings = polygon(
        "frame",
        shape={"vertices": (64, 64), "radius_factor": (1.0, 1.0), "min_radius_px": 0.01},
        frame={"amount_frac": (0.005, 0.02), "salt_patches": (2, 2), "pepper_patches": (2, 2)},
    )
    image = np.full((600, 800, 3), 128, np.uint8)
    for severity, amount_frac in ((0.0, 0.005), (1.0, 0.02)):
        shares = [
            len(changed_px(image, draw_polygons(image, image, generator(seed), severity, settings))) / (600 * 800)
            for seed in range(60)
        ]
        assert np.median(shares) == pytest.approx(amount_frac, rel=0.1)


def test_frame_preset_divides_the_amount_between_white_and_black(
    polygon: Callable[..., Polygon], patches: list[tuple[float, float, float, int]], scene: SCENE
) -> None:
    settings = polygon("frame", frame={"amount_frac": (0.01, 0.03), "salt_vs_pepper": 0.6})
    for seed in range(10):
        patches.clear()
        draw_polygons(scene(1), scene(1), generator(seed), 0.5, settings)
        areas_px = {value: sum(patch[2] for patch in patches if patch[3] == value) for value in (255, 0)}
        assert areas_px == pytest.approx({255: 0.6 * 0.02 * 256**2, 0: 0.4 * 0.02 * 256**2})
        assert all(1 <= [patch[3] for patch in patches].count(value) <= 9 for value in (255, 0))


def test_no_patch_is_smaller_than_the_smallest_radius(polygon: Callable[..., Polygon]) -> None:
    shape = polygon("image", shape={"radius_factor": (1.0, 1.0), "vertices": (32, 32), "min_radius_px": 8.0}).shape
    image = np.full((64, 64, 3), 128, np.uint8)
    fill_patch(image, generator(1), Patch((32.0, 32.0), 1.0, 255), shape)
    assert np.count_nonzero(image[..., 0] == 255) == pytest.approx(np.pi * 8**2, rel=0.15)


def test_patch_is_irregular_and_in_one_piece(polygon: Callable[..., Polygon]) -> None:
    radii = []
    for seed in range(20):
        image = np.zeros((128, 128, 3), np.uint8)
        fill_patch(image, generator(seed), Patch((64.0, 64.0), 900.0, 255), polygon("image").shape)
        pieces, _, stats, centres = cv2.connectedComponentsWithStats(image[..., 0])
        assert pieces == 2
        assert np.abs(centres[1] - 64).max() < 17
        radii.append(np.sqrt(stats[1, cv2.CC_STAT_AREA] / np.pi))
    assert min(radii) < 0.95 * max(radii)
    assert 0.75 < np.mean(radii) / np.sqrt(900 / np.pi) < 1.1
