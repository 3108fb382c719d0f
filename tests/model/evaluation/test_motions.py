"""What the motion of normal frames promises: the values that scoring finds, of the first half, of video alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.dataset as pad
import pytest

from cygnet.model.evaluation import motions
from cygnet.model.evaluation.motions import measure_normal_motions
from cygnet.model.scoring.frame_scores import FrameScoring, see_frames
from cygnet.pipelines.ingestion.views import cut_images
from cygnet.tables import ABNORMAL, IMAGES, NORMAL, frame_id_of
from cygnet.vision.video import read_rows
from support.toys import SCENE

TILED = replace(SCENE, view="tiles", training_jpeg_quality=80)


@pytest.fixture
def video(tmp_path: Path, scene: Callable[..., np.ndarray]) -> Path:
    """Give a video of 24 frames, 10 per second, in which a square moves ever faster."""
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (400, 256))
    background = cv2.resize(scene(3), (400, 256))
    for number in range(24):
        frame = background.copy()
        left = number**2 // 2
        frame[100:140, left : left + 40] = 255
        writer.write(frame)
    writer.release()
    return path


def images_of(video: Path, **changes: object) -> list[dict[str, object]]:
    """Rows of `images` of a video that is validation as a whole."""
    source = {"source": "a", "path": str(video), "media": "video", "file_index": 0}
    frames = read_rows(source, 0.1, TILED.frame_jpeg_quality)
    place = {"split": "validation", "label": NORMAL, "label_source": "default", **changes}
    return [tile for frame in frames for tile in cut_images({**frame, **place}, TILED)]


def table(rows: list[dict[str, object]]) -> pad.Dataset:
    kept = [{name: row[name] for name in IMAGES.names} for row in rows]
    return pad.dataset(pa.Table.from_pylist(kept, schema=IMAGES))


def test_they_are_what_scoring_finds_in_the_first_half(video: Path) -> None:
    item = {"paths": [str(video)], "media": "video", "first_index": 0}
    seen = list(see_frames(item, FrameScoring("", "", "tiles", None, TILED)))
    expected = sorted(motion for frame in seen[:12] for motion in frame.motions)
    assert len(expected) == 11 * 2
    assert expected[-1] > 5
    shuffled = images_of(video)
    np.random.default_rng(0).shuffle(shuffled)
    assert measure_normal_motions(table(shuffled), TILED) == expected


def test_of_longer_video_runs_of_frames_are_measured(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = images_of(video)
    whole = measure_normal_motions(table(rows), TILED)
    monkeypatch.setattr(motions, "RUN_FRAMES", 3)
    assert measure_normal_motions(table(rows), TILED) == whole
    monkeypatch.setattr(motions, "MOST_RUNS", 3)
    fewer = measure_normal_motions(table(rows), TILED)
    assert len(fewer) == 2 * (2 + 2 + 2 + 1)  # of four runs the first, third and last: two of them follow each other
    assert set(fewer) <= set(whole)


def test_a_pair_with_a_frame_that_is_not_normal_does_not_count(video: Path) -> None:
    rows = images_of(video)
    whole = measure_normal_motions(table(rows), TILED)
    for row in rows:
        row["label"] = ABNORMAL if row["frame_id"] == frame_id_of("a", 6) else NORMAL
    fewer = measure_normal_motions(table(rows), TILED)
    assert len(fewer) == len(whole) - 2 * 2
    assert set(fewer) <= set(whole)


def test_other_splits_and_images_of_folders_have_none(video: Path) -> None:
    for rows in (images_of(video, split="train"), images_of(video, timestamp_s=None), []):
        assert measure_normal_motions(table(rows), TILED) == []
