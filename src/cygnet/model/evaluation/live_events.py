"""Finds events frame by frame, by the rule of `events.find_events`, as far as that is possible without the future.

What a frame represents is estimated from the spacing of the frames so far, not of all. An event is certain once it has
lasted `min_duration_s`: from then on nothing that follows can take it back. It is over once nothing that follows can be
merged with it. Time of which the frames were left out does not end an event that is open before and after it.
"""

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from cygnet.model.evaluation.events import TOLERANCE_S, frame_spacing_s
from cygnet.parameters.scoring import Events

SPACINGS = 100
"""The spacing of frames is the median of so many."""


@dataclass(frozen=True)
class ScoredFrame:
    """What an event is made of."""

    source: str
    frame_index: int
    timestamp_s: float
    taken_at: datetime
    anomaly_score: float  # 0-1
    shown: Any = None  # kept of the peak, for a picture
    follows_loss: bool = False  # whether frames right before it were left out


@dataclass
class LiveEvent:
    """An event so far."""

    start: ScoredFrame
    last: ScoredFrame
    peak: ScoredFrame  # the first frame with the highest score
    spacing_s: float  # that a frame represents
    is_certain: bool = False

    @property
    def end_s(self) -> float:
        """When its last frame ends."""
        return self.last.timestamp_s + self.spacing_s


class EventFinder:
    """Finds the events of frames that follow each other without a gap."""

    def __init__(self, threshold: float, events: Events) -> None:
        self._high, self._low = np.float32(threshold), np.float32(events.close_frac * threshold)
        self._events = events
        self._times_s: deque[float] = deque(maxlen=SPACINGS + 1)
        self._is_open = False
        self._event: LiveEvent | None = None  # its last frame is the one before while `_is_open`

    def add(self, frame: ScoredFrame) -> tuple[LiveEvent | None, LiveEvent | None]:
        """Take the next frame.

        Returns:
            The event that this frame makes certain, and the certain event that is now over.
        """
        self._times_s.append(frame.timestamp_s)
        score = np.float32(frame.anomaly_score)
        was_open = self._is_open
        self._is_open = bool(score >= (self._low if self._is_open else self._high))
        spacing_s = frame_spacing_s(np.array(self._times_s))
        over, is_bridged = None, was_open and self._is_open and frame.follows_loss
        if (
            self._event
            and not is_bridged
            and frame.timestamp_s - self._event.last.timestamp_s - spacing_s > (self._events.max_gap_s + TOLERANCE_S)
        ):
            over = self.close()
        if not self._is_open:
            return None, over
        event = self._event = self._event or LiveEvent(frame, frame, frame, spacing_s)
        event.last, event.spacing_s = frame, spacing_s
        if score > np.float32(event.peak.anomaly_score):
            event.peak = frame
        if event.is_certain or event.end_s - event.start.timestamp_s < self._events.min_duration_s - TOLERANCE_S:
            return None, over
        event.is_certain = True
        return event, over

    def close(self) -> LiveEvent | None:
        """End the event that is open; give it if it is certain."""
        event, self._event = self._event, None
        return event if event and event.is_certain else None
