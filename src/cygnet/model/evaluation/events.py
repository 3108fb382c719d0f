"""From scores of single frames to events, and how well events meet what is labelled.

The rule, per source and in time order. An event opens at the first frame that scores at least the threshold. It goes on
over every frame that scores at least `close_frac` of the threshold, so that a score that trembles about the threshold
does not break it up. Events with at most `max_gap_s` between them are one. An event that lasts less than
`min_duration_s` is left out. Frames that did not decode change nothing.

A frame stands for the time until the next one, taken as the median spacing of its source: so a single frame has a
duration, and an event ends where its last frame does.
"""

from typing import Any

import numpy as np
import pandas as pd

from cygnet.parameters.scoring import Events
from cygnet.tables import ABNORMAL, NORMAL, parse_frame_id

EVENT_COLUMNS = ["source", "start_s", "end_s", "peak_score", "peak_frame_index"]
SPAN_COLUMNS = ["source", "start_s", "end_s"]

LONE_FRAME_S = 0.04
"""What the only frame of a source stands for."""

TOLERANCE_S = 1e-3
"""Containers store times in steps of up to a millisecond: three frames at 15 per second may last 0.1995 s."""

Run = tuple[int, int]
"""First and last place of consecutive frames, inclusive."""


def find_events(scores: pd.DataFrame, threshold: float, events: Events) -> pd.DataFrame:
    """Find the events of all sources.

    Args:
        scores: `source`, `frame_index`, `timestamp_s`, `anomaly_score` of the frames that have a score, by source in
            time order.
        threshold: Score from which a frame is anomalous, > 0 and <= 1.
        events: The numbers of the rule.

    Returns:
        `source`, `start_s`, `end_s`, `peak_score` and `peak_frame_index` (of the highest frame; the first, if several
        are), in the order of `scores`.
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
                rows.append((source, start_s, end_s, score[peak], index[peak]))
    return pd.DataFrame(rows, columns=EVENT_COLUMNS)


def label_spans(
    scores: pd.DataFrame, frame_labels: pd.DataFrame, default_label: int, max_gap_s: float
) -> tuple[pd.DataFrame, int]:
    """Find the spans of time that are labelled abnormal.

    A label is about the scored frame that is nearest to its own. Abnormal frames are one span if at most `max_gap_s`
    lies between them and no frame there is labelled normal.

    Args:
        scores: `source`, `frame_index`, `timestamp_s` of the frames that have a score, by source in time order.
        frame_labels: `frame_id` (`<source>/<frame index>`) and `label` of the labelled frames.
        default_label: Of every other frame.
        max_gap_s: See above.

    Returns:
        `source`, `start_s`, `end_s` of each span; and how many labels have no scored frame near them.
    """
    labelled = [parse_frame_id(frame_id) for frame_id in frame_labels["frame_id"]]
    labels = pd.DataFrame(labelled, columns=["source", "frame_index"]).assign(label=frame_labels["label"].to_numpy())
    rows, used = [], 0
    for source, frames in scores.groupby("source", sort=False):
        times_s, index = frames["timestamp_s"].to_numpy(), frames["frame_index"].to_numpy()
        of_source = labels[labels["source"] == source]
        places, is_near = _nearest_places(index, of_source["frame_index"].to_numpy(np.int64))
        places, given = places[is_near], of_source["label"].to_numpy()[is_near]
        used += len(places)
        is_normal, is_abnormal = np.zeros(len(index), bool), np.full(len(index), default_label == ABNORMAL)
        for label, value in ((NORMAL, False), (ABNORMAL, True)):  # of two labels near one frame, abnormal counts
            is_abnormal[places[given == label]] = value
            is_normal[places[given == label]] = not value
        spacing_s = frame_spacing_s(times_s)
        spans = _joined_runs(is_abnormal, is_normal, times_s, max_gap_s)
        rows += [(source, times_s[first], times_s[last] + spacing_s) for first, last in spans]
    return pd.DataFrame(rows, columns=SPAN_COLUMNS), len(frame_labels) - used


def measure_events(events: pd.DataFrame, spans: pd.DataFrame, scores: pd.DataFrame) -> dict[str, Any]:
    """Hold the events against the labelled spans.

    Args:
        events: `source`, `start_s`, `end_s`.
        spans: `source`, `start_s`, `end_s`: what is labelled abnormal.
        scores: `source`, `timestamp_s` of the frames that have a score.

    Returns:
        `spans`, `found` (spans that an event overlaps), `event_recall` (null without a span), `delay_s` (`median` and
        `max` from a found span's start to its first event, 0 if that began before; null if none is found),
        `false_alarms` (events that overlap no span), `normal_hours` (what is scored and not labelled abnormal),
        `false_alarms_per_hour` and `normal_in_events_frac` (share of the normal time that events cover: one event over
        everything finds all and is no false alarm); both null without normal time.
    """
    delays_s: list[float] = []
    is_alarm, abnormal_in_events_s = pd.Series(True, index=events.index), 0.0
    for source, start_s, end_s in spans[SPAN_COLUMNS].to_numpy():
        meets = (events["source"] == source) & (events["start_s"] < end_s) & (events["end_s"] > start_s)
        is_alarm &= ~meets
        met = events[meets]
        abnormal_in_events_s += (met["end_s"].clip(upper=end_s) - met["start_s"].clip(lower=start_s)).sum()
        if meets.any():
            delays_s.append(max(float(events.loc[meets, "start_s"].min() - start_s), 0.0))
    total_s = sum(
        len(times_s) * frame_spacing_s(times_s.to_numpy()) for _, times_s in scores.groupby("source")["timestamp_s"]
    )
    normal_s = max(float(total_s - (spans["end_s"] - spans["start_s"]).sum()), 0.0)
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
    """Give the time that each frame stands for, of the sorted times `(N,)` of a source, N >= 1."""
    return float(np.median(np.diff(times_s))) if len(times_s) > 1 else LONE_FRAME_S


def _open_frames(score: np.ndarray, threshold: float, close_frac: float) -> np.ndarray:
    """Tell for each frame whether an event is open: `(N,)` float32 to `(N,)` bool."""
    high, low = np.float32(threshold), np.float32(close_frac * threshold)
    opened = np.zeros(len(score), bool)
    is_open = False
    for place, value in enumerate(score):
        is_open = opened[place] = value >= (low if is_open else high)
    return opened


def _joined_runs(flags: np.ndarray, barriers: np.ndarray, times_s: np.ndarray, max_gap_s: float) -> list[Run]:
    """Find the runs of true values in `flags`, joined where at most `max_gap_s` and no barrier is between; `(N,)`."""
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


def _nearest_places(index: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find where in the sorted `index` `(N,)` the nearest to each wanted one is, and whether it is within one step."""
    after = np.searchsorted(index, wanted).clip(0, len(index) - 1)
    before = (after - 1).clip(0)
    places = np.where(np.abs(index[before] - wanted) <= np.abs(index[after] - wanted), before, after)
    step = np.median(np.diff(index)) if len(index) > 1 else 1
    return places, np.abs(index[places] - wanted) < step
