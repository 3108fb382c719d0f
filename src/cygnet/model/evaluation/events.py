"""Turns the scores of frames into events, and compares events with labels.

The rule, for each source in order of time: an event starts at the first frame that scores at least the threshold, and
continues while frames score at least `close_frac` of the threshold. This hysteresis keeps a score that fluctuates
around the threshold from splitting an event. Events at most `max_gap_s` apart are merged; events shorter than
`min_duration_s` are dropped. Frames that did not decode are ignored.

A frame represents the time until the next one, estimated as the median spacing of its source. A single frame therefore
has a duration, and an event ends when its last frame does.
"""

import numpy as np
import pandas as pd

from cygnet.parameters.scoring import Events
from cygnet.reports import EventMetrics
from cygnet.tables import ABNORMAL, NORMAL, frame_id_of, parse_frame_id

EVENT_COLUMNS = ["source", "start_s", "end_s", "peak_score", "peak_frame_index"]
SPAN_COLUMNS = ["source", "start_s", "end_s"]

LONE_FRAME_S = 0.04
"""Time that the only frame of a source represents."""

TIME_DIGITS = 6
"""Seconds are given to the microsecond: less would falsify the time from frame to frame, more shows rounding errors."""
TOLERANCE_S = 1e-3
"""Containers store times in steps of up to a millisecond: three frames at 15 per second may last 0.1995 s."""

Run = tuple[int, int]
"""First and last position of consecutive frames, inclusive."""


def find_events(scores: pd.DataFrame, threshold: float, events: Events) -> pd.DataFrame:
    """Find the events of all sources.

    Args:
        scores: `source`, `frame_index`, `timestamp_s`, `anomaly_score` of the frames that have a score; each source in
            order of time.
        threshold: Score from which a frame is anomalous, > 0 and <= 1.
        events: The parameters of the rule.

    Returns:
        `source`, `start_s`, `end_s`, `peak_score` and `peak_frame_index` (the first frame with the highest score), in
        the order of `scores`.
    """
    rows = []
    for source, frames in scores.groupby("source", sort=False):
        times_s = frames["timestamp_s"].to_numpy()
        score, index = frames["anomaly_score"].to_numpy(np.float32), frames["frame_index"].to_numpy()
        spacing_s = frame_spacing_s(times_s)
        is_open = _open_frames(score, threshold, events.close_frac)
        for first, last in _joined_runs(is_open, np.zeros_like(is_open), times_s, events.max_gap_s):
            start_s, end_s = times_s[first], times_s[last] + spacing_s
            if end_s - start_s >= events.min_duration_s - TOLERANCE_S:
                peak = first + int(score[first : last + 1].argmax())
                rows.append((source, start_s.round(TIME_DIGITS), end_s.round(TIME_DIGITS), score[peak], index[peak]))
    return pd.DataFrame(rows, columns=EVENT_COLUMNS)


def label_spans(
    scores: pd.DataFrame, frame_labels: pd.DataFrame, default_label: int, max_gap_s: float
) -> tuple[pd.DataFrame, int]:
    """Find the spans of time that are labelled abnormal.

    A label applies to the scored frame nearest to its own frame. Abnormal frames form one span if they are at most
    `max_gap_s` apart and no frame between them is labelled normal.

    Args:
        scores: `source`, `frame_index`, `timestamp_s` of the frames that have a score; each source in order of time.
        frame_labels: `frame_id` and `label` of the labelled frames; a null label says nothing.
        default_label: The label of every other frame.
        max_gap_s: See above.

    Returns:
        `source`, `start_s`, `end_s` of each span; and the number of labels that have no scored frame nearby.
    """
    known = frame_labels[frame_labels["label"].notna()]
    labelled = [parse_frame_id(frame_id) for frame_id in known["frame_id"]]
    labels = pd.DataFrame(labelled, columns=["source", "frame_index"]).assign(label=known["label"].to_numpy(np.int64))
    rows, used = [], 0
    for source, frames in scores.groupby("source", sort=False):
        times_s, index = frames["timestamp_s"].to_numpy(), frames["frame_index"].to_numpy()
        of_source = labels[labels["source"] == source]
        nearest, is_near = _nearest(index, of_source["frame_index"].to_numpy(np.int64))
        nearest, given = nearest[is_near], of_source["label"].to_numpy()[is_near]
        used += len(nearest)
        is_normal, is_abnormal = np.zeros(len(index), bool), np.full(len(index), default_label == ABNORMAL)
        for label, value in ((NORMAL, False), (ABNORMAL, True)):  # abnormal last: it wins where both are nearest
            is_abnormal[nearest[given == label]] = value
            is_normal[nearest[given == label]] = not value
        spacing_s = frame_spacing_s(times_s)
        spans = _joined_runs(is_abnormal, is_normal, times_s, max_gap_s)
        rows += [(source, times_s[first], times_s[last] + spacing_s) for first, last in spans]
    return pd.DataFrame(rows, columns=SPAN_COLUMNS), len(known) - used


def measure_known_events(
    events: pd.DataFrame, spans: pd.DataFrame, scores: pd.DataFrame, frame_labels: pd.DataFrame
) -> EventMetrics:
    """Compare the events with the labelled spans, without frames whose label is unknown and events that peak there.

    Args:
        events: As for `measure_events`, with `peak_frame_index`.
        spans: As for `measure_events`.
        scores: As for `measure_events`, with `frame_index`.
        frame_labels: `frame_id` and `label`, null where unknown.
    """
    unknown = set(frame_labels.loc[frame_labels["label"].isna(), "frame_id"])
    of_events, of_scores = (
        np.array([frame_id_of(*key) not in unknown for key in rows[["source", name]].to_numpy()], bool)
        for rows, name in ((events, "peak_frame_index"), (scores, "frame_index"))
    )
    return measure_events(events[of_events], spans, scores[of_scores])


def measure_events(events: pd.DataFrame, spans: pd.DataFrame, scores: pd.DataFrame) -> EventMetrics:
    """Compare the events with the labelled spans.

    One event that covers everything finds every span and is not a false alarm; `normal_in_events_frac` exposes it.

    Args:
        events: `source`, `start_s`, `end_s`.
        spans: `source`, `start_s`, `end_s` of what is labelled abnormal.
        scores: `source`, `timestamp_s` of the frames that have a score.
    """
    delays_s: list[float] = []
    is_alarm, abnormal_in_events_s = pd.Series(True, index=events.index), 0.0
    for source, start_s, end_s in spans[SPAN_COLUMNS].to_numpy():
        overlaps = (events["source"] == source) & (events["start_s"] < end_s) & (events["end_s"] > start_s)
        is_alarm &= ~overlaps
        found = events[overlaps]
        abnormal_in_events_s += (found["end_s"].clip(upper=end_s) - found["start_s"].clip(lower=start_s)).sum()
        if len(found):
            delays_s.append(max(float(found["start_s"].min() - start_s), 0.0))
    normal_s = max(float(scored_s(scores) - (spans["end_s"] - spans["start_s"]).sum()), 0.0)
    normal_in_events_s = max(float((events["end_s"] - events["start_s"]).sum() - abnormal_in_events_s), 0.0)
    has_normal = normal_s > TOLERANCE_S
    return {
        "spans": len(spans),
        "found": len(delays_s),
        "event_recall": len(delays_s) / len(spans) if len(spans) else None,
        "delay_s": {"median": float(np.median(delays_s)), "max": max(delays_s)} if delays_s else None,
        "false_alarms": int(is_alarm.sum()),
        "normal_hours": normal_s / 3600,
        "false_alarms_per_hour": float(is_alarm.sum()) * 3600 / normal_s if has_normal else None,
        "normal_in_events_frac": min(normal_in_events_s / normal_s, 1.0) if has_normal else None,
    }


def frame_spacing_s(times_s: np.ndarray) -> float:
    """Estimate the seconds that each frame represents, from the sorted times `(N,)` of a source, N >= 1."""
    return float(np.median(np.diff(times_s))) if len(times_s) > 1 else LONE_FRAME_S


def scored_s(scores: pd.DataFrame) -> float:
    """Sum up the seconds that frames represent; arguments as `measure_events`."""
    times_of_sources = scores.groupby("source")["timestamp_s"]
    return float(sum(len(times_s) * frame_spacing_s(times_s.to_numpy()) for _, times_s in times_of_sources))


def _open_frames(score: np.ndarray, threshold: float, close_frac: float) -> np.ndarray:
    """Tell for each frame whether an event is open: `(N,)` float32 to `(N,)` bool."""
    place = np.arange(len(score))
    last_high, last_closed = (
        np.maximum.accumulate(np.where(flags, place, -1))
        for flags in (score >= np.float32(threshold), score < np.float32(close_frac * threshold))
    )
    return last_high > last_closed


def _joined_runs(flags: np.ndarray, barriers: np.ndarray, times_s: np.ndarray, max_gap_s: float) -> list[Run]:
    """Find the runs of true values in `flags`, and join those at most `max_gap_s` apart without a barrier between them.

    `flags`, `barriers` and `times_s` are `(N,)`, one value per frame in order of time.
    """
    spacing_s = frame_spacing_s(times_s)
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    runs: list[Run] = []
    for first, end in edges.tolist():
        if runs:
            start, before = runs[-1]
            gap_s = times_s[first] - times_s[before] - spacing_s
            if gap_s <= max_gap_s + TOLERANCE_S and not barriers[before + 1 : first].any():
                runs[-1] = (start, end - 1)
                continue
        runs.append((first, end - 1))
    return runs


def _nearest(index: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the position in the sorted `index` `(N,)` nearest to each wanted one, and whether it is within one step."""
    after = np.searchsorted(index, wanted).clip(0, len(index) - 1)
    before = (after - 1).clip(0)
    nearest = np.where(np.abs(index[before] - wanted) <= np.abs(index[after] - wanted), before, after)
    step = np.median(np.diff(index)) if len(index) > 1 else 1
    return nearest, np.abs(index[nearest] - wanted) < step
