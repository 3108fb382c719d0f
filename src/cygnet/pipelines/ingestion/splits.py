"""Which frame belongs to which split: decided here, before anything is derived from a frame.

Neighbouring frames of a video are nearly the same image, so each source is cut in time, with a gap at each cut.
"""

from typing import TYPE_CHECKING

import pandas as pd

from cygnet.parameters.ingestion import Split

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

FEWEST_GAP_FRAMES = 3


def cut_spans(spans: pd.DataFrame, split: Split) -> pd.DataFrame:
    """Cut each source's decoded span into train, validation and test.

    The gap is the longer of `gap_s` and three sampled frames, half of it taken from either side of a cut.

    Args:
        spans: One row per source: `source`, `first_s`, `last_s` (of the frames that decoded), `frames` (how many).
        split: The shares and the gap.

    Returns:
        `source` and the bounds `train_until_s`, `validation_from_s`, `validation_until_s`, `test_from_s`, inclusive.
    """
    span_s = spans["last_s"] - spans["first_s"]
    spacing_s = span_s / (spans["frames"] - 1).clip(lower=1)
    half_gap_s = (FEWEST_GAP_FRAMES * spacing_s).clip(lower=split.gap_s) / 2
    train_end_s = spans["first_s"] + split.train_frac * span_s
    validation_end_s = spans["first_s"] + (split.train_frac + split.validation_frac) * span_s
    return pd.DataFrame(
        {
            "source": spans["source"],
            "train_until_s": train_end_s - half_gap_s,
            "validation_from_s": train_end_s + half_gap_s,
            "validation_until_s": validation_end_s - half_gap_s,
            "test_from_s": validation_end_s + half_gap_s,
        }
    )


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
