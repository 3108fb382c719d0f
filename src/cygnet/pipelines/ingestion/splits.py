"""Which frame belongs to which split: decided here, before anything is derived from a frame.

Neighbouring frames of a video are nearly the same image, so each source is cut in time, with a gap at each cut. A cut
that would divide an event moves to the nearer end of the event.
"""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cygnet.parameters.ingestion import Split

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

FEWEST_GAP_FRAMES = 3


def cut_spans(spans: pd.DataFrame, events: pd.DataFrame, split: Split) -> pd.DataFrame:
    """Cut each source's decoded span into train, validation and test.

    The gap is the longer of `gap_s` and three sampled frames, half of it taken from either side of a cut.

    Args:
        spans: One row per source: `source`, `first_s`, `last_s` (of the frames that decoded and are known), `frames`
            (how many); and `train_end_s`, `validation_end_s`: where other frames are unknown, the quantiles of the
            known ones' times, by which such a source is cut; else null.
        events: `source`, `start_s`, `end_s` of what is labelled abnormal.
        split: The shares and the gap.

    Returns:
        `source` and the bounds `train_until_s`, `validation_from_s`, `validation_until_s`, `test_from_s`, inclusive.
    """
    span_s = spans["last_s"] - spans["first_s"]
    spacing_s = span_s / (spans["frames"] - 1).clip(lower=1)
    half_gap_s = (FEWEST_GAP_FRAMES * spacing_s).clip(lower=split.gap_s) / 2
    train_end_s, validation_end_s = (
        spans[name].astype(float).fillna(spans["first_s"] + frac * span_s)
        for name, frac in (
            ("train_end_s", split.train_frac),
            ("validation_end_s", split.train_frac + split.validation_frac),
        )
    )
    cuts = [
        _move_out(events.loc[events["source"] == source, ["start_s", "end_s"]].to_numpy(float), *cuts_and_gap_s)
        for source, *cuts_and_gap_s in zip(spans["source"], train_end_s, validation_end_s, half_gap_s, strict=True)
    ]
    train_end_s, validation_end_s = (
        pd.Series(cut_s, index=spans.index, dtype=float) for cut_s in zip(*cuts, strict=True)
    )
    return pd.DataFrame(
        {
            "source": spans["source"],
            "train_until_s": train_end_s - half_gap_s,
            "validation_from_s": train_end_s + half_gap_s,
            "validation_until_s": validation_end_s - half_gap_s,
            "test_from_s": validation_end_s + half_gap_s,
        }
    )


def _move_out(
    events_s: np.ndarray, train_end_s: float, validation_end_s: float, half_gap_s: float
) -> tuple[float, float]:
    """Move each of the two cuts of a source to the nearer end of the event that it divides.

    Both cuts in one event move to its two ends, which leaves the event to validation.

    Args:
        events_s: `(N, 2)`, start and end of each event; none overlap.
        train_end_s: The first cut.
        validation_end_s: The second cut.
        half_gap_s: Frames this close to a cut are left out.
    """
    moved = []
    for cut_s in (train_end_s, validation_end_s):
        divided = events_s[(events_s[:, 0] < cut_s - half_gap_s) & (events_s[:, 1] > cut_s + half_gap_s)]
        before_s, after_s = (divided[0] + [-half_gap_s, half_gap_s]) if len(divided) else (cut_s, cut_s)
        moved.append((before_s, after_s, before_s if cut_s - before_s <= after_s - cut_s else after_s))
    (train_before_s, _, train_s), (_, validation_after_s, validation_s) = moved
    if train_s < validation_s:
        return train_s, validation_s
    return train_before_s, validation_after_s


def with_split(frames: "DataFrame", source_splits: pd.DataFrame) -> "DataFrame":
    """Add the column `split` to frames that have `source` and `timestamp_s`; null for a frame in a gap."""
    from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's own documentation uses

    from cygnet.spark import get_session

    bounds = get_session().createDataFrame(source_splits)
    return frames.join(F.broadcast(bounds), "source").withColumn("split", _split_column())


def _split_column() -> "Column":
    from pyspark.sql import functions as F  # noqa: N812

    time_s = F.col("timestamp_s")
    return (
        F.when(time_s <= F.col("train_until_s"), "train")
        .when(time_s.between(F.col("validation_from_s"), F.col("validation_until_s")), "validation")
        .when(time_s >= F.col("test_from_s"), "test")
    )
