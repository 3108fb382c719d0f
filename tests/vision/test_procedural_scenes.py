"""What procedural scenes promise: every texture draws, from its generator alone, and scenes are as varied as said."""

import cv2
import numpy as np
import pytest

from cygnet.parameters.pretraining import Pretraining
from cygnet.vision.procedural_scenes import TEXTURES, _draw_objects, draw_scene
from cygnet.vision.rng import generator


@pytest.mark.parametrize("size_px", [32, 112, 160])
@pytest.mark.parametrize("texture", list(TEXTURES))
def test_every_texture_is_square_and_within_its_range(texture: str, size_px: int) -> None:
    for seed in range(5):
        field = TEXTURES[texture](generator(seed), size_px)
        assert (field.shape, field.dtype) == ((size_px, size_px), np.float32)
        assert -0.2 <= field.min() <= field.max() <= 1.2  # cubic interpolation may overshoot a little


@pytest.mark.parametrize("texture", list(TEXTURES))
def test_a_scene_follows_from_its_generator_alone(texture: str) -> None:
    one, again, other = (draw_scene(generator(seed), 64, [texture]) for seed in (1, 1, 2))
    assert (one.shape, one.dtype) == ((64, 64, 3), np.uint8)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_no_two_scenes_are_the_same(parameters: dict[str, Pretraining]) -> None:
    scenes = {draw_scene(generator(seed), 48, parameters["pretraining"].textures).tobytes() for seed in range(200)}
    assert len(scenes) == 200


def test_at_least_30_percent_of_the_scenes_have_natural_black_or_white(parameters: dict[str, Pretraining]) -> None:
    scenes = [draw_scene(generator(seed), 112, parameters["pretraining"].textures) for seed in range(300)]
    extreme = [((scene <= 8) | (scene >= 247)).all(axis=2).mean() for scene in scenes]
    assert np.mean(np.array(extreme) > 0.01) >= 0.3
    assert np.mean(np.array(extreme) > 0.1) >= 0.2


def test_small_things_are_as_small_as_anomalies_but_hardly_ever_flat() -> None:
    sides_frac, deviations = [], []
    for seed in range(60):
        scene = np.full((160, 160, 3), 120, np.float32)
        _draw_objects(generator(seed), scene, list(TEXTURES))
        changed = (np.abs(scene - 120) > 8).any(axis=2).astype(np.uint8)
        count, names = cv2.connectedComponents(changed)
        for thing in (names == name for name in range(1, count)):
            if thing.sum() > 30:
                sides_frac.append(np.sqrt(thing.mean()))
                deviations.append(scene[thing].std(axis=0).max())
    assert 0.04 < np.median(sides_frac) < 0.12
    assert np.mean(np.array(deviations) < 5) < 0.05


def test_parameters_know_the_textures_that_there_are(parameters: dict[str, Pretraining]) -> None:
    pretraining = parameters["pretraining"]
    assert sorted([*pretraining.textures, *pretraining.held_out_textures]) == sorted(TEXTURES)
