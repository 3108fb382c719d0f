"""What leaving out promises: contaminated frames come first, clean ones pass, and the network runs once."""

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pad
import pytest
import torch

from cygnet.model.network.detector import Detector
from cygnet.model.serving.blocks import RunBlocks
from cygnet.model.training import normality
from cygnet.model.training.left_out import FEWEST_FRAMES, MAPS, find_limit, measure_left_out
from cygnet.model.training.normality import IMAGES_AT_ONCE, STRETCHES, fit_normality
from cygnet.model.training.results import LeftOut
from cygnet.model.training_set import iterate_normal_images, normal_image_ids
from cygnet.parameters.base import Parameters
from cygnet.parameters.training import Normality
from cygnet.tables import ABNORMAL, IMAGES, NORMAL, parse_image_id
from cygnet.vision.codec import encode_jpeg
from support.toys import SMALL_VIT, toy_detector, toy_image

FRAMES = 60
EXPLAINED_FRAC = 0.9  # of the toy's 32 dimensions 0.99 would leave 3
Frames = dict[str, np.ndarray]
Measure = Callable[[Frames], LeftOut]


@pytest.fixture(scope="module")
def detector() -> Detector:
    """Give a detector that knows no normal frame."""
    return toy_detector(SMALL_VIT)


@pytest.fixture
def measure(detector: Detector, parameters: dict[str, Parameters], tmp_path: Path) -> Measure:
    """Give a function that fits on frames and measures them."""
    settings: Normality = parameters["training"].normality.model_copy(update={"explained_frac": EXPLAINED_FRAC})

    def measured(frames: Frames) -> LeftOut:
        path = tmp_path / "features"
        path.unlink(missing_ok=True)
        _, seen = fit_normality(detector, frames.items(), sorted(frames), settings.explained_frac, path)
        return measure_left_out(seen, settings)

    return measured


def clean_frames(count: int = FRAMES) -> Frames:
    return {f"toy/{number:06d}": toy_image(NORMAL, number) for number in range(count)}


def contaminated(frames: Frames, numbers: range) -> Frames:
    """The frames with a stripe across the right half of some of them."""
    changed = dict(frames)
    for number in numbers:
        image = changed[f"toy/{number:06d}"].copy()
        image[8:24, 32:] = 255 - image[8:24, 32:]
        changed[f"toy/{number:06d}"] = image
    return changed


@pytest.mark.parametrize("numbers", [range(1), range(30, 31), range(40, 43), range(57, 60)])
def test_contaminated_frames_come_first_and_above_the_limit(measure: Measure, numbers: range) -> None:
    left_out = measure(contaminated(clean_frames(), numbers))
    expected = {f"toy/{number:06d}" for number in numbers}
    assert set(left_out.suspicious["image_id"]) == expected
    assert set(left_out.frames["image_id"].head(len(numbers))) == expected
    for name in expected:
        assert divmod(int(left_out.maps[name].argmax()), 2) == (0, 1)


def test_the_same_frames_without_it_list_none(measure: Measure) -> None:
    left_out = measure(clean_frames())
    assert left_out.suspicious.empty
    assert len(left_out.frames) == FRAMES
    assert left_out.frames["distance"].is_monotonic_decreasing
    assert sorted(left_out.maps) == sorted(left_out.frames["image_id"].head(MAPS))


def test_a_fit_on_all_frames_would_not_find_it(detector: Detector, measure: Measure, tmp_path: Path) -> None:
    frames = contaminated(clean_frames(), range(30, 33))
    fitted, _ = fit_normality(detector, frames.items(), list(frames), EXPLAINED_FRAC, tmp_path / "all")
    with torch.inference_mode():
        image = torch.from_numpy(fitted.preprocessing.resize(frames["toy/000031"])[None])
        inside = float(fitted(image)[2].max())
    assert measure(frames).frames["distance"][0] > 2 * inside


def test_order_of_the_frames_changes_nothing_but_rounding(measure: Measure) -> None:
    frames = contaminated(clean_frames(), range(20, 22))
    one = measure(frames)
    order = np.random.default_rng(0).permutation(FRAMES)
    other = measure({f"toy/{number:06d}": frames[f"toy/{number:06d}"] for number in order})
    assert list(other.suspicious["image_id"]) == list(one.suspicious["image_id"])
    assert other.limit == pytest.approx(one.limit, rel=1e-3)
    distances = other.frames.set_index("image_id").loc[one.frames["image_id"], "distance"]
    assert distances.to_numpy() == pytest.approx(one.frames["distance"].to_numpy(), rel=1e-3)


def test_tiles_of_a_frame_follow_each_other() -> None:
    names = ["b/000002", "a/000010/tile-0", "a/000009/tile-10", "a/tile-7/000001", "a/000009/tile-9"]
    assert sorted(names, key=parse_image_id) == [names[4], names[2], names[1], names[3], names[0]]
    assert [parse_image_id(name) for name in names[2:4]] == [("a", 9, 10), ("a/tile-7", 1, 0)]


def test_partition_of_the_table_changes_neither_frames_nor_their_order_of_time() -> None:
    rows = [
        {
            "image_id": f"{source}/{index:06d}",
            "frame_id": f"{source}/{index:06d}",
            "tile": 0,
            "tiles": 1,
            "split": split,
            "label": label,
            "label_source": "default",
            "image": encode_jpeg(toy_image(label, index), 95),
        }
        for source, split, label in (("b", "train", NORMAL), ("a", "train", NORMAL), ("a", "test", NORMAL))
        for index in (999_999, 1_000_000, 2)
    ]
    rows.append({**rows[0], "label": ABNORMAL, "image_id": "b/000003", "frame_id": "b/000003"})
    parts = [pa.Table.from_pylist(part, schema=IMAGES) for part in (rows[:3], rows[3:4], rows[4:])]
    for order in ([0, 1, 2], [2, 0, 1]):
        table = pad.dataset(pa.concat_tables([parts[place] for place in order]))
        expected = [f"{source}/{index:06d}" for source in "ab" for index in (2, 999_999, 1_000_000)]
        assert normal_image_ids(table) == expected
        assert sorted(name for name, _ in iterate_normal_images(table)) == sorted(expected)


def test_the_network_runs_once_and_memory_holds_one_batch(
    detector: Detector, measure: Measure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    make = normality.block_runner

    def counting(*arguments: object) -> RunBlocks:
        run = make(*arguments)

        def counted(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            ran.append(len(images))
            return run(images)

        return counted

    monkeypatch.setattr(normality, "block_runner", counting)
    measure(clean_frames())
    assert sum(ran) == FRAMES

    alive: list[weakref.ref[np.ndarray]] = []

    def images() -> Iterator[tuple[str, np.ndarray]]:
        for number in range(FRAMES):
            gc.collect()
            assert sum(image() is not None for image in alive) <= IMAGES_AT_ONCE + 1
            image = toy_image(NORMAL, number)
            alive.append(weakref.ref(image))
            yield f"toy/{number:06d}", image

    path = tmp_path / "once"
    _, seen = fit_normality(detector, images(), list(clean_frames()), 0.9, path)
    assert path.stat().st_size == 2 * seen.features.numel()
    assert len(seen.counted) == STRETCHES


@pytest.mark.parametrize("count", [1, 3, FEWEST_FRAMES - 1, FEWEST_FRAMES])
def test_few_frames_stop_nothing(measure: Measure, count: int) -> None:
    left_out = measure(clean_frames(count))
    assert len(left_out.frames) == len(left_out.maps) == (count if count >= FEWEST_FRAMES else 0)
    assert left_out.suspicious.empty


def test_equal_frames_are_not_suspicious(measure: Measure) -> None:
    assert measure(dict.fromkeys(clean_frames(30), toy_image(NORMAL))).suspicious.empty


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.45])
def test_less_than_half_of_the_frames_cannot_hide_themselves(share: float) -> None:
    distances = np.random.default_rng(0).normal(1, 0.1, 1000)
    distances[: int(1000 * share)] = 100
    limit = find_limit(distances, 8)
    assert 1.3 < limit < 6
    assert ((distances > limit).sum()) == int(1000 * share)
