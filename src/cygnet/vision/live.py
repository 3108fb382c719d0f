"""Frames of a camera as they come: a network stream, a device, or a video file that plays like one.

A thread reads, so that what the camera sends never waits in a buffer of the network until it is old. It samples with
the code that reads files: a stream without loss gives the frames that its recording would give. `FrameBuffer` holds the
few newest frames; one that nobody has taken when the buffer is full is left out and counted.

A stream that ends, or sends nothing for `timeout_s`, is opened again until it comes back. What comes then is another
segment: nothing is compared or averaged over the gap. A call into FFmpeg or a driver that never returns holds up the
thread alone, which the end of the process takes along.

Times are those of the stream, where it has a clock. Motion JPEG over HTTP and devices have none: their frames get the
time at which they arrive. A file, and HTTP in segments, deliver faster than they play: their frames are held back.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import cv2
import numpy as np

from cygnet.addresses import is_url
from cygnet.errors import UserError
from cygnet.retry import backoff_s
from cygnet.vision.video import Sample, ShortVideoError, samples_of

logger = logging.getLogger(__name__)

JOIN_S = 2.0
"""How long the end waits for the reading thread, beyond what a call may take: to cut one off aborts the process."""

SHORTEST_GAP_S = 0.001
"""Between frames before and after an outage, should the clock have been set back."""

MOTION_JPEG = cv2.VideoWriter.fourcc(*"MJPG")


@dataclass(frozen=True)
class LiveFrame:
    """One frame, or one that did not decode."""

    source: str  # as tables name it
    media: str  # video or image
    segment: int  # frames of one segment follow each other without a gap
    sample: Sample  # `index` and `timestamp_s` go on over gaps and restarts
    taken_at: datetime  # UTC: when it arrived; of a file, when that was written
    finishes: str | None = None  # name of the file whose last frame this is
    follows_loss: bool = False  # whether frames right before it were left out


@dataclass(frozen=True)
class Position:
    """A place in the timeline of a source."""

    source: str
    index: int
    timestamp_s: float
    taken_at: datetime


@dataclass
class Losses:
    """What a source could not deliver."""

    left_out: int = 0  # frames that nobody took in time
    outages: int = 0
    outage_s: float = 0.0  # of the outages that are over


class FrameBuffer:
    """Hands frames from the reading thread to the scoring one.

    Args:
        size: Most frames that wait.
        losses: Counts what is left out.
        waits: Whether `put` waits for room; otherwise the oldest frame is left out.
    """

    def __init__(self, size: int, losses: Losses, *, waits: bool) -> None:
        self._frames: deque[LiveFrame] = deque()
        self._size, self._losses, self._waits = size, losses, waits
        self._changed = threading.Condition()
        self._is_closed = False

    def put(self, frame: LiveFrame) -> None:
        """Add a frame; nothing happens once the buffer is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or not self._waits or len(self._frames) < self._size)
            if self._is_closed:
                return
            self._frames.append(frame)
            if len(self._frames) > self._size:
                self._frames.popleft()
                self._frames[0] = replace(self._frames[0], follows_loss=True)
                self._losses.left_out += 1
            self._changed.notify_all()

    def take(self, timeout_s: float) -> list[LiveFrame]:
        """Take all frames that wait; wait for the first one at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or bool(self._frames), timeout_s)
            frames = list(self._frames)
            self._frames.clear()
            self._changed.notify_all()
        return frames

    def close(self) -> None:
        """Take no more frames; those that wait can still be taken."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @property
    def is_over(self) -> bool:
        """Whether no frame waits and none will come."""
        with self._changed:
            return self._is_closed and not self._frames


@dataclass(kw_only=True)
class Reader:
    """A source that a thread reads while it is open; a subclass says how in `read`."""

    name: str  # of the source, in tables
    interval_s: float | None  # seconds between two frames that are wanted; None: every frame
    buffer_frames: int
    stopped: threading.Event  # set from outside: read no more
    losses: Losses = field(default_factory=Losses)
    waits = False  # whether frames can wait where they are
    timeout_s: float = 0.0  # that a call which reads may take

    def __post_init__(self) -> None:
        """Make the buffer."""
        self.buffer = FrameBuffer(self.buffer_frames, self.losses, waits=self.waits)
        self._lost_s: float | None = None  # when the outage began, by the monotonic clock
        self.error: BaseException | None = None

    @contextmanager
    def opened(self) -> Iterator[FrameBuffer]:
        """Read into a buffer until the block ends."""
        thread = threading.Thread(target=self._run, name=f"read {self.name}", daemon=True)
        thread.start()
        try:
            yield self.buffer
        finally:
            self.stopped.set()
            self.buffer.close()
            thread.join(self.timeout_s + JOIN_S)

    def read(self) -> None:
        """Put frames into the buffer until there are no more, or `stopped` is set."""
        raise NotImplementedError

    def _run(self) -> None:
        try:
            self.read()
        except BaseException as error:  # the other thread raises it
            self.error = error
        finally:
            self.buffer.close()

    def lose(self, reason: str) -> None:
        """Note that the source is away; an outage is told once."""
        if self._lost_s is None and not self.stopped.is_set():
            self._lost_s = time.monotonic()
            self.losses.outages += 1
            logger.warning("%s: %s. Trying again until it is back.", self.name, reason)

    def find(self) -> None:
        """Note that the source is there."""
        if self._lost_s is not None:
            away_s = time.monotonic() - self._lost_s
            self.losses.outage_s += away_s
            self._lost_s = None
            logger.info("%s is back after %.1f s.", self.name, away_s)


@dataclass(kw_only=True)
class Camera(Reader):
    """A network stream, a device, or a video file in real time."""

    address: str = field(repr=False)  # with user and password if it needs them: never to be shown
    retry_s: float
    position: Position | None = None  # the frame before: an earlier run's, then its own

    @property
    def is_file(self) -> bool:
        """Whether it is a video file, which is read once."""
        return not is_url(self.address) and not self.address.isdecimal()

    def read(self) -> None:
        """Read the stream, and open it again when it is gone.

        Raises:
            UserError: It is a file of which no frame decodes.
        """
        attempts = segment = 0
        while not self.stopped.is_set():
            frames = 0
            for frame in self._read_once(segment):
                self.find()
                self.buffer.put(frame)
                frames += 1
            if self.is_file:
                return
            if frames:
                attempts, segment = 0, segment + 1
            self.lose("no frames come any more" if frames else "it can't be opened")
            self.stopped.wait(backoff_s(self.retry_s, attempts))
            attempts += 1

    def _read_once(self, segment: int) -> Iterator[LiveFrame]:
        """Read until the stream is gone; index and time go on after those of the frames before."""
        before, begun_s, offset_s = self.position, 0.0, 0.0
        with self._opened() as capture:
            for sample in self._samples(capture):
                if not begun_s:
                    begun_s = time.monotonic() - sample.timestamp_s
                    offset_s = _next_timestamp_s(before)
                if capture.is_early:
                    self.stopped.wait(max(begun_s + sample.timestamp_s - time.monotonic(), 0))
                index = sample.index + (before.index + 1 if before else 0)
                moved = replace(sample, index=index, timestamp_s=sample.timestamp_s + offset_s)
                self.position = Position(self.name, index, moved.timestamp_s, datetime.now(UTC))
                yield LiveFrame(self.name, "video", segment, moved, self.position.taken_at)

    def _samples(self, capture: "_LiveCapture") -> Iterator[Sample]:
        try:
            yield from samples_of(capture, self.name, self.interval_s)
        except ShortVideoError as error:  # a stream declares no number of frames to fall short of
            if not self.is_file or self.stopped.is_set():
                return
            if error.index == 0:
                msg = (
                    f"source={self.address}: nothing in it decodes as video: convert it, "
                    "`ffmpeg -i in.xyz -c:v libx264 out.mp4`."
                )
                raise UserError(msg) from None
            yield Sample(error.index, error.timestamp_s, None, str(error))

    @contextmanager
    def _opened(self) -> Iterator["_LiveCapture"]:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        if self.address.isdecimal():
            capture = cv2.VideoCapture(int(self.address))
        else:
            timeout_ms = round(self.timeout_s * 1000)
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
            capture = cv2.VideoCapture(self.address, cv2.CAP_FFMPEG, limits)
        try:
            yield _LiveCapture(capture, self)
        finally:
            capture.release()


class _LiveCapture:
    """A capture that ends when its camera is stopped, and tells arrival times where the stream has no clock."""

    def __init__(self, capture: cv2.VideoCapture, camera: Camera) -> None:
        self._capture, self._camera, self._arrived_s = capture, camera, 0.0
        is_http = camera.address.lower().startswith("http")
        has_clock = not camera.address.isdecimal() and not (
            is_http and int(capture.get(cv2.CAP_PROP_FOURCC)) == MOTION_JPEG
        )
        self._has_clock = has_clock
        self.is_early = has_clock and (is_http or camera.is_file)
        """Whether frames are delivered before they are due."""
        if camera.address.lower().startswith("rtsp"):  # FFmpeg gives the first two frames the same time
            capture.grab()

    def grab(self) -> bool:
        if self._camera.stopped.is_set():
            return False
        grabbed = self._capture.grab()
        self._arrived_s = time.monotonic()
        return grabbed

    def get(self, propId: int) -> float:  # noqa: N803 - OpenCV's name
        if propId == cv2.CAP_PROP_POS_MSEC and not self._has_clock:
            return self._arrived_s * 1000
        if propId == cv2.CAP_PROP_FRAME_COUNT and not self._camera.is_file:
            return 0.0
        return self._capture.get(propId)

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return self._capture.retrieve()


def _next_timestamp_s(before: Position | None) -> float:
    """Give the time of a frame that arrives now, after an earlier one."""
    if before is None:
        return 0.0
    return before.timestamp_s + max((datetime.now(UTC) - before.taken_at).total_seconds(), SHORTEST_GAP_S)
