"""What reading a camera promises: the newest frames, the times of the stream, and patience while it is away."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from cygnet.addresses import with_password
from cygnet.errors import UserError
from cygnet.vision import live
from cygnet.vision.codec import encode_jpeg
from cygnet.vision.live import Camera, FrameBuffer, LiveFrame, Losses, Position, Reader
from cygnet.vision.video import Sample, sample_video
from support.cameras import camera
from support.rtsp import rtsp_camera

JPEGS = [encode_jpeg(np.full((64, 96, 3), 40 + 2 * index, np.uint8), 95) for index in range(60)]
SPACING_S = 0.05


def level_of(frame: LiveFrame) -> int:
    """Give the number of the image that a frame shows."""
    assert frame.sample.image is not None
    return round((float(frame.sample.image.mean()) - 40) / 2)


def reader_of(address: str, **changes: object) -> Camera:
    settings = {"interval_s": None, "buffer_frames": 64, "timeout_s": 1.0, "retry_s": 0.05, **changes}
    return Camera(name="cam", address=address, stopped=threading.Event(), **settings)  # type: ignore[arg-type]


def take(reader: Camera, count: int, within_s: float = 20.0) -> list[LiveFrame]:
    """Take so many frames, or all there are until reading ends."""
    frames: list[LiveFrame] = []
    until_s = time.monotonic() + within_s
    with reader.opened() as buffer:
        while len(frames) < count and not buffer.is_over:
            assert time.monotonic() < until_s
            frames += buffer.take(0.1)
    return frames


def test_frames_of_motion_jpeg_have_the_time_at_which_they_arrive() -> None:
    with camera(JPEGS, SPACING_S) as served:
        frames = take(reader_of(f"http://u:p@127.0.0.1:{served.server_port}/video"), 30)
    assert [level_of(frame) for frame in frames[:30]] == list(range(30))
    assert [frame.sample.index for frame in frames[:30]] == list(range(30))
    assert frames[0].sample.timestamp_s == 0.0
    passed_s = frames[29].sample.timestamp_s - frames[9].sample.timestamp_s
    assert passed_s == pytest.approx(20 * SPACING_S, rel=0.4)  # a clock of 25 per second would say 0.8 of it
    assert (frames[29].taken_at - frames[9].taken_at).total_seconds() == pytest.approx(passed_s, abs=0.1)


def test_a_camera_that_goes_away_is_waited_for_and_goes_on_after_the_gap(caplog: pytest.LogCaptureFixture) -> None:
    reader, frames = reader_of("", interval_s=None), []
    with caplog.at_level(logging.INFO), camera(JPEGS, SPACING_S) as first:
        port = first.server_port
        reader.address = f"http://127.0.0.1:{port}/video"
        with reader.opened() as buffer:
            while len(frames) < 10:
                frames += buffer.take(1.0)
            first.is_off.set()
            first.shutdown()
            first.server_close()
            time.sleep(1.0)
            frames += buffer.take(0)
            before = len(frames)
            with camera(JPEGS, SPACING_S, port):
                while len(frames) < before + 10:
                    frames += buffer.take(1.0)
    indices = [frame.sample.index for frame in frames]
    assert indices == list(range(len(frames)))
    assert [frame.segment for frame in frames] == sorted(frame.segment for frame in frames)
    gaps_s = np.diff([frame.sample.timestamp_s for frame in frames])
    assert gaps_s.argmax() == before - 1
    assert gaps_s.max() > 0.8
    assert frames[before].segment > frames[before - 1].segment
    assert reader.losses.outages == 1
    assert 0.5 < reader.losses.outage_s < 5
    told = [record.getMessage() for record in caplog.records if record.name == "cygnet.vision.live"]
    assert [line.split(":")[0].split(" after")[0] for line in told] == ["cam", "cam is back"]


def test_a_camera_that_falls_silent_counts_as_away() -> None:
    reader = reader_of("", timeout_s=0.5)
    with camera(JPEGS[:5], 0.01, silent_s=30.0) as served:
        reader.address = f"http://127.0.0.1:{served.server_port}/video"
        frames = take(reader, 10)
    assert frames[-1].segment == 1
    assert reader.losses.outages == 1


def test_a_read_that_never_returns_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(Camera, "read", lambda self: released.wait(60))
    monkeypatch.setattr("cygnet.vision.live.JOIN_S", 0.1)
    start_s = time.monotonic()
    with reader_of("0").opened() as buffer:
        assert buffer.take(0.05) == []
    released.set()
    assert time.monotonic() - start_s < 5


def test_a_file_plays_in_real_time_with_the_frames_and_times_of_the_file(write_video: Callable[..., Path]) -> None:
    path = write_video(frames=30, frames_per_s=20.0)
    start_s = time.monotonic()
    frames = take(reader_of(str(path), interval_s=0.1), 100)
    assert time.monotonic() - start_s > 1.3
    expected = list(sample_video(path, 0.1))
    assert [(frame.sample.index, frame.sample.timestamp_s) for frame in frames] == [
        (sample.index, sample.timestamp_s) for sample in expected
    ]


def test_a_file_of_which_nothing_decodes_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("no video")
    reader = reader_of(str(path))
    assert take(reader, 1) == []
    assert isinstance(reader.error, UserError)
    assert reader.error.message.startswith(f"source={path}: nothing in it decodes as video: convert it, `ffmpeg")


def test_a_run_goes_on_after_the_frames_of_the_one_before(write_video: Callable[..., Path]) -> None:
    earlier = Position("cam", 41, 8.0, frame_at(0).taken_at)
    frames = take(reader_of(str(write_video(frames=3)), position=earlier), 100)
    assert [frame.sample.index for frame in frames] == [42, 43, 44]
    assert frames[0].sample.timestamp_s > 8.0


def frame_at(index: int) -> LiveFrame:
    return LiveFrame("cam", "video", 0, Sample(index, index / 10, None), datetime(2026, 1, 1, tzinfo=UTC))


def test_a_full_buffer_leaves_out_the_oldest_and_counts_it() -> None:
    losses = Losses()
    buffer = FrameBuffer(3, losses, waits=False)
    for index in range(11):
        buffer.put(frame_at(index))
    taken = buffer.take(0)
    assert [frame.sample.index for frame in taken] == [8, 9, 10]
    assert [frame.follows_loss for frame in taken] == [True, False, False]
    assert losses.left_out == 8


def test_the_end_waits_for_a_call_that_reads_as_long_as_it_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Reader):
        def read(self) -> None:
            self.stopped.wait()
            time.sleep(0.3)

    monkeypatch.setattr(live, "JOIN_S", 0.0)
    before = threading.active_count()
    slow = Slow(name="cam", interval_s=None, buffer_frames=1, stopped=threading.Event(), timeout_s=5.0)
    with slow.opened():
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_a_buffer_that_waits_leaves_out_nothing() -> None:
    losses, taken = Losses(), []
    buffer = FrameBuffer(3, losses, waits=True)
    writer = threading.Thread(target=lambda: [buffer.put(frame_at(index)) for index in range(20)])
    writer.start()
    while len(taken) < 20:
        taken += [frame.sample.index for frame in buffer.take(1.0)]
    writer.join()
    assert (taken, losses.left_out) == (list(range(20)), 0)


def test_closing_releases_who_waits_for_room() -> None:
    buffer = FrameBuffer(1, Losses(), waits=True)
    writer = threading.Thread(target=lambda: [buffer.put(frame_at(index)) for index in range(5)])
    writer.start()
    time.sleep(0.05)
    buffer.close()
    writer.join(5)
    assert not writer.is_alive()
    assert len(buffer.take(0)) == 1
    assert buffer.is_over


def test_rtsp_has_the_times_of_the_stream_and_needs_the_password(capfd: pytest.CaptureFixture[str]) -> None:
    login = "me:re/eds@1"
    with rtsp_camera(JPEGS, SPACING_S, login) as served:
        address = with_password(f"rtsp://me@127.0.0.1:{served.server_address[1]}/yard", "re/eds@1")
        frames = take(reader_of(address, timeout_s=5.0), 30)
        refused = reader_of(f"rtsp://127.0.0.1:{served.server_address[1]}/yard")
        with refused.opened() as buffer:
            assert buffer.take(1.0) == []
    assert "WARN" not in capfd.readouterr().err.replace("WARNING", "")  # OpenCV's, at every try
    assert [level_of(frame) for frame in frames[:30]] == list(range(1, 31))
    times_s = [frame.sample.timestamp_s for frame in frames[:30]]
    np.testing.assert_allclose(times_s, SPACING_S * np.arange(30), atol=1e-3)
    assert refused.losses.outages == 1
