"""Labels of frames in Spark: which frames are known, and the events that the labels tell of."""

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's own documentation uses

from cygnet.model.evaluation.events import SPAN_COLUMNS, label_spans
from cygnet.spark import get_session, spark_schema
from cygnet.tables import ABNORMAL, FRAME_LABELS, NORMAL, parse_frame_id


def label_rows(frame_labels: pd.DataFrame) -> DataFrame:
    """Hand the table `FRAME_LABELS` to Spark."""
    rows = frame_labels.astype({"label": object}).where(frame_labels.notna(), None)
    return get_session().createDataFrame(rows, spark_schema(FRAME_LABELS))


def known_frames(frames: DataFrame, frame_labels: pd.DataFrame) -> DataFrame:
    """Leave out the frames whose label is unknown."""
    unknown = frame_labels[frame_labels["label"].isna()]
    return frames.join(F.broadcast(label_rows(unknown)), "frame_id", "left_anti") if len(unknown) else frames


def count_unknown(frame_labels: pd.DataFrame) -> pd.DataFrame:
    """Count the frames whose label is unknown: `source`, `count`."""
    unknown = frame_labels.loc[frame_labels["label"].isna(), "frame_id"]
    sources = unknown.map(lambda frame_id: parse_frame_id(frame_id)[0])
    return sources.value_counts().sort_index().rename_axis("source").reset_index(name="count")


def labelled_events(frames: DataFrame, frame_labels: pd.DataFrame, videos: set[str]) -> pd.DataFrame:
    """Find the events of videos: runs of frames that are labelled abnormal.

    Images of a folder are none, however many abnormal ones are neighbours.

    Args:
        frames: `source`, `frame_index`, `timestamp_s` of the frames that decoded.
        frame_labels: The table `FRAME_LABELS`.
        videos: The sources that are videos.

    Returns:
        `source`, `start_s`, `end_s`.
    """
    abnormal = frame_labels[frame_labels["label"].eq(ABNORMAL).fillna(False)]
    sources = videos & {parse_frame_id(frame_id)[0] for frame_id in abnormal["frame_id"]}
    if not sources:
        return pd.DataFrame(columns=SPAN_COLUMNS)
    times = frames.filter(F.col("source").isin(sorted(sources))).orderBy("source", "frame_index").toPandas()
    events, _ = label_spans(times, abnormal, NORMAL, max_gap_s=0)
    return events
