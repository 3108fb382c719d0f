"""What pairs promise: they differ by the anomaly alone, and follow from their generator."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from cygnet.anomaly_kinds import KINDS, SEEN_KINDS, Kind, KindFunction
from cygnet.parameters.pretraining import PairSynthesis, Pretraining
from cygnet.parameters.synthesis import Synthesis
from cygnet.vision.codec import decode_image, encode_jpeg
from cygnet.vision.paired_synthesis import (
    PROCEDURAL,
    draw_as_synthesis,
    draw_by_weight,
    draw_pair,
    make_pair,
    make_pair_inside,
    vary_alone,
)
from cygnet.vision.procedural_scenes import draw_scene
from cygnet.vision.rng import generator
from cygnet.vision.transforms import Policy

NEIGHBOURHOOD = np.ones((37, 37), np.uint8)  # two JPEG blocks with halved chroma, and blur


@pytest.fixture
def pretraining(parameters: dict[str, Pretraining]) -> Pretraining:
    """Give pretraining's settings of conf/base."""
    return parameters["pretraining"]


def only(kind: str, synthesis: PairSynthesis) -> PairSynthesis:
    return synthesis.model_copy(update={"kinds": {kind: 1.0}})


@pytest.mark.parametrize("kind", SEEN_KINDS)
def test_pairs_differ_near_the_mask_alone(kind: str, pretraining: Pretraining) -> None:
    settings, visible, elsewhere = only(kind, pretraining.twins), 0, []
    for seed in range(50):
        normal, abnormal, mask = draw_pair(generator(seed), 112, 0.0, settings, pretraining.textures)
        assert (normal.shape, normal.dtype) == (abnormal.shape, abnormal.dtype) == ((112, 112, 3), np.uint8)
        assert (mask.shape, mask.dtype, set(np.unique(mask)) <= {0, 255}) == ((112, 112), np.uint8, True)
        difference = cv2.absdiff(normal, abnormal).max(axis=2)
        elsewhere.append(difference[cv2.dilate(mask, NEIGHBOURHOOD) == 0].max(initial=0))
        visible += bool((difference[mask == 255] > 8).any())
    assert visible >= 47
    # a spot that changes up to 8 levels is not in the mask, and exposure may make more of it
    assert np.mean(np.array(elsewhere) > 0) <= 0.1
    assert np.mean(np.array(elsewhere) > 8) <= 0.1


def test_same_generator_gives_the_same_bytes(pretraining: Pretraining) -> None:
    drawn = [
        b"".join(part.tobytes() for part in draw_pair(generator(seed), 64, 0.0, pretraining.twins, ["noise"]))
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("on_picture", [True, False])
def test_a_scene_on_which_nothing_shows_has_no_pair(on_picture: bool) -> None:
    scene = np.full((64, 64, 3), 128, np.uint8)
    assert make_pair(generator(1), scene, lambda _, image: image.copy(), PROCEDURAL, on_picture=on_picture) is None


def test_the_scene_that_a_pair_is_made_of_is_not_touched(pretraining: Pretraining) -> None:
    scene = draw_scene(generator(1), 64, ["cells"])
    before = scene.copy()
    for on_picture in (True, False):
        make_pair(generator(2), scene, draw_by_weight(pretraining.twins), PROCEDURAL, on_picture=on_picture)
    assert np.array_equal(scene, before)


def test_pairs_that_are_not_varied_are_the_scene_encoded_once_more(pretraining: Pretraining) -> None:
    scene = draw_scene(generator(1), 64, ["cells"])
    draw = draw_by_weight(pretraining.twins)
    encoded = [decode_image(encode_jpeg(scene, quality)).tobytes() for quality in range(60, 99)]
    for seed in range(20):
        for policy in (None, PROCEDURAL):
            pair = make_pair(generator(seed), scene, draw, policy)
            alone = vary_alone(generator(seed), scene, policy)
            assert pair is not None
            assert (pair[0].tobytes() in encoded) is (policy is None)
            assert (alone.tobytes() in encoded) is (policy is None)


def test_easy_anomalies_are_larger_on_average(pretraining: Pretraining) -> None:
    areas = [
        np.mean([draw_pair(generator(seed), 64, ease, pretraining.twins, ["noise"])[2].mean() for seed in range(80)])
        for ease in (0.0, 1.0)
    ]
    assert areas[1] > 1.3 * areas[0]


def test_kinds_are_drawn_by_their_weights(pretraining: Pretraining, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def note(kind: Kind) -> KindFunction:
        def draw(scene: np.ndarray, *_: object) -> np.ndarray:
            drawn.append(kind)
            return 255 - scene

        return draw

    monkeypatch.setattr(Kind, "load", note)
    kinds = {"scar": 0.75, "perlin": 0.25}
    settings = pretraining.twins.model_copy(update={"kinds": kinds})
    for seed in range(400):
        make_pair(generator(seed), np.zeros((32, 32, 3), np.uint8), draw_by_weight(settings), PROCEDURAL)
    assert drawn.count(KINDS["scar"]) / len(drawn) == pytest.approx(0.75, abs=0.07)


def test_a_white_patch_on_the_picture_stays_white() -> None:
    scene = np.full((64, 64, 3), 100, np.uint8)

    def draw(_: np.random.Generator, image: np.ndarray) -> np.ndarray:
        drawn = image.copy()
        drawn[16:48, 16:48] = 255
        return drawn

    darkest = {
        on_picture: min(
            make_pair(generator(seed), scene, draw, PROCEDURAL, on_picture=on_picture)[1].max() for seed in range(40)
        )
        for on_picture in (True, False)
    }
    assert darkest[True] >= 250
    assert darkest[False] < 220


def test_pairs_for_fitting_are_drawn_as_synthesis_draws_for_train(parameters: dict[str, Synthesis]) -> None:
    kinds = parameters["synthesis"].kinds.model_copy(update={"train": {"polygon": 1, "blend": 0}})
    synthesis = parameters["synthesis"].model_copy(update={"kinds": kinds, "severity": (0.0, 0.0)})
    image, donor = (np.full((256, 256, 3), level, np.uint8) for level in (128, 30))
    for seed in range(20):
        drawn = draw_as_synthesis(synthesis, donor)(generator(seed), image)
        changed = np.argwhere((drawn != image).any(axis=2))
        assert set(np.unique(drawn)) <= {0, 128, 255}
        assert 200 < len(changed) < 1200  # one patch of 500 px on average, near the centre
        assert (np.abs(changed.mean(axis=0) / 256 - 0.45) < 0.15).all()


def test_a_donor_is_another_frame(parameters: dict[str, Synthesis], scene: Callable[..., np.ndarray]) -> None:
    kinds = parameters["synthesis"].kinds.model_copy(update={"train": {"blend": 1}})
    synthesis = parameters["synthesis"].model_copy(update={"kinds": kinds})
    drawn = [draw_as_synthesis(synthesis, scene(donor))(generator(1), scene(0)) for donor in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize("policy", [None, PROCEDURAL])
def test_an_anomaly_stays_inside_the_area_that_varies_with_the_scene(policy: Policy | None) -> None:
    blue = np.zeros((64, 64), np.uint8)
    blue[:, :24] = 255
    scene = np.full((64, 64, 3), 100, np.uint8)
    scene[blue > 0] = (200, 60, 60)
    for seed in range(20):
        pair = make_pair_inside(generator(seed), scene, blue, lambda _, image: 255 - image, policy)
        assert pair is not None
        normal, abnormal, mask = pair
        is_blue = normal[..., 0].astype(int) - normal[..., 1] > 60
        assert np.mean((mask > 0) != is_blue) < 0.1  # but for what JPEG, blur and noise do at the border
        far = cv2.dilate(mask, NEIGHBOURHOOD) == 0
        assert (np.abs(abnormal[far].astype(int) - normal[far]) <= 12).all()


def test_an_anomaly_that_does_not_show_inside_makes_no_pair() -> None:
    scene, area = np.full((64, 64, 3), 100, np.uint8), np.zeros((64, 64), np.uint8)
    area[:, :8] = 255

    def draw(_: np.random.Generator, image: np.ndarray) -> np.ndarray:
        drawn = image.copy()
        drawn[:, 8:] = 255
        return drawn

    assert make_pair_inside(generator(1), scene, area, draw, None) is None
