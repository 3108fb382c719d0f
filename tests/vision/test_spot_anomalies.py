"""What the kinds drawn in spots promise: changes where the spot is, plainer with severity, same seed same bytes."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from cygnet.anomaly_kinds import KINDS
from cygnet.parameters.base import Parameters
from cygnet.parameters.synthesis import Spots, Synthesis
from cygnet.vision.anomalies import changed_mask, draw_anomaly, make_kinds
from cygnet.vision.noise import octaves
from cygnet.vision.rng import generator
from cygnet.vision.spot_anomalies import Spot, in_spots

SCENE = Callable[..., np.ndarray]
REACH_RADII = 4.5  # of the centre: a scar's corner is 1.4 x 2.2 radii away along each side


@pytest.fixture
def settings(parameters: dict[str, Synthesis]) -> Spots:
    """Give the spots of conf/base."""
    return parameters["synthesis"].spots


@pytest.fixture
def busy(scene: SCENE) -> SCENE:
    """Give a maker of scenes with fine texture, on which every kind shows."""

    def make(seed: int = 0, size_px: int = 128) -> np.ndarray:
        texture = octaves(generator(seed, "texture"), (size_px, size_px), cells=16, count=3)[..., None]
        return np.clip(scene(seed, size_px) * (0.5 + 0.8 * texture), 0, 255).astype(np.uint8)

    return make


IN_SPOTS = [name for name, kind in KINDS.items() if kind.function.startswith("cygnet.vision.spot_anomalies:")]


@pytest.fixture(params=IN_SPOTS)
def kind(request: pytest.FixtureRequest) -> str:
    """Give each kind."""
    return request.param


def test_a_spot_changes_its_neighbourhood_alone(kind: str, settings: Spots, busy: SCENE) -> None:
    shown = 0
    for seed in range(20):
        rng = generator(seed, "spot")
        spot = Spot(*rng.uniform(0, 128, 2).tolist(), rng.uniform(2, 12), severity=1.0)
        image, donor = busy(1), busy(2)
        KINDS[kind].load().__wrapped__(image, donor, rng, spot, settings)
        rows, columns = np.nonzero((image != busy(1)).any(axis=2))
        assert np.hypot(columns - spot.x_px, rows - spot.y_px).max(initial=0) <= REACH_RADII * spot.radius_px + 2
        assert np.array_equal(donor, busy(2))
        shown += bool(rows.size)
    assert shown >= 15


def test_shape_and_type_stay_and_what_is_given_is_not_touched(kind: str, settings: Spots, busy: SCENE) -> None:
    image, donor = busy(1)[:96], busy(2)[:96]
    drawn = KINDS[kind].load()(image, donor, generator(3), 1.0, settings)
    assert (drawn.shape, drawn.dtype) == ((96, 128, 3), np.uint8)
    assert np.array_equal(image, busy(1)[:96])
    assert np.array_equal(donor, busy(2)[:96])


def test_same_seed_gives_the_same_bytes_and_another_one_others(kind: str, settings: Spots, busy: SCENE) -> None:
    one, again, other = (KINDS[kind].load()(busy(1), busy(2), generator(seed), 1.0, settings) for seed in (3, 3, 4))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_more_severe_the_more_it_shows_on_average(kind: str, settings: Spots, busy: SCENE) -> None:
    image, donor = busy(1), busy(2)
    means = []
    for severity in (0.0, 0.5, 1.0):
        drawn = [KINDS[kind].load()(image, donor, generator(seed), severity, settings) for seed in range(60)]
        means.append(np.mean([cv2.absdiff(each, image).mean() for each in drawn]))
    assert means[0] < means[1] < means[2]
    assert means[2] > 1.15 * means[0]


@pytest.mark.parametrize("radius_px", [1.5, 3.0, 12.0])
def test_spots_at_borders_and_corners_and_beyond_them_are_drawn_in_the_image(
    kind: str, radius_px: float, settings: Spots, busy: SCENE
) -> None:
    canvas = np.full((64 + 64, 64 + 64, 3), 7, np.uint8)
    image = canvas[32:96, 32:96]  # a view: what is written outside of it shows on the canvas
    places = (-3.0, 0.0, 0.4, 1.0, 32.0, 62.5, 63.9, 64.0, 67.0)
    for number, spot in enumerate(Spot(x, y, radius_px, 1.0) for x in places for y in places):
        image[:] = busy(1, 64)
        KINDS[kind].load().__wrapped__(image, busy(2, 64), generator(number), spot, settings)
    canvas[32:96, 32:96] = 7
    assert (canvas == 7).all()


def test_the_smallest_images_are_drawn_on(kind: str, settings: Spots, busy: SCENE) -> None:
    for seed in range(100):
        drawn = KINDS[kind].load()(busy(1, 32), busy(2, 32), generator(seed), 1.0, settings)
        assert drawn.shape == (32, 32, 3)


def test_an_image_that_is_its_own_donor_is_drawn_on(kind: str, settings: Spots, busy: SCENE) -> None:
    image = busy(1)
    changed = [
        not np.array_equal(KINDS[kind].load()(image, image, generator(seed), 1.0, settings), image)
        for seed in range(10)
    ]
    assert all(changed)


def test_only_blend_depends_on_the_donor(kind: str, settings: Spots, busy: SCENE) -> None:
    one, other = (KINDS[kind].load()(busy(1), busy(donor), generator(3), 1.0, settings) for donor in (2, 5))
    assert np.array_equal(one, other) == (kind != "blend")


def test_the_mask_is_what_differs_by_more_than_8_levels(
    kind: str, parameters: dict[str, Parameters], busy: SCENE
) -> None:
    draw = make_kinds(parameters["synthesis"])[kind]
    anomaly = draw_anomaly(draw, busy(1, 256), busy(2, 256), generator(3), (1.0, 1.0))
    differs = np.abs(anomaly.image.astype(int) - busy(1, 256)).max(axis=2) > 8
    assert np.array_equal(anomaly.mask, np.where(differs, 255, 0))
    assert np.array_equal(anomaly.mask, changed_mask(busy(1, 256), anomaly.image))
    assert 20 <= np.count_nonzero(anomaly.mask) < 0.3 * anomaly.mask.size


def test_number_of_spots_is_that_of_the_settings(settings: Spots, busy: SCENE) -> None:
    calls: list[Spot] = []

    def count(_image: np.ndarray, _donor: np.ndarray, _rng: object, spot: Spot, _: Spots) -> None:
        calls.append(spot)

    numbers = []
    for seed in range(60):
        calls.clear()
        in_spots(count)(busy(1), busy(2), generator(seed), 0.5, settings)
        numbers.append(len(calls))
        assert all(0.03 * 128 <= spot.radius_px <= 0.09 * 128 for spot in calls)
        assert all(spot.severity == 0.5 for spot in calls)
    assert set(numbers) == {1, 2, 3}
