"""What reading promises: the frame nearest to each tick, every good frame, and a reason for every bad one."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cygnet.tables import FRAMES
from cygnet.vision.codec import decode_image, encode_png
from cygnet.vision.video import expected_samples, read_frames, read_rows, read_samples, sample_video

WRITE_VIDEO = Callable[..., Path]


class FakeCapture:
    """A capture of frames with the given times; each frame shows its index, and retrieving is counted."""

    def __init__(self, times_s: np.ndarray, frames_per_s: float, *, header_frames: int | None = None) -> None:
        self.times_s, self.frames_per_s, self.header_frames = times_s, frames_per_s, header_frames
        self.index, self.retrieved = -1, []

    def get(self, key: int) -> float:
        """Give a property."""
        return {
            cv2.CAP_PROP_FRAME_COUNT: float(self.header_frames or len(self.times_s)),
            cv2.CAP_PROP_FPS: self.frames_per_s,
            cv2.CAP_PROP_POS_MSEC: float(self.times_s[max(self.index, 0)]) * 1000,
        }[key]

    def grab(self) -> bool:
        """Step to the next frame, if there is one."""
        self.index += 1
        return self.index < len(self.times_s)

    def retrieve(self) -> tuple[bool, np.ndarray]:
        """Make the pixels."""
        self.retrieved.append(self.index)
        return True, np.full((2, 2, 3), self.index, np.uint8)

    def release(self) -> None:
        """End."""
        self.index = len(self.times_s)


@pytest.fixture
def sample_fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Give a function that samples a fake capture and gives the indices, having checked times and pixels."""

    def sample(capture: FakeCapture, interval_s: float) -> list[int]:
        monkeypatch.setattr(cv2, "VideoCapture", lambda *_: capture)
        samples = list(sample_video(Path("fake.mp4"), interval_s))
        for each in samples:
            assert each.image is not None
            assert each.image[0, 0, 0] == each.index
            assert each.timestamp_s == pytest.approx(capture.times_s[each.index] - capture.times_s[0])
        return [each.index for each in samples]

    return sample


def nearest(times_s: np.ndarray, interval_s: float) -> list[int]:
    """The frames nearest to the ticks, each once: every tick is compared with every frame; a tie is the earlier's."""
    last_spacing_s = times_s[-1] - times_s[-2]
    ticks_s = np.arange(0, times_s[-1] - times_s[0] + last_spacing_s / 2 + 1e-6, interval_s)
    distances_s = np.abs((times_s - times_s[0])[None] - ticks_s[:, None])
    is_nearest = distances_s <= distances_s.min(axis=1, keepdims=True) + 1e-4
    return sorted(set(is_nearest.argmax(axis=1).tolist()))


def source(path: Path, media: str = "video", index: int = 0) -> dict[str, Any]:
    """A row of the table of sources."""
    return {"source": "swan", "path": str(path), "media": media, "file_index": index}


def grey(row: dict[str, Any]) -> float:
    """The mean grey level of a row's image."""
    return float(decode_image(row["image"]).mean())


def decode_all(path: Path) -> list[np.ndarray]:
    """All frames of a video, read one after the other."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames


def write_noise(path: Path, frames: int) -> None:
    """A video whose frames take up some bytes, so that half a frame shows."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (96, 64))
    for index in range(frames):
        noise = np.random.default_rng(index).integers(0, 255, (16, 24)).astype(np.uint8)
        writer.write(cv2.cvtColor(cv2.resize(noise, (96, 64)), cv2.COLOR_GRAY2BGR))
    writer.release()


@pytest.mark.parametrize("interval_s", [0.01, 0.1, 0.15, 0.25, 0.3, 0.37, 1.0, 2.0, 100.0])
@pytest.mark.parametrize("frames_per_s", [10.0, 12.5, 29.97])
def test_frame_nearest_to_each_tick_is_given_once(
    frames_per_s: float, interval_s: float, sample_fake: Callable[..., list[int]]
) -> None:
    times_s = np.arange(40) / frames_per_s
    assert sample_fake(FakeCapture(times_s, frames_per_s), interval_s) == nearest(times_s, interval_s)


@pytest.mark.parametrize("seed", range(20))
def test_frame_nearest_to_each_tick_is_given_when_the_spacing_varies(
    seed: int, sample_fake: Callable[..., list[int]]
) -> None:
    rng = np.random.default_rng(seed)
    spacings_s = 0.04 * np.exp(np.clip(np.cumsum(rng.uniform(-0.2, 0.2, 150)), -1, 1))
    times_s = np.concatenate([[0.5], 0.5 + np.cumsum(spacings_s)])
    interval_s = rng.uniform(0.02, 0.5)
    assert sample_fake(FakeCapture(times_s, 25.0), interval_s) == nearest(times_s, interval_s)


def test_container_without_times_goes_on_at_its_frame_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: FakeCapture(np.zeros(30), 10.0))
    samples = list(sample_video(Path("fake.mp4"), 1.0))
    assert [sample.index for sample in samples] == [0, 10, 20]
    assert [sample.timestamp_s for sample in samples] == pytest.approx([0, 1, 2])


@pytest.mark.parametrize("interval_s", [0.32, 1.0, 0.4])
def test_frames_that_are_skipped_are_not_retrieved(interval_s: float, sample_fake: Callable[..., list[int]]) -> None:
    capture = FakeCapture(np.arange(250) / 25, 25.0)
    kept = sample_fake(capture, interval_s)
    assert len(kept) <= 32
    assert set(capture.retrieved) >= set(kept)
    assert len(capture.retrieved) <= 2 * len(kept)
    assert len(capture.retrieved) == len(set(capture.retrieved))


def test_interval_of_whole_frames_retrieves_the_kept_frames_and_no_other(
    sample_fake: Callable[..., list[int]],
) -> None:
    capture = FakeCapture(np.arange(250) / 25, 25.0)
    assert sample_fake(capture, 0.4) == list(range(0, 250, 10)) == capture.retrieved


@pytest.mark.parametrize("interval_s", [0.1, 0.25])
@pytest.mark.parametrize(
    ("name", "codec", "frames_per_s"),
    [("a.mp4", "mp4v", 10.0), ("a.mp4", "mp4v", 12.5), ("a.avi", "MJPG", 12.5), ("a.mkv", "mp4v", 10.0)],
)
def test_real_file_gives_the_nearest_frames_with_their_pixels_and_times(
    name: str, codec: str, frames_per_s: float, interval_s: float, write_video: WRITE_VIDEO
) -> None:
    path = write_video(name, 30, frames_per_s, codec)
    frames = decode_all(path)
    rows = list(read_rows(source(path), interval_s, 95))
    indices = [row["frame_index"] for row in rows]
    assert indices == nearest(np.arange(30) / frames_per_s, interval_s)
    for row in rows:
        assert row["reason"] is None
        assert grey(row) == pytest.approx(frames[row["frame_index"]].mean(), abs=0.5)
        assert row["timestamp_s"] == pytest.approx(row["frame_index"] / frames_per_s, abs=1e-3)


def test_interval_shorter_than_the_spacing_gives_every_frame_once(write_video: WRITE_VIDEO) -> None:
    rows = list(read_rows(source(write_video(frames=12)), 0.01, 95))
    assert [row["frame_index"] for row in rows] == list(range(12))


@pytest.mark.parametrize("frames", [1, 12])
def test_interval_longer_than_the_video_gives_the_first_frame(frames: int, write_video: WRITE_VIDEO) -> None:
    rows = list(read_rows(source(write_video(frames=frames)), 3600.0, 95))
    assert [(row["frame_index"], row["timestamp_s"], row["reason"]) for row in rows] == [(0, 0.0, None)]


def test_row_has_the_columns_of_frames_in_their_order_and_its_size(write_video: WRITE_VIDEO) -> None:
    row = next(read_rows(source(write_video()), 0.1, 95))
    assert list(row) == FRAMES.names
    assert (row["frame_id"], row["source"]) == ("swan/000000", "swan")
    assert (row["width"], row["height"]) == (96, 64)


@pytest.mark.parametrize("kept_of_last_frame", [0.1, 0.5, 0.9])
def test_truncated_video_gives_its_whole_frames_unharmed_and_one_row_about_the_rest(
    kept_of_last_frame: float, tmp_path: Path
) -> None:
    path = tmp_path / "cut.avi"
    write_noise(path, frames=20)
    whole = decode_all(path)
    content = path.read_bytes()
    frame_places = [match.start() for match in re.finditer(b"00dc", content)]
    frame_places = [place for place in frame_places if place > content.index(b"movi")]
    start, end = frame_places[12:14]
    path.write_bytes(content[: int(start + kept_of_last_frame * (end - start))])
    *good, bad = read_rows(source(path), 0.1, 100)
    assert len(good) == 12
    for row, frame in zip(good, whole, strict=False):
        assert cv2.absdiff(decode_image(row["image"]), frame).mean() < 1
    assert_is_rejected(bad, index=len(good), reason=f"header claims 20 frames, {len(good)} decode")


def test_header_that_claims_more_frames_than_decode_is_told_in_one_row(write_video: WRITE_VIDEO) -> None:
    path = write_video("lie.avi", 30, 10.0, "MJPG")
    content = bytearray(path.read_bytes())
    avi_header, stream_header = content.index(b"avih") + 8, content.index(b"strh") + 8
    content[avi_header + 16 : avi_header + 20] = (99).to_bytes(4, "little")
    content[stream_header + 32 : stream_header + 36] = (99).to_bytes(4, "little")
    path.write_bytes(content)
    *good, bad = read_rows(source(path), 0.5, 95)
    assert [row["frame_index"] for row in good] == [0, 5, 10, 15, 20, 25]
    assert_is_rejected(bad, index=30, reason="header claims 99 frames, 30 decode")
    assert bad["timestamp_s"] == pytest.approx(3.0)


def test_header_that_claims_fewer_frames_than_decode_costs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    capture = FakeCapture(np.arange(30) / 10, 10.0, header_frames=7)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: capture)
    assert [row["reason"] for row in read_rows(source(Path("fake.mp4")), 0.1, 95)] == [None] * 30


@pytest.mark.parametrize("content", [b"", b"no video at all" * 99, None], ids=["empty", "garbage", "missing"])
def test_unreadable_file_is_one_row_with_a_reason(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "broken.mp4"
    if content is not None:
        path.write_bytes(content)
    (row,) = read_rows(source(path), 0.1, 95)
    assert_is_rejected(row, index=0, reason="broken.mp4: nothing in it decodes")


def test_frame_that_does_not_decode_costs_that_frame_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    capture = FakeCapture(np.arange(5) / 10, 10.0)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: capture)
    monkeypatch.setattr(capture, "retrieve", lambda: (capture.index != 2, np.zeros((2, 2, 3), np.uint8)))
    rows = list(read_rows(source(Path("fake.mp4")), 0.1, 95))
    assert [row["reason"] is None for row in rows] == [True, True, False, True, True]
    assert_is_rejected(rows[2], index=2, reason="does not decode")


def test_image_of_a_folder_is_a_row_at_its_place(tmp_path: Path) -> None:
    path = tmp_path / "shot_7.png"
    path.write_bytes(encode_png(np.full((30, 50, 3), 77, np.uint8)))
    (row,) = read_rows(source(path, "image", index=3), 0.5, 95)
    assert list(row) == FRAMES.names
    assert (row["frame_id"], row["frame_index"], row["timestamp_s"]) == ("swan/000003", 3, 1.5)
    assert (row["width"], row["height"], row["reason"]) == (50, 30, None)
    assert grey(row) == pytest.approx(77, abs=1)


@pytest.mark.parametrize("content", [b"", b"no image", None], ids=["empty", "garbage", "missing"])
def test_corrupt_image_of_a_folder_is_one_row_with_a_reason(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    (row,) = read_rows(source(path, "image", index=3), 0.5, 95)
    assert_is_rejected(row, index=3, reason="broken.png: ")


def test_without_an_interval_every_frame_is_given(sample_fake: Callable[..., list[int]]) -> None:
    capture = FakeCapture(np.cumsum(np.random.default_rng(0).uniform(0.001, 0.2, 40)), 25.0)
    assert sample_fake(capture, None) == list(range(40)) == capture.retrieved


@pytest.mark.parametrize("interval_s", [None, 0.01, 0.1, 0.25, 0.37, 2.0])
def test_reading_that_goes_on_gives_what_was_not_given_before(
    interval_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    times_s = np.cumsum(np.random.default_rng(1).uniform(0.08, 0.12, 60))

    def read(first_index: int) -> tuple[list[tuple[int, float, str | None]], list[int]]:
        capture = FakeCapture(times_s, 10.0, header_frames=70)
        monkeypatch.setattr(cv2, "VideoCapture", lambda *_: capture)
        samples = read_samples(source(Path("fake.mp4")), interval_s, first_index)
        return [(sample.index, sample.timestamp_s, sample.reason) for sample in samples], capture.retrieved

    whole, _ = read(0)
    for place in range(len(whole)):
        first_index = whole[place][0] + 1
        rest, retrieved = read(first_index)
        assert rest == whole[place + 1 :]
        assert all(index >= first_index for index in retrieved)


@pytest.mark.parametrize(("interval_s", "expected"), [(None, 30), (0.5, 6), (0.01, 30)])
def test_number_of_samples_is_expected_from_the_header(
    interval_s: float | None, expected: int, write_video: WRITE_VIDEO
) -> None:
    assert expected_samples(write_video(), interval_s) == expected
    assert expected_samples(Path("missing.mp4"), interval_s) == 0


def assert_is_rejected(row: dict[str, Any], index: int, reason: str) -> None:
    """The row has its own frame_id, no image, and a reason that says so."""
    assert list(row) == FRAMES.names
    assert (row["frame_index"], row["frame_id"]) == (index, f"swan/{index:06d}")
    assert (row["image"], row["width"], row["height"]) == (None, 0, 0)
    assert reason in row["reason"]


def test_frames_are_read_by_their_index_and_nothing_after_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    capture = FakeCapture(np.arange(20) / 10, 10.0)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: capture)
    released = []
    monkeypatch.setattr(capture, "release", lambda: released.append(capture.index))
    samples = list(read_frames(source(Path("fake.mp4")), [9, 3, 50]))
    assert [(each.index, each.image[0, 0, 0], each.timestamp_s) for each in samples] == [(3, 3, 0.3), (9, 9, 0.9)]
    capture.index, capture.retrieved = -1, []
    assert len(list(read_frames(source(Path("fake.mp4")), [9, 3]))) == 2
    assert (capture.retrieved, released[-1]) == ([3, 9], 9)


def test_an_image_is_read_only_if_its_index_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(np.full((16, 16, 3), 7, np.uint8)))
    row = {**source(tmp_path / "a.png"), "media": "image", "file_index": 5}
    (sample,) = read_frames(row, [5])
    assert (sample.index, sample.image[0, 0, 0]) == (5, 7)
    assert list(read_frames(row, [4])) == []
