"""A new calibration from normal video alone: the same network, other normal frames, another threshold.

The first half of every source's frames are the normal ones among which p-values are counted. The second half sets the
threshold, as in `calibrate`: by the share of normal frames that reach it, or by the events per hour that it raises.
Both are of smoothed scores with motion, as the pipeline scoring finds them.

False alarms are taken as a Poisson process. If the lowest threshold with at most k events in T hours has a rate above
r, then fewer than k + 1 events came of a rate above r: the probability of that is at most 5 % where r is the exact
upper limit of Garwood, "Fiducial limits for the Poisson distribution", 1936. Without an event it is 3.0 / T.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import chi2

from cygnet.errors import UserError
from cygnet.model.evaluation.calibrate import conformal_threshold, in_first_half, thin
from cygnet.model.evaluation.events import find_events, scored_s
from cygnet.model.evaluation.smoothing import smooth_scores
from cygnet.model.serving.scorer import Calibration, scores_of
from cygnet.parameters.scoring import Events, Scoring
from cygnet.progress import spell

CONFIDENCE = 0.95
ROWS_AT_ONCE = 10_000
"""Bounds the memory of p-values: 8 bytes for each row and each normal frame, a few times."""


@dataclass(frozen=True)
class Recalibration:
    """A new calibration, and what it does on the frames that set its threshold: the second half."""

    old: Calibration
    calibration: Calibration
    sources: list[str]  # names
    frames: int  # of both halves
    hours: float
    threshold_frames: int  # of the second half
    threshold_hours: float
    promised_fpr: float  # share of normal frames that the threshold lets be called anomalous
    alarms: int  # events
    anomalous_frac: float  # share of the frames that reach the threshold
    old_anomalous_frac: float  # the same by the calibration before


def recalibrate(frames: pd.DataFrame, old: Calibration, target_fpr: float, scoring: Scoring) -> Recalibration:
    """Calibrate on normal frames; temperature and what the score is made of stay.

    Args:
        frames: `frame_id`, `source`, `media`, `frame_index`, `timestamp_s`, `classifier_margin`, `normality_distance`
            and `motion` (NaN: none) of normal frames; each source in order of time.
        old: The calibration before.
        target_fpr: Share of normal frames that may be called anomalous, > 0 and < 1.
        scoring: `smoothing_s`, `events`, and `max_alarms_per_hour` that the threshold may raise, besides; None: any
            number.

    Raises:
        UserError: There is too little video for one of the two rates, and what it can promise.
    """
    is_first = in_first_half(frames["frame_id"])
    first, second = frames[is_first], frames[~is_first]
    if first.empty:
        msg = "Calibration needs sources with at least two normal frames each: give a longer video."
        raise UserError(msg)
    new = replace(
        old,
        rule="target_fpr" if scoring.max_alarms_per_hour is None else "max_alarms_per_hour",
        target_fpr=target_fpr,
        normal_margins=thin(first["classifier_margin"].to_numpy()),
        normal_distances=thin(first["normality_distance"].to_numpy()),
        left_out_distances=[],
        normal_motions=thin(first["motion"].dropna().to_numpy()),
    )
    scores, hours = _score(second, new, scoring.smoothing_s), scored_s(second) / 3600
    threshold, promised_fpr = conformal_threshold(scores["anomaly_score"].to_numpy(), target_fpr)
    if promised_fpr > target_fpr:
        msg = (
            f"The normal video is too short: the second half of its frames, {len(second)}, can promise that no more "
            f"than {promised_fpr:.3g} of normal frames are called anomalous, but the champion promises "
            f"{target_fpr:.3g}: give a longer video."
        )
        raise UserError(msg)
    if scoring.max_alarms_per_hour is not None:
        most_events = count_allowed(scoring.max_alarms_per_hour, hours)
        threshold = lowest_threshold(scores, most_events, scoring.events, at_least=threshold)
    return Recalibration(
        old,
        replace(new, threshold=threshold),
        sources=sorted(set(frames["source"])),
        frames=len(frames),
        hours=scored_s(frames) / 3600,
        threshold_frames=len(second),
        threshold_hours=hours,
        promised_fpr=target_fpr,
        alarms=len(find_events(scores, threshold, scoring.events)),
        anomalous_frac=_anomalous_frac(scores, threshold),
        old_anomalous_frac=_anomalous_frac(_score(second, old, scoring.smoothing_s), old.threshold),
    )


def rate_upper_bound(events: int, hours: float) -> float:
    """Give the highest rate per hour that so few events in so many hours leave possible, with 95 % confidence."""
    return float(chi2.ppf(CONFIDENCE, 2 * (events + 1))) / 2 / hours


def written_rate(per_hour: float) -> str:
    """Round a rate to three digits, as `5,390` or `0.0523`."""
    return f"{float(f'{per_hour:.3g}'):,g}"


def count_allowed(max_alarms_per_hour: float, hours: float) -> int:
    """Count the events that a rate allows in so much normal video.

    Raises:
        UserError: Even without an event, so much video does not prove the rate.
    """
    provable = rate_upper_bound(0, hours)
    if provable > max_alarms_per_hour:
        needed_hours = math.ceil(2 * 100 * hours * provable / max_alarms_per_hour) / 100
        msg = (
            f"The normal video is too short for scoring.max_alarms_per_hour={max_alarms_per_hour:g}: its second half, "
            f"{spell(3600 * hours)}, can promise at best {written_rate(provable)} alarms per hour: give "
            f"{needed_hours:,g} hours of normal video, or allow more alarms."
        )
        raise UserError(msg)
    return math.floor(max_alarms_per_hour * hours + 1e-9)


def lowest_threshold(scores: pd.DataFrame, most_events: int, events: Events, at_least: float) -> float:
    """Find the lowest threshold down to which normal video has few events.

    From the highest score down, each value just above a score is tried, until one gives more events. Below it there
    may be fewer again: a low threshold makes a single event of all frames.

    Args:
        scores: As for `find_events`, at least one row.
        most_events: >= 0.
        events: The rule of events.
        at_least: No threshold below is tried, > 0.

    Returns:
        A float32 value.
    """
    above = np.nextafter(np.unique(scores["anomaly_score"].to_numpy(np.float32)), np.float32(np.inf))[::-1]
    lowest = float(above[0])
    for threshold in map(float, above):
        if threshold < at_least or len(find_events(scores, threshold, events)) > most_events:
            break
        lowest = threshold
    return lowest


def scores_in_parts(frames: pd.DataFrame, calibration: Calibration) -> pd.DataFrame:
    """Compute `scores_of` for any number of frames, at least one, in bounded memory."""
    parts = (frames.iloc[start : start + ROWS_AT_ONCE] for start in range(0, len(frames), ROWS_AT_ONCE))
    return pd.concat([scores_of(part, calibration) for part in parts])


def _score(frames: pd.DataFrame, calibration: Calibration, smoothing_s: float) -> pd.DataFrame:
    """Add the smoothed scores of frames, as scoring computes them."""
    return smooth_scores(frames.join(scores_in_parts(frames, calibration)), smoothing_s)


def _anomalous_frac(scores: pd.DataFrame, threshold: float) -> float:
    return float((scores["anomaly_score"] >= np.float32(threshold)).mean())
