"""What the nodes promise of train frames that look contaminated: a list, a picture and one line for each run."""

import dataclasses
import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad
import pytest

from cygnet.model.training.results import Fitted, LeftOut
from cygnet.parameters.base import Parameters
from cygnet.pipelines.training.normality_nodes import draw_suspicious_frames, fit_subspace, list_suspicious_frames
from cygnet.tables import IMAGES, NORMAL, SUSPICIOUS_FRAMES_COLUMNS
from cygnet.vision.codec import encode_jpeg
from support.toys import SCENE, SMALL_VIT, toy_detector, toy_image

MAP = np.array([[0, 1], [0, 0]], np.float32)


def distances(count: int, suspicious: int, measured: int = 30, maps: int = 12) -> LeftOut:
    """So many frames, of which the first ones are above the limit 2."""
    names = [f"a/b/{number:06d}" for number in range(count)][:measured]
    values = [9.0 - number / 100 if number < suspicious else 1.0 - number / 100 for number in range(len(names))]
    frames = pd.DataFrame({"image_id": names, "distance": values})
    return LeftOut(frames, 2.0, dict.fromkeys(names[:maps], MAP))


def table(count: int, changed: int | None = None) -> pad.Dataset:
    images = [toy_image(NORMAL, number) for number in range(count)]
    if changed is not None:
        images[changed][:32, 32:] = 255 - images[changed][:32, 32:]
    return table_of(images)


def table_of(images: list[np.ndarray]) -> pad.Dataset:
    rows = []
    for number, image in enumerate(images):
        name = f"a/b/{number:06d}"
        keys = {
            "image_id": name,
            "frame_id": name,
            "tile": 0,
            "tiles": 1,
            "split": "train",
            "label": NORMAL,
            "label_source": "default",
        }
        rows.append({**keys, "image": encode_jpeg(image, 95)})
    return pad.dataset(pa.Table.from_pylist(rows, schema=IMAGES))


def test_the_list_has_its_columns_and_the_most_distant_frame_first() -> None:
    listed = list_suspicious_frames(distances(30, 3))
    assert list(listed.columns) == SUSPICIOUS_FRAMES_COLUMNS
    assert listed["source"].tolist() == ["a/b"] * 3
    assert listed["frame_index"].tolist() == [0, 1, 2]
    assert listed["distance"].tolist() == [9.0, 8.99, 8.98]
    assert (listed["limit"] == 2).all()
    assert list(list_suspicious_frames(distances(30, 0)).columns) == SUSPICIOUS_FRAMES_COLUMNS


@pytest.mark.parametrize(("suspicious", "level"), [(0, logging.INFO), (3, logging.WARNING)])
def test_one_line_tells_how_many_of_how_many(suspicious: int, level: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        list_suspicious_frames(distances(30, suspicious))
    (record,) = caplog.records
    assert record.levelno == level
    assert record.message.startswith(f"{suspicious or 'None'} of 30 normal train images look")
    assert "suspicious_frames.png" in record.message
    assert ("up to 9, limit 2" in record.message) == bool(suspicious)


@pytest.mark.parametrize(("suspicious", "shown"), [(0, 3), (1, 1), (4, 4), (30, 12)])
def test_the_figure_shows_suspicious_frames_or_the_most_distant_three(suspicious: int, shown: int) -> None:
    figure = draw_suspicious_frames(distances(30, suspicious), table(30))
    panels = [axis.images[0].get_array()[:, :, ::-1] for axis in figure.axes if axis.images]
    assert len(panels) == 2 * shown
    assert f"{suspicious or 'None'} of 30 normal train frames" in figure.get_suptitle()
    titles = [axis.get_title(loc="left") for axis in figure.axes if axis.get_title(loc="left")]
    assert [title.split(":")[0] for title in titles] == [f"a/b/{number:06d}" for number in range(shown)]
    changed = (panels[0] != panels[1]).any(axis=2)
    assert changed[:16, 48:].mean() > 0.9
    assert not changed[48:, :16].any()


def test_the_figure_is_drawn_if_nothing_was_measured() -> None:
    nothing = LeftOut(distances(30, 0).frames.head(0), float("inf"), {})
    assert not any(axis.images for axis in draw_suspicious_frames(nothing, table(5)).axes)
    assert list_suspicious_frames(nothing).empty


def test_a_contaminated_frame_of_the_table_is_listed(parameters: dict[str, Parameters]) -> None:
    settings = parameters["training"]
    normality = settings.normality.model_copy(update={"explained_frac": 0.9})
    training = settings.model_copy(update={"normality": normality})
    given = Fitted(toy_detector(SMALL_VIT), pd.DataFrame(), 0, 1.0)
    fitted, left_out = fit_subspace(given, table(40, changed=17), training, SCENE)
    assert fitted.detector is not given.detector
    listed = list_suspicious_frames(left_out)
    assert listed["frame_index"].tolist() == [17]


@pytest.mark.parametrize(("camera", "moves", "warns"), [("fixed", False, 0), ("fixed", True, 1), ("moving", False, 1)])
def test_a_camera_that_contradicts_the_frames_gets_a_warning_with_numbers(
    camera: str, moves: bool, warns: int, parameters: dict[str, Parameters], caplog: pytest.LogCaptureFixture
) -> None:
    still = toy_image(NORMAL, 0)
    noise = np.random.default_rng(0)
    frames = [noise.integers(0, 256, still.shape, np.uint8) if moves else still for _ in range(12)]
    if moves:  # coarse noise: every place of every frame is different
        frames = [np.kron(frame[:8, :8], np.ones((8, 8, 1), np.uint8)) for frame in frames]
    given = Fitted(toy_detector(SMALL_VIT), pd.DataFrame(), 0, 1.0)
    with caplog.at_level(logging.WARNING):
        fit_subspace(given, table_of(frames), parameters["training"], dataclasses.replace(SCENE, camera=camera))
    messages = [record.message for record in caplog.records if "scene.camera" in record.message]
    assert len(messages) == warns
    for message in messages:
        other = {"fixed": "moving", "moving": "fixed"}[camera]
        assert f"scene.camera is {camera}, but" in message
        assert f"set scene.camera={other}" in message


def test_of_clean_frames_the_largest_distance_of_its_tiles_counts() -> None:
    names = ["a/000001/tile-0", "a/000001/tile-1", "a/000002/tile-0", "a/000002/tile-1", "b/000001/tile-1"]
    frames = pd.DataFrame({"image_id": names, "distance": [0.5, 1.5, 9.0, 1.0, 0.7]})
    assert sorted(LeftOut(frames, 2.0, {}).clean_distances()) == [0.7, 1.0, 1.5]
    assert LeftOut(frames.head(0), float("inf"), {}).clean_distances() == []
