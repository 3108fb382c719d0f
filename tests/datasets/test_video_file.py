"""What a written video promises: every frame, and whole or not there."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from kedro.io import DatasetError

from cygnet.datasets.video_file import VideoFileDataset
from cygnet.vision.clip import Clip


def frames(count: int, fail_at: int | None = None) -> Iterator[np.ndarray]:
    """Frames that get brighter, and an error in the place of one."""
    for index in range(count):
        if index == fail_at:
            raise RuntimeError
        yield np.full((48, 64, 3), 40 + 10 * index, np.uint8)


def levels(path: Path) -> list[float]:
    """The mean grey level of every frame of a video."""
    capture, found = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        found.append(float(read[1].mean()))
    return found


def test_every_frame_is_written_at_its_rate(tmp_path: Path) -> None:
    path = tmp_path / "new" / "swan.mp4"
    dataset = VideoFileDataset(filepath=str(path))
    assert not dataset.exists()
    dataset.save(Clip(frames(12), 12.5))
    assert dataset.exists()
    assert levels(path) == pytest.approx([40 + 10 * index for index in range(12)], abs=5)
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    assert [each.name for each in path.parent.iterdir()] == ["swan.mp4"]


def test_writing_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "swan.mp4"
    dataset = VideoFileDataset(filepath=str(path))
    dataset.save(Clip(frames(4), 10.0))
    before = path.read_bytes()
    with pytest.raises(DatasetError):
        dataset.save(Clip(frames(9, fail_at=5), 10.0))
    assert path.read_bytes() == before
    dataset.save(Clip(frames(9), 10.0))
    assert len(levels(path)) == 9


def test_a_clip_without_frames_is_refused_whatever_a_run_before_left(tmp_path: Path) -> None:
    path = tmp_path / "swan.mp4"
    dataset = VideoFileDataset(filepath=str(path))
    with pytest.raises(DatasetError):
        dataset.save(Clip(frames(9, fail_at=5), 10.0))
    with pytest.raises(DatasetError, match="the clip has no frame"):
        dataset.save(Clip(frames(0), 10.0))
    assert not path.exists()
