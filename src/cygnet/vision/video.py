"""Frames from videos and image files.

The header of a container is never trusted: index, time and number of frames come from the decoded frames. Frames
between two ticks are grabbed (decoded by the codec, not converted to pixels), which makes sparse sampling 1.3 to 1.6
times as fast as reading every frame. A failure becomes a row with a `reason`; the frames before it are kept.

A file on ADLS is read through a temporary copy, because OpenCV opens files by name. An unreachable ADLS is not a
property of a video: it raises.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Protocol

import cv2
import numpy as np

from cygnet.storage import is_remote, on_disk, read_bytes
from cygnet.tables import frame_id_of
from cygnet.vision.codec import decode_image, encode_jpeg

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm"})
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


FEWEST_PX = 16
"""A side of an image file; nothing can be seen on a smaller one."""
TICK_TOLERANCE_S = 1e-4
"""Containers store times in steps of up to a millisecond: 0.0999 s counts as the tick at 0.1 s."""


@dataclass(frozen=True)
class Sample:
    """One frame.

    Attributes:
        index: Position among the decoded frames, from 0.
        timestamp_s: Seconds since the first frame.
        image: `(H, W, 3)` uint8 BGR; None if it did not decode.
        reason: Why it did not decode.
    """

    index: int
    timestamp_s: float
    image: np.ndarray | None
    reason: str | None = None


class Capture(Protocol):
    """What is used of an OpenCV capture."""

    def grab(self) -> bool:
        """Decode the next frame; False: there is none."""

    def get(self, propId: int) -> float:  # noqa: N803 - OpenCV's name
        """Give a property."""

    def retrieve(self) -> tuple[bool, Any]:
        """Convert the decoded frame: `(H, W, 3)` uint8 BGR, and whether that worked."""


class ShortVideoError(ValueError):
    """Fewer frames decoded than the header declares; `index` and `timestamp_s` are those of the first missing one."""

    def __init__(self, message: str, index: int, timestamp_s: float) -> None:
        super().__init__(message)
        self.index = index
        self.timestamp_s = timestamp_s


def read_rows(source: dict[str, Any], interval_s: float, jpeg_quality: int) -> Iterator[dict[str, Any]]:
    """Turn one row of the table of sources into rows of `frames`.

    Args:
        source: See `read_samples`.
        interval_s: See `read_samples`.
        jpeg_quality: JPEG quality of the stored frames, 0-100.

    Yields:
        Rows of `cygnet.tables.FRAMES`; a frame that did not decode has a `reason` and no `image`.
    """
    for sample in read_samples(source, interval_s):
        yield _row(source["source"], sample, jpeg_quality)


def read_samples(source: dict[str, Any], interval_s: float | None, first_index: int = 0) -> Iterator[Sample]:
    """Read one row of the table of sources. A frame that does not decode is a sample with a reason.

    Args:
        source: `path`, `media` (`video` or `image`), `file_index` (position of an image in its folder).
        interval_s: Seconds between two samples of a video, None for every frame; for a folder, seconds between two
            images, all of which are read.
        first_index: Resumes a video at this frame: earlier frames are decoded but not converted, and not yielded.

    Yields:
        The samples, in order.
    """
    path = source["path"]
    if source["media"] == "image":
        yield _read_image(path, source["file_index"], source["file_index"] * (interval_s or 0.0))
        return
    try:
        yield from sample_video(path, interval_s, first_index)
    except ShortVideoError as error:
        if error.index >= first_index:
            yield Sample(error.index, error.timestamp_s, None, str(error))
    except FileNotFoundError:
        yield Sample(first_index, 0.0, None, f"{PurePath(path).name}: no such file")


def sample_video(path: str | Path, interval_s: float | None, first_index: int = 0) -> Iterator[Sample]:
    """Decode every frame, or the frames nearest to the ticks 0, `interval_s`, 2 `interval_s`, ... after the first one.

    A frame that is nearest to several ticks is yielded once. The choice is exact as long as the spacing of the frames
    varies by less than a quarter from one to the next. `first_index` leaves out the frames before it and does not
    affect the choice of the others; see `read_samples`.

    Raises:
        ShortVideoError: After the last good frame if the header declares more, or if nothing decodes.
        FileNotFoundError: A file on ADLS does not exist.
        UserError: ADLS can't be reached: see `cygnet.storage.reached`.
    """
    with _opened(path) as capture:
        yield from samples_of(capture, PurePath(path).name, interval_s, first_index)


def samples_of(capture: Capture, name: str, interval_s: float | None, first_index: int = 0) -> Iterator[Sample]:
    """Read what is open already, a file or a stream, as `sample_video` does.

    Args:
        capture: Where the frames come from.
        name: What error messages call it.
        interval_s: See `sample_video`.
        first_index: See `sample_video`.

    Raises:
        ShortVideoError: See `sample_video`.
    """
    if interval_s is None:
        yield from _every_frame(capture, name, first_index)
    else:
        yield from _nearest_to_ticks(capture, name, interval_s, first_index)


def read_frames(source: dict[str, Any], indices: Collection[int]) -> Iterator[Sample]:
    """Read some frames of one row of the table of sources; the others are not converted, nor decoded after the last.

    Args:
        source: See `read_samples`.
        indices: Positions among the decoded frames; of an image its own, else it is not read.

    Yields:
        The samples, in order; without those that the file does not have.
    """
    if source["media"] == "image":
        if source["file_index"] in indices:
            yield _read_image(source["path"], source["file_index"], 0.0)
        return
    last = max(indices, default=-1)
    with _opened(source["path"]) as capture:
        for index, time_s, _ in _grabbed(capture):
            if index in indices:
                yield _retrieve(capture, index, time_s)
            if index >= last:
                break


@contextmanager
def _opened(path: str | Path) -> Iterator[cv2.VideoCapture]:
    with on_disk(str(path)) as file:
        capture = cv2.VideoCapture(file, cv2.CAP_FFMPEG)
        try:
            yield capture
        finally:
            capture.release()


def expected_samples(path: str | Path, interval_s: float | None) -> int:
    """Estimate the number of samples from a video's header; only for showing progress.

    Returns:
        The estimate; 0 if it is unknown, as for a video on ADLS, which is not copied for this.
    """
    if is_remote(str(path)):
        return 0
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames, frames_per_s = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    if frames <= 0 or frames_per_s <= 0:
        return 0
    return round(min(frames, frames / frames_per_s / interval_s if interval_s else frames))


def expected_rows(sources: Iterable[Mapping[Any, Any]], interval_s: float | None) -> int:
    """Estimate the number of samples of all sources, rows with `path` and `media`: see `expected_samples`."""
    return sum(expected_samples(row["path"], interval_s) if row["media"] == "video" else 1 for row in sources)


def _every_frame(capture: Capture, name: str, first_index: int) -> Iterator[Sample]:
    header_frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    count, time_s, spacing_s = 0, 0.0, 0.0
    for index, time_s, spacing_s in _grabbed(capture):  # noqa: B007 - the last values are used below
        count = index + 1
        if index >= first_index:
            yield _retrieve(capture, index, time_s)
    _check_count(name, header_frames, count, time_s + spacing_s)


def _nearest_to_ticks(capture: Capture, name: str, interval_s: float, first_index: int) -> Iterator[Sample]:
    header_frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    tick, given = 0, first_index - 1  # next tick; index of the last yielded frame
    before: Sample | None = None  # last frame before that tick, if it may be the nearest
    count, time_s, spacing_s = 0, 0.0, interval_s
    for index, time_s, spacing_s in _grabbed(capture):
        count, sample = index + 1, None
        while tick * interval_s <= time_s + TICK_TOLERANCE_S:
            tick_s, tick = tick * interval_s, tick + 1
            if before and tick_s - before.timestamp_s <= time_s - tick_s + TICK_TOLERANCE_S:  # a tie: the earlier
                nearest = before
            else:
                nearest = sample = sample or _retrieve(capture, index, time_s, wanted=index >= first_index)
            if nearest.index > given:
                yield nearest
                given = nearest.index
        is_close = tick * interval_s - time_s <= 0.75 * spacing_s
        before = (sample or _retrieve(capture, index, time_s, wanted=index >= first_index)) if is_close else None
    if before and before.index > given and tick * interval_s - time_s <= 0.5 * spacing_s:
        yield before
    _check_count(name, header_frames, count, time_s + spacing_s)


def _check_count(name: str, header_frames: int, count: int, next_s: float) -> None:
    if count == 0:
        msg = f"{name}: nothing in it decodes as video"
        raise ShortVideoError(msg, 0, 0.0)
    if count < header_frames:
        msg = f"{name}: the header claims {header_frames} frames, {count} decode"
        raise ShortVideoError(msg, count, next_s)


def _grabbed(capture: Capture) -> Iterator[tuple[int, float, float]]:
    """Step through the frames without converting them: index, seconds since the first frame and the previous one."""
    frames_per_s = capture.get(cv2.CAP_PROP_FPS)
    spacing_s = 1 / frames_per_s if 0.01 < frames_per_s < 1000 else 0.04  # until the second frame
    index, first_s, time_s = 0, 0.0, 0.0
    while capture.grab():
        stamp_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if index == 0:
            first_s = stamp_s
        elif stamp_s - first_s > time_s:
            spacing_s, time_s = stamp_s - first_s - time_s, stamp_s - first_s
        else:  # a container without usable times: keep the spacing so far
            time_s += spacing_s
        yield index, time_s, spacing_s
        index += 1


def _retrieve(capture: Capture, index: int, time_s: float, *, wanted: bool = True) -> Sample:
    decoded, image = capture.retrieve() if wanted else (True, None)
    return Sample(index, time_s, image) if decoded else Sample(index, time_s, None, "the frame does not decode")


def _read_image(path: str, index: int, timestamp_s: float) -> Sample:
    name = PurePath(path).name
    try:
        image = decode_image(read_bytes(path))
    except (OSError, ValueError) as error:
        return Sample(index, timestamp_s, None, f"{name}: {error}")
    height, width = image.shape[:2]
    if min(height, width) < FEWEST_PX:
        reason = f"{name}: {width}x{height} px, at least {FEWEST_PX} px a side are needed"
        return Sample(index, timestamp_s, None, reason)
    return Sample(index, timestamp_s, image)


def _row(name: str, sample: Sample, jpeg_quality: int) -> dict[str, Any]:
    height, width = sample.image.shape[:2] if sample.image is not None else (0, 0)
    return {
        "frame_id": frame_id_of(name, sample.index),
        "source": name,
        "frame_index": sample.index,
        "timestamp_s": sample.timestamp_s,
        "width": width,
        "height": height,
        "image": encode_jpeg(sample.image, jpeg_quality) if sample.image is not None else None,
        "reason": sample.reason,
    }
