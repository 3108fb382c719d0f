"""Watches a source: frames to scores, parts and alerts, until something ends it."""

import base64
import json
import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from cygnet.endpoints.outbox import Outbox
from cygnet.errors import UserError, counted
from cygnet.model.evaluation.live_events import LiveEvent
from cygnet.model.scoring.live_scores import LiveScorer
from cygnet.model.scoring.score_parts import digest
from cygnet.model.scoring.watch_parts import TableParts
from cygnet.parameters.watch import Watch
from cygnet.reports import AlertCounts
from cygnet.vision.live import LiveFrame, Losses, Reader

logger = logging.getLogger(__name__)

LOOK_S = 0.2
"""Between two looks at the clock where no frame comes."""

MOST_ROWS, MOST_ALERTS = 50_000, 1000
"""Newest ones that are kept while nothing can be stored: a frame takes about 3 kB, an alert with its picture 60 kB."""


@dataclass
class WatchRun:
    """What a run has seen so far."""

    source: str
    losses: Losses
    alerts: AlertCounts
    seconds: float = 0.0
    frames: int = 0  # with a score
    failed_frames: Counter[str] = field(default_factory=Counter)  # by reason
    anomalous_frames: int = 0
    events: int = 0  # that are certain
    delay_s: float = 0.0  # the sum over all frames
    longest_delay_s: float = 0.0


class Watcher:
    """Scores what a reader gives, stores it in parts, and sends an alert for each event."""

    def __init__(
        self, scorer: LiveScorer, reader: Reader, scores: TableParts, events: TableParts, outbox: Outbox
    ) -> None:
        self._scorer, self._reader = scorer, reader
        self._scores, self._events, self._outbox = scores, events, outbox
        self._rows: list[dict[str, Any]] = []  # of the next part
        self._over: list[dict[str, Any]] = []
        self._finished: list[str] = []
        self._alerts: list[tuple[str, bytes]] = []  # that are not in the outbox yet, each with its id
        self._problem: OSError | UserError | None = None  # why nothing can be stored
        self._begun_s = time.monotonic()
        self._run = WatchRun(reader.name, reader.losses, {"sent": 0, "waiting": 0, "refused": 0})
        self._last: tuple[float, float] | None = None  # delay and score of the last frame

    def watch(self, settings: Watch, stopped: threading.Event) -> None:
        """Take frames until there are no more, and store all of them.

        Raises:
            UserError: What was kept could not be stored in the end either.
        """
        self._begun_s = time.monotonic()
        next_part_s, next_status_s = settings.part_s, settings.status_s
        with self._reader.opened() as buffer:
            while not buffer.is_over:
                frames = buffer.take(LOOK_S)
                if frames:
                    self._take(frames)
                passed_s = time.monotonic() - self._begun_s
                if settings.duration_s is not None and passed_s >= settings.duration_s:
                    stopped.set()
                if stopped.is_set():
                    buffer.close()
                if passed_s >= next_part_s:
                    self._store()
                    next_part_s = passed_s + settings.part_s
                if passed_s >= next_status_s:
                    self._tell()
                    next_status_s = passed_s + settings.status_s
            self._end(self._scorer.close())
            self._store()  # before the thread that reads is waited for
            self._run.seconds = time.monotonic() - self._begun_s
            self._tell()
        if self._problem is not None:
            kept = f"{counted(len(self._rows), 'frame')}, {counted(len(self._over), 'event')}"
            msg = (
                f"{self._run.source}: {kept} and {counted(len(self._alerts), 'alert')} could not be stored "
                f"({self._problem}), and are lost: make room there, or let it be written, before you watch again."
            )
            raise UserError(msg)

    def run(self) -> WatchRun:
        """Give what was seen, once the outbox is closed."""
        outbox = self._outbox
        self._run.alerts = {"sent": outbox.sent, "waiting": outbox.count_waiting(), "refused": outbox.refused}
        return self._run

    def _take(self, frames: list[LiveFrame]) -> None:
        scores = self._scorer.score(frames)
        for event in scores.certain:
            logger.info(
                "%s: something abnormal since %.1f s, score %.3f.",
                event.start.source,
                event.start.timestamp_s,
                event.peak.anomaly_score,
            )
            self._alerts.append((alert_id(event), self._alert(event)))
        if scores.certain:
            self._run.events += len(scores.certain)
            self._try(self._post)
        self._end(scores.over)
        self._rows += scores.rows
        self._finished += [frame.finishes for frame in frames if frame.finishes]
        now = datetime.now(UTC)
        for row in scores.rows:
            if row["reason"] is not None:
                self._run.failed_frames[row["reason"]] += 1
                continue
            delay_s = (now - row["taken_at"]).total_seconds()
            self._last = delay_s, row["anomaly_score"]
            self._run.frames += 1
            self._run.anomalous_frames += row["is_anomalous"]
            self._run.delay_s += delay_s
            self._run.longest_delay_s = max(self._run.longest_delay_s, delay_s)

    def _end(self, events: list[LiveEvent]) -> None:
        self._over += [
            {
                "source": event.start.source,
                "start_s": event.start.timestamp_s,
                "end_s": event.end_s,
                "peak_score": event.peak.anomaly_score,
                "peak_frame_index": event.peak.frame_index,
                "alert_id": alert_id(event),
                "started_at": event.start.taken_at,
                "ended_at": event.last.taken_at,
                "model_version": self._scorer.model["version"],
            }
            for event in events
        ]

    def _store(self) -> None:
        """Write the next part; what can't be written now is kept for the one after it."""
        if self._try(self._write) and self._problem is not None:
            logger.info("%s: what is found can be stored again.", self._run.source)
            self._problem = None

    def _write(self) -> None:
        """Write scores before events, because a frame whose score is stored is not scored again."""
        self._post()
        self._scores.append(self._rows, self._finished)
        self._rows, self._finished = [], []
        self._events.append(self._over)
        self._over = []

    def _post(self) -> None:
        """Put the alerts into the outbox."""
        while self._alerts:
            self._outbox.put(*self._alerts[0])
            del self._alerts[0]

    def _try(self, write: Callable[[], None]) -> bool:
        """Write, and tell whether that went well; say once why not, and keep the newest of what there is."""
        try:
            write()
        except (OSError, UserError) as error:
            if self._problem is None:
                logger.warning(
                    "%s: what is found can't be stored (%s): it is tried again every watch.part_s, and the newest "
                    "%s frames are kept meanwhile.",
                    self._run.source,
                    error,
                    f"{MOST_ROWS:,}",
                )
            self._problem = error
            del self._rows[:-MOST_ROWS], self._over[:-MOST_ROWS], self._alerts[:-MOST_ALERTS]
            return False
        return True

    def _alert(self, event: LiveEvent) -> bytes:
        """Give what is sent when an event has become certain: see docs/watching.md."""
        data = {
            "id": alert_id(event),
            "source": event.start.source,
            "started_at": event.start.taken_at.isoformat(),
            "start_s": event.start.timestamp_s,
            "peak_at": event.peak.taken_at.isoformat(),
            "peak_s": event.peak.timestamp_s,
            "peak_score": event.peak.anomaly_score,
            "threshold": self._scorer.threshold,
            "model": self._scorer.model,
            "picture": base64.b64encode(self._scorer.picture(event)).decode(),
        }
        alert = {"type": "anomaly.started", "timestamp": datetime.now(UTC).isoformat(), "data": data}
        return json.dumps(alert).encode()

    def _tell(self) -> None:
        run, (delay_s, score) = self._run, self._last or (0.0, 0.0)
        logger.info(
            "%s: %s scored, %s left out, %s failed, %s; %.1f s behind, score %.3f.",
            run.source,
            counted(run.frames, "frame"),
            f"{run.losses.left_out:,}",
            f"{run.failed_frames.total():,}",
            counted(run.events, "event"),
            delay_s,
            score,
        )


def alert_id(event: LiveEvent) -> str:
    """Name an event: the same name if a file in a folder is read again after a kill."""
    start = event.start
    return digest([start.source, start.frame_index, start.taken_at.isoformat()])


@contextmanager
def stopped_by_signals(stopped: threading.Event) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM set an event until the block ends; the second one does what it did before."""
    if threading.current_thread() is not threading.main_thread():  # only that one may
        yield
        return
    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.getsignal(name) for name in names}

    def restore() -> None:
        for name, handler in before.items():
            signal.signal(name, handler)

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        restore()
        stopped.set()

    for name in names:
        signal.signal(name, stop)
    try:
        yield
    finally:
        restore()
