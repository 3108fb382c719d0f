"""What augmentation promises: no copy twice, the mask goes with the image, and no trace of the border."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

from cygnet.parameters.augmentation import Augmentation
from cygnet.vision.rng import generator
from cygnet.vision.transforms import (
    Pair,
    Policy,
    apply_symmetry,
    augment,
    list_symmetries,
    select_policy,
    squash_and_skew,
    vary,
    vary_camera,
    vary_normal,
)
from support.toys import ramps, slopes_of

SCENE = Callable[..., np.ndarray]
PRESETS = ["reference", "fixed_camera"]
SYMMETRIES = list(product([False, True], range(4)))


@pytest.fixture
def augmentation(parameters: dict[str, Augmentation]) -> Callable[..., Augmentation]:
    """Give a maker of parameters: `augmentation("reference", affine_shear=0.1)` changes those of conf/base."""

    def make(preset: str, *, seed: int = 201, **changes: Any) -> Augmentation:
        settings = parameters["augmentation"].model_dump() | {"preset": preset, "seed": seed}
        settings[preset] = settings[preset] | changes
        return Augmentation.model_validate(settings)

    return make


@pytest.fixture
def pair(scene: SCENE) -> Pair:
    """Give a scene with a mask: one blob, off every axis of symmetry."""
    mask = np.zeros((256, 256), np.uint8)
    mask[30:90, 150:230] = 255
    return scene(1), mask


def as_image(mask: np.ndarray) -> np.ndarray:
    """The mask as an image, to see whether an image moves as its mask does."""
    return np.repeat(mask[:, :, None], 3, axis=2)


def policy_of(augmentation: Augmentation) -> tuple[Policy, int]:
    """What `augment` takes of the settings."""
    return select_policy(augmentation, "fixed"), augmentation.seed


def correlation(image: np.ndarray, other: np.ndarray) -> float:
    """Pearson's r of the pixels."""
    return float(np.corrcoef(image.ravel(), other.ravel())[0, 1])


def test_the_camera_selects_the_policy_unless_a_preset_does(augmentation: Callable[..., Augmentation]) -> None:
    settings = augmentation("reference")
    by_camera = settings.model_copy(update={"preset": None})
    assert select_policy(by_camera, "fixed") == settings.fixed_camera
    assert select_policy(by_camera, "moving") == settings.reference
    assert select_policy(settings, "fixed") == settings.reference


def test_a_variant_of_a_normal_image_is_turned_a_little_and_brighter_or_darker(scene: SCENE) -> None:
    image, flat = scene(1), np.full((64, 64, 3), 100, np.uint8)
    varied = [vary_normal(image, generator(seed)) for seed in range(30)]
    assert all(0.3 < correlation(each, image) < 0.9999 for each in varied)
    levels = [vary_normal(flat, generator(seed)) for seed in range(60)]
    assert all(np.ptp(each) == 0 for each in levels)  # nothing from beyond the border
    assert 84 <= min(each.mean() for each in levels) < 90
    assert 110 < max(each.mean() for each in levels) <= 115


@pytest.mark.parametrize(("horizontal", "vertical", "quarter"), list(product([False, True], repeat=3)))
def test_symmetries_are_all_that_the_allowed_flips_and_turns_can_make_each_once(
    horizontal: bool,
    vertical: bool,
    quarter: bool,
    augmentation: Callable[..., Augmentation],
) -> None:
    start = np.arange(9, dtype=np.uint8).reshape(3, 3)
    moves = [
        move for is_allowed, move in ((horizontal, np.fliplr), (vertical, np.flipud), (quarter, np.rot90)) if is_allowed
    ]
    reachable, fresh = {start.tobytes()}, [start]
    while fresh:
        moved = [np.ascontiguousarray(move(image)) for image in fresh for move in moves]
        fresh = [image for image in moved if image.tobytes() not in reachable]
        reachable |= {image.tobytes() for image in fresh}
    settings = augmentation(
        "reference", horizontal_flip=horizontal, vertical_flip=vertical, quarter_turns=quarter
    ).reference
    symmetries = list_symmetries(settings)
    made = [apply_symmetry((start[:, :, None], None), symmetry)[0].tobytes() for symmetry in symmetries]
    assert set(made) == reachable
    assert len(made) == len(reachable)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_symmetry_moves_the_mask_like_the_image_and_changes_no_pixel(symmetry: tuple[bool, int], pair: Pair) -> None:
    image, mask = pair
    turned, turned_mask = apply_symmetry((np.dstack([image[..., 0], mask, mask]), mask), symmetry)
    assert turned_mask is not None
    assert np.array_equal(turned[..., 1], turned_mask)
    assert np.array_equal(np.sort(turned[..., 0], axis=None), np.sort(image[..., 0], axis=None))


@pytest.mark.parametrize("preset", PRESETS)
def test_no_two_variants_of_one_content_are_the_same_image(
    preset: str, augmentation: Callable[..., Augmentation], pair: Pair
) -> None:
    images = [augment(pair, "swan/000001", variant, *policy_of(augmentation(preset)))[0] for variant in range(51)]
    assert len({image.tobytes() for image in images}) == 51


def test_no_two_variants_are_the_same_image_when_nothing_may_be_flipped(
    augmentation: Callable[..., Augmentation], pair: Pair
) -> None:
    settings = augmentation(
        "reference", horizontal_flip=False, vertical_flip=False, quarter_turns=False, affine_probability=0.01
    )
    images = [augment(pair, "swan/000001", variant, *policy_of(settings))[0] for variant in range(51)]
    assert len({image.tobytes() for image in images}) == 51


@pytest.mark.parametrize("preset", PRESETS)
def test_same_arguments_give_the_same_pixels(
    preset: str, augmentation: Callable[..., Augmentation], pair: Pair
) -> None:
    for variant in (0, 20):
        (first, first_mask), (again, again_mask) = (
            augment(pair, "swan/000001", variant, *policy_of(augmentation(preset))) for _ in range(2)
        )
        assert np.array_equal(first, again)
        assert first_mask is not None
        assert np.array_equal(first_mask, again_mask)


@pytest.mark.parametrize("preset", PRESETS)
def test_another_seed_and_another_content_give_other_variants(
    preset: str, augmentation: Callable[..., Augmentation], pair: Pair
) -> None:
    made = {
        augment(pair, content, 20, *policy_of(augmentation(preset, seed=seed)))[0].tobytes()
        for content, seed in product(["swan/000001", "swan/000002"], [1, 2])
    }
    assert len(made) == 4


@pytest.mark.parametrize("variant", [0, 1, 8, 30])
@pytest.mark.parametrize("preset", PRESETS)
def test_variant_keeps_shape_and_type_and_leaves_its_input_alone(
    preset: str, variant: int, augmentation: Callable[..., Augmentation], pair: Pair, scene: SCENE
) -> None:
    image, mask = augment(pair, "swan/000001", variant, *policy_of(augmentation(preset)))
    assert mask is not None
    assert (image.shape, image.dtype) == ((256, 256, 3), np.uint8)
    assert (mask.shape, mask.dtype) == ((256, 256), np.uint8)
    assert np.array_equal(pair[0], scene(1))


@pytest.mark.parametrize("preset", PRESETS)
def test_normal_image_has_no_mask_and_the_pixels_that_it_has_with_one(
    preset: str, augmentation: Callable[..., Augmentation], pair: Pair
) -> None:
    for variant in range(12):
        image, mask = augment((pair[0], None), "swan/000001", variant, *policy_of(augmentation(preset)))
        assert mask is None
        assert np.array_equal(image, augment(pair, "swan/000001", variant, *policy_of(augmentation(preset)))[0])


@pytest.mark.parametrize("variant", range(0, 24, 3))
@pytest.mark.parametrize("preset", PRESETS)
def test_mask_is_binary_and_stays_on_what_it_marks(
    preset: str, variant: int, augmentation: Callable[..., Augmentation], pair: Pair
) -> None:
    mask = pair[1]
    assert mask is not None
    image, moved = augment((as_image(mask), mask), "swan/000001", variant, *policy_of(augmentation(preset)))
    assert moved is not None
    assert set(np.unique(moved).tolist()) == {0, 255}
    assert np.mean((image[..., 0] > 127) != (moved == 255)) < 0.01


@pytest.mark.parametrize("shear", [-1.0, -0.3, -0.01, 0.01, 0.3, 1.0])
def test_squash_leaves_no_black_corner(shear: float) -> None:
    constant = np.full((256, 256, 3), (10, 120, 250), np.uint8)
    warped, mask = squash_and_skew((constant, np.full((256, 256), 255, np.uint8)), shear)
    assert np.array_equal(warped, constant)
    assert mask is not None
    assert mask.min() == 255


def test_shift_leaves_no_black_edge(augmentation: Callable[..., Augmentation]) -> None:
    constant = np.full((256, 256, 3), 120, np.uint8)
    settings = augmentation("fixed_camera", shift_px=64.0, gain=(1, 1), gamma=(1, 1), noise_std=(0, 0)).fixed_camera
    for seed in range(5):
        assert np.array_equal(vary_camera((constant, None), generator(seed), settings)[0], constant)


def test_squash_and_skew_by_nothing_is_the_identity(pair: Pair) -> None:
    image, mask = squash_and_skew(pair, 0.0)
    assert np.array_equal(image, pair[0])
    assert np.array_equal(mask, pair[1])


@pytest.mark.parametrize("shear", [-0.6, 0.3, 1.0])
def test_skewed_square_keeps_its_four_corners_inside_and_its_centre_in_place(shear: float) -> None:
    for x_px, y_px in [(4, 4), (251, 4), (4, 251), (251, 251), (128, 128)]:
        mark = np.zeros((256, 256), np.uint8)
        mark[y_px - 3 : y_px + 4, x_px - 3 : x_px + 4] = 255
        _, mask = squash_and_skew((as_image(mark), mark), shear)
        assert mask is not None
        skewed_px = (x_px - 127.5 + shear * (y_px - 127.5)) / (1 + abs(shear)) + 127.5
        assert 0 <= skewed_px <= 255
        assert mask[y_px, round(skewed_px)] == 255
        assert np.count_nonzero(mask[128]) <= 8


@pytest.mark.parametrize("seed", range(10))
def test_fixed_camera_never_flips_or_turns(seed: int, augmentation: Callable[..., Augmentation], scene: SCENE) -> None:
    image = scene(seed)
    varied, _ = vary_camera((image, None), generator(seed), augmentation("fixed_camera").fixed_camera)
    assert correlation(varied, image) > 0.9
    for symmetry in SYMMETRIES[1:]:
        assert correlation(varied, apply_symmetry((image, None), symmetry)[0]) < 0.6


@pytest.mark.parametrize(("varied", "low", "high"), [("gain", 102, 138), ("gamma", 107, 134)])
def test_fixed_camera_varies_gain_and_gamma_over_their_ranges(
    varied: str, low: float, high: float, augmentation: Callable[..., Augmentation]
) -> None:
    flat = np.full((32, 32, 3), 120, np.uint8)
    others = {"gain": (1, 1), "gamma": (1, 1), "noise_std": (0, 0)}
    del others[varied]
    settings = augmentation("fixed_camera", **others).fixed_camera
    levels = [vary_camera((flat, None), generator(seed), settings)[0] for seed in range(60)]
    assert all(image.std() == 0 for image in levels)
    assert low - 1 <= min(image.mean() for image in levels) < low + 6
    assert high - 6 < max(image.mean() for image in levels) <= high + 1


def test_fixed_camera_varies_noise_over_its_range(augmentation: Callable[..., Augmentation]) -> None:
    flat = np.full((64, 64, 3), 120, np.uint8)
    settings = augmentation("fixed_camera").fixed_camera
    noises = [vary_camera((flat, None), generator(seed), settings)[0].std() for seed in range(60)]
    assert min(noises) < 0.5
    assert 2.7 < max(noises) < 3.1


def test_fixed_camera_shifts_to_both_sides_by_at_most_its_pixels(augmentation: Callable[..., Augmentation]) -> None:
    settings = augmentation("fixed_camera", gain=(1, 1), gamma=(1, 1), noise_std=(0, 0)).fixed_camera
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3))
    for image, axis in ((ramp, 1), (ramp.transpose(1, 0, 2), 0)):
        shifts_px = [
            vary_camera((np.ascontiguousarray(image), None), generator(seed), settings)[0].mean(axis=(1 - axis, 2))[128]
            - 128
            for seed in range(60)
        ]
        assert -4 <= min(shifts_px) < -3
        assert 3 < max(shifts_px) <= 4


@pytest.mark.parametrize("preset", PRESETS)
def test_images_that_vary_together_get_the_same_draws_and_their_mask_the_same_map(
    preset: str, augmentation: Callable[..., Augmentation], pair: Pair
) -> None:
    image, mask = pair
    assert mask is not None
    policy = select_policy(augmentation(preset), "fixed")
    for seed in range(10):
        (one, other, marked), moved = vary([image, image, as_image(mask)], mask, generator(seed), policy)
        assert np.array_equal(one, other)
        assert not np.array_equal(one, image)
        assert np.array_equal(one, vary([image], mask, generator(seed), policy)[0][0])
        assert np.mean((marked[..., 0] > 127) != (moved == 255)) < 0.015


def test_with_fixed_camera_pairs_vary_as_the_table_does(augmentation: Callable[..., Augmentation], pair: Pair) -> None:
    image, mask = pair
    assert mask is not None
    settings = augmentation("fixed_camera")
    for variant in range(5):
        rng = generator(settings.seed, "swan/000001", variant)
        (varied,), moved = vary([image], mask, rng, select_policy(settings, "fixed"))
        in_table = augment(pair, "swan/000001", variant, *policy_of(settings))
        assert np.array_equal(varied, in_table[0])
        assert np.array_equal(moved, in_table[1])


def test_with_fixed_camera_nothing_flips_turns_or_shears(augmentation: Callable[..., Augmentation]) -> None:
    policy = augmentation("fixed_camera").fixed_camera
    for seed in range(40):
        (varied,), _ = vary([ramps(256)], np.zeros((256, 256), np.uint8), generator(seed), policy)
        exposure = slopes_of(varied)
        assert exposure == pytest.approx(np.eye(2) * exposure[0, 0], abs=0.02)
        assert 0.7 < exposure[0, 0] < 1.4


@pytest.mark.parametrize(("horizontal", "vertical"), list(product([False, True], repeat=2)))
def test_pairs_flip_only_as_reference_allows(
    horizontal: bool, vertical: bool, augmentation: Callable[..., Augmentation]
) -> None:
    policy = augmentation(
        "reference", horizontal_flip=horizontal, vertical_flip=vertical, affine_probability=1e-9
    ).reference
    seen = set()
    for seed in range(40):
        (varied,), _ = vary([ramps(64)], np.zeros((64, 64), np.uint8), generator(seed), policy)
        slopes = slopes_of(varied)
        assert np.abs([slopes[0, 1], slopes[1, 0]]).max() < 0.1  # nothing else moves
        seen.add((bool(slopes[0, 0] < 0), bool(slopes[1, 1] < 0)))
    assert seen == set(product({False, horizontal}, {False, vertical}))


def distorted(shear: float, augmentation: Callable[..., Augmentation]) -> list[np.ndarray]:
    """Ramps that went through the affine map alone, 60 times."""
    changes = {"horizontal_flip": False, "vertical_flip": False, "affine_probability": 1.0, "affine_shear": shear}
    policy, mask = augmentation("reference", **changes).reference, np.zeros((256, 256), np.uint8)
    return [vary([ramps(256)], mask, generator(seed), policy)[0][0] for seed in range(60)]


@pytest.mark.parametrize("shear", [0.05, 0.3])
def test_pairs_shear_by_at_most_affine_shear(shear: float, augmentation: Callable[..., Augmentation]) -> None:
    slopes = np.array([slopes_of(image) for image in distorted(shear, augmentation)])
    sheared = np.abs(slopes[:, 0, 1] / slopes[:, 0, 0])
    assert 0.6 * shear < sheared.max() < shear / (1 - shear) + 0.02


def test_no_affine_map_of_pairs_mirrors(augmentation: Callable[..., Augmentation]) -> None:
    assert all(np.linalg.det(slopes_of(image, 0.06)) > 0 for image in distorted(1.0, augmentation))
