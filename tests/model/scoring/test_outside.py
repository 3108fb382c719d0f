"""What new axes promise: new normal frames come near, others stay far, and a second run finds nothing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pytest

from cygnet.errors import UserError
from cygnet.model.scoring.frame_scores import FrameScoring, SeenFrame
from cygnet.model.scoring.outside import adapt, check_scene, find_axes, gives_axes, see_again
from cygnet.model.serving.scorer import Calibration, Parts, Scorer
from cygnet.parameters.base import Parameters
from cygnet.tables import SOURCES
from cygnet.vision.codec import encode_png
from support.toys import IMAGES_SCENE, SCENE, toy_scorer

CALIBRATION = Calibration(1.0, 0.5, score="normality", top_frac=0.5, normal_distances=[0.5, 1.0, 1.5])


def patches(*axes: int, count: int = 40, seed: int = 0) -> np.ndarray:
    """Images of four patches, `(count, 4, 8)`, that lie far along these axes and 0.01 along the others."""
    rng = np.random.default_rng(seed)
    outside = rng.normal(0, 0.01, (count, 4, 8))
    outside[..., list(axes)] += rng.normal(0, 5, (count, 4, len(axes)))
    return outside


def distances(outside: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Distances of images once the axes are part of the subspace."""
    left = np.square(outside - outside @ axes @ axes.T).sum(axis=2)
    return np.sort(left, axis=1)[:, -2:].mean(axis=1)


def test_axes_bring_every_image_down_to_the_median_and_leave_other_directions() -> None:
    images = patches(2, 5)
    axes = find_axes([images], CALIBRATION)
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-6)
    assert distances(images, axes).max() <= 1.0 < distances(images, axes[:, :1]).max()
    others = patches(3)
    np.testing.assert_allclose(distances(others, axes), distances(others, axes[:, :0]), rtol=0.01)


def test_a_rare_direction_counts_as_a_frequent_one() -> None:
    rare = np.concatenate([patches(2, count=200), patches(6, count=1)])
    axes = find_axes([rare], CALIBRATION)
    assert distances(rare, axes).max() <= 1.0
    assert axes.shape == (8, 2)


def test_order_and_batches_change_nothing_but_rounding() -> None:
    images = np.concatenate([patches(1, 4), patches(6, seed=1)])
    whole = find_axes([images], CALIBRATION)
    for parts in ([images[::-1]], np.split(images, 8), [images[50:], images[:50]]):
        axes = find_axes(parts, CALIBRATION)
        np.testing.assert_allclose(axes @ axes.T, whole @ whole.T, atol=1e-5)


def test_nothing_is_added_where_nothing_lies_outside() -> None:
    assert find_axes([patches()], CALIBRATION).shape == (8, 0)
    assert find_axes([], CALIBRATION).shape[1] == 0


def test_every_second_stretch_of_each_source_gives_axes() -> None:
    frames = pd.DataFrame({"source": ["a"] * 100 + ["b"] * 3 + ["c"]})
    chosen = gives_axes(frames)
    assert chosen[:100].tolist() == ([True] * 5 + [False] * 5) * 10
    assert chosen[100:].tolist() == [True, False, True, True]


def drawn(seed: int, square: bool) -> np.ndarray:
    """A dark noisy image, with a bright square or without."""
    image = 60 + np.random.default_rng(seed).integers(-20, 21, (64, 64, 3))
    if square:
        image[:32, :32] = (250, 30, 250)
    return image.astype(np.uint8)


@pytest.fixture(scope="module", params=["torch", "torch_bf16", "onnx", "onnx_int8"])
def champion(request: pytest.FixtureRequest, parameters: dict[str, Parameters]) -> Scorer:
    """Give a scorer of each runtime that is calibrated on dark images."""
    scorer = toy_scorer(parameters["training"], runtime=request.param, score="combined")
    normal = scorer.measure([drawn(seed, square=False) for seed in range(100, 130)]).images.to_numpy(float)
    margins, found = (sorted(column.tolist()) for column in normal.T)
    calibration = replace(scorer.calibration, threshold=0.95, normal_margins=margins, normal_distances=found)
    return scorer.with_calibration(calibration)


def frames_of(scorer: Scorer, images: list[np.ndarray]) -> pd.DataFrame:
    places = {"source": "new", "frame_index": range(len(images))}
    return pd.concat([pd.DataFrame(places), scorer.measure(images).images], axis=1)


def reader(images: list[np.ndarray], area: np.ndarray | None = None) -> Callable[[pd.DataFrame], Iterator[SeenFrame]]:
    areas = [] if area is None else [area]
    return lambda chosen: (SeenFrame(at, 0.0, images=[images[at]], areas=areas) for at in chosen["frame_index"])


def test_the_champion_adapts_and_a_second_run_finds_nothing(champion: Scorer) -> None:
    images = [drawn(seed, square=seed % 4 == 3) for seed in range(80)]
    before = frames_of(champion, images)
    adaptation = adapt(before, champion, reader(images))
    adapted = adaptation.scorer
    basis = adapted.runtime.basis
    assert basis.shape[1] == champion.runtime.basis.shape[1] + adaptation.axes
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-5)
    after = frames_of(adapted, images)
    with_square = before["frame_index"] % 4 == 3
    far, near = (before["normality_distance"][with_square].min(), after["normality_distance"][with_square].max())
    assert near < champion.calibration.normal_distances[-1] < far
    assert (after["normality_distance"] <= before["normality_distance"] + 1e-4).all()
    np.testing.assert_allclose(after["classifier_margin"], before["classifier_margin"], atol=1e-5)
    assert adaptation.adapting_frames == 40
    assert adaptation.distant_frames == (with_square & gives_axes(before)).sum()
    assert adaptation.old_anomalous_frac is not None
    assert adaptation.anomalous_frac is not None
    assert adaptation.anomalous_frac < adaptation.old_anomalous_frac >= 0.25
    with pytest.raises(UserError, match="There is nothing to adapt to"):
        adapt(after, adapted, reader(images))


def test_every_runtime_adapts_as_torch(champion: Scorer, parameters: dict[str, Parameters]) -> None:
    torch_scorer = toy_scorer(parameters["training"], score="combined")
    images = [drawn(seed, square=seed % 2 == 1) for seed in range(6)]
    basis = np.eye(len(champion.runtime.basis), 20, dtype=np.float32)
    ours, theirs = (each.with_basis(basis).measure(images).images for each in (champion, torch_scorer))
    most = {"torch": 1e-5, "onnx": 1e-4, "torch_bf16": 0.1, "onnx_int8": 0.3}[champion.runtime.name]
    np.testing.assert_allclose(ours["normality_distance"], theirs["normality_distance"], rtol=most)
    for outside, distance_map in zip(
        np.concatenate(list(champion.with_basis(basis).measure_outside(images))),
        champion.with_basis(basis).measure(images).distance_maps,
        strict=True,
    ):
        np.testing.assert_allclose(np.square(outside).sum(axis=1), distance_map.ravel(), rtol=1e-3, atol=1e-4)


def test_an_adapted_scorer_is_saved_and_loaded_whole(champion: Scorer, tmp_path: Path) -> None:
    images = [drawn(seed, square=True) for seed in range(3)]
    adapted = champion.with_basis(np.eye(len(champion.runtime.basis), 20, dtype=np.float32))
    adapted.save(tmp_path)
    loaded = Scorer.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.measure(images).images, adapted.measure(images).images, check_exact=True)
    np.testing.assert_array_equal(loaded.runtime.basis, adapted.runtime.basis)


@dataclass
class Measured:
    """A scorer that finds the maps in the images."""

    calibration: Calibration

    def measure(self, images: list[np.ndarray]) -> Parts:
        """Take the images for maps."""
        return Parts(pd.DataFrame(), np.stack(images), np.stack(images))


def test_another_scene_is_told_by_its_strange_patches_in_the_area() -> None:
    """The median normal distance is 1."""
    frames = pd.DataFrame({"source": "new", "frame_index": range(3)})
    maps = [np.full((4, 4), 0.2), np.full((4, 4), 9.0), np.full((4, 4), 0.2)]
    maps[2][:2] = 2.0  # half of the patches
    scorer = cast("Scorer", Measured(CALIBRATION))
    assert check_scene(frames, scorer, reader(maps)) == 0.5
    upper = np.zeros((4, 4), np.uint8)
    upper[:2] = 255
    with pytest.raises(UserError, match=r"in half of its frames at least 100% of the patches .* allowed are 90%"):
        check_scene(frames, scorer, reader(maps, upper))
    with pytest.raises(UserError, match="score is the classifier's alone"):
        check_scene(frames, cast("Scorer", Measured(replace(CALIBRATION, score="classifier"))), reader(maps))


def test_chosen_images_of_a_folder_are_seen_again(tmp_path: Path) -> None:
    rows = []
    for place in range(4):
        path = tmp_path / f"{place}.png"
        path.write_bytes(encode_png(np.full((64, 64, 3), 50 * place, np.uint8)))
        rows.append(("set", str(path), "image", place, ""))
    scoring = FrameScoring("", "", IMAGES_SCENE.view, None, SCENE)
    chosen = pd.DataFrame({"source": "set", "frame_index": [1, 3]})
    seen = list(see_again(chosen, pd.DataFrame(rows, columns=SOURCES.names), scoring))
    assert [round(float(frame.images[0].mean()), -1) for frame in seen] == [50, 150]
    assert [frame.images[0].shape for frame in seen] == [(256, 256, 3)] * 2
