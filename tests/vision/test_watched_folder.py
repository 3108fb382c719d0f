"""What watching a folder promises: each file once, when it is complete, in the order in which it was written."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cygnet.vision.codec import encode_png
from cygnet.vision.live import LiveFrame, Position
from cygnet.vision.video import read_samples
from cygnet.vision.watched_folder import WatchedFolder


class Watched:
    """A folder, and its reader with the frames so far."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        settings = {
            "interval_s": None,
            "buffer_frames": 4,
            "settle_s": 0.1,
            "image_interval_s": 0.5,
            "finished": set(),
            **changes,
        }
        self.reader = WatchedFolder(name="yard", folder=folder, stopped=threading.Event(), **settings)
        self.frames: list[LiveFrame] = []

    def until(self, count: int) -> list[LiveFrame]:
        """Take frames until there are so many, and a moment longer."""
        until_s = time.monotonic() + 10
        buffer = self.reader.buffer
        while len(self.frames) < count:
            assert time.monotonic() < until_s
            self.frames += buffer.take(0.1)
        time.sleep(0.3)
        self.frames += buffer.take(0)
        return self.frames


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give an empty folder."""
    path = tmp_path / "yard"
    path.mkdir()
    return path


def put(folder: Path, name: str, level: int, written_s: float) -> None:
    (folder / name).write_bytes(encode_png(np.full((16, 24, 3), level, np.uint8)))
    os.utime(folder / name, (written_s, written_s))


def test_images_are_read_as_they_arrive_with_the_time_between_them(folder: Path) -> None:
    put(folder, "b.png", 50, 1000.0)
    put(folder, "a.png", 60, 1002.5)
    (folder / "notes.txt").touch()
    (folder / ".upload.png").touch()
    watched = Watched(folder)
    with watched.reader.opened():
        watched.until(2)
        put(folder, "c.png", 70, 1002.6)
        frames = watched.until(3)
    assert [frame.sample.image.mean() for frame in frames] == [50, 60, 70]
    assert [frame.sample.index for frame in frames] == [0, 1, 2]
    assert [frame.sample.timestamp_s for frame in frames] == [0.0, 2.5, 3.0]
    assert [frame.finishes for frame in frames] == ["b.png", "a.png", "c.png"]
    assert {(frame.source, frame.media) for frame in frames} == {("yard", "image")}
    assert frames[1].taken_at.timestamp() == 1002.5


def test_a_file_is_read_when_it_is_complete(folder: Path) -> None:
    whole = encode_png(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    watched = Watched(folder, settle_s=0.4)
    with watched.reader.opened(), (folder / "slow.png").open("wb") as file:
        for start in range(0, len(whole), len(whole) // 8):
            file.write(whole[start : start + len(whole) // 8])
            file.flush()
            time.sleep(0.1)
        file.close()
        [frame] = watched.until(1)
    assert frame.sample.image is not None


def test_a_file_that_is_no_image_is_set_aside_with_a_reason(folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"no image")
    watched = Watched(folder)
    with watched.reader.opened():
        [frame] = watched.until(1)
    assert frame.sample.image is None
    assert "bad.png" in (frame.sample.reason or "")
    assert frame.finishes == "bad.png"


def test_a_video_is_a_source_of_its_own_and_goes_on_where_it_was_interrupted(
    folder: Path, write_video: Callable[..., Path]
) -> None:
    shutil.copy(write_video("clip.mp4", 12), folder)
    recording = {"path": str(folder / "clip.mp4"), "media": "video"}
    expected = [(sample.index, sample.timestamp_s) for sample in read_samples(recording, None)]
    for first in (0, 5):
        interrupted = Position("clip", first - 1, 0.0, datetime.now(UTC)) if first else None
        watched = Watched(folder, interrupted=interrupted)
        with watched.reader.opened():
            frames = watched.until(12 - first)
        assert [(frame.sample.index, frame.sample.timestamp_s) for frame in frames] == expected[first:]
        assert {(frame.source, frame.media) for frame in frames} == {("clip", "video")}
        assert [frame.finishes for frame in frames] == [None] * (11 - first) + ["clip.mp4"]


def test_what_an_earlier_run_has_stored_is_not_read_again(folder: Path) -> None:
    put(folder, "a.png", 50, 1000.0)
    put(folder, "b.png", 60, 1010.0)
    watched = Watched(folder, finished={"a.png"}, image=None)
    with watched.reader.opened():
        [frame] = watched.until(1)
    assert frame.finishes == "b.png"


def test_a_folder_that_goes_away_and_comes_back_is_an_outage(folder: Path) -> None:
    watched = Watched(folder)
    with watched.reader.opened():
        folder.rmdir()
        time.sleep(0.3)
        folder.mkdir()
        put(folder, "a.png", 50, 1000.0)
        watched.until(1)
    assert watched.reader.losses.outages == 1
    assert watched.reader.losses.outage_s > 0.1


def test_a_file_that_can_not_be_looked_at_does_not_hold_up_the_others(folder: Path) -> None:
    (folder / "loop.png").symlink_to("loop.png")
    put(folder, "a.png", 50, 1000.0)
    watched = Watched(folder)
    with watched.reader.opened():
        [frame] = watched.until(1)
    assert (frame.finishes, watched.reader.losses.outages) == ("a.png", 0)
