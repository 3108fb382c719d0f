"""The node that lists what ingestion set aside, and says how many labels it used."""

import logging

import pandas as pd
from pyspark.sql import DataFrame

from cygnet.errors import counted
from cygnet.labels import REJECT_COLUMNS
from cygnet.pipelines.ingestion.frame_labels import count_unknown, known_frames, label_rows
from cygnet.pipelines.ingestion.splits import with_split
from cygnet.tables import ABNORMAL, NORMAL

logger = logging.getLogger(__name__)

UNKNOWN = "outside the labelled ranges"


def list_rejects(
    frames: DataFrame, source_splits: pd.DataFrame, frame_labels: pd.DataFrame, label_rejects: pd.DataFrame
) -> pd.DataFrame:
    """List everything that ingestion set aside, and why.

    Args:
        frames: The table `frames`.
        source_splits: The bounds of each source's splits.
        frame_labels: The labels of this run, by `frame_id`.
        label_rejects: The labels that found no image by their name.

    Returns:
        `source`, `frame_id`, `image_name` (of a label), `reason`, `count` (rows set aside for it).
    """
    failed = frames.filter("reason is not null").select("source", "frame_id", "reason").orderBy("frame_id").toPandas()
    good = frames.filter("reason is null").select("source", "frame_id", "timestamp_s")
    known = with_split(known_frames(good, frame_labels), source_splits)
    in_gaps = known.filter("split is null").groupBy("source").count().orderBy("source").toPandas()
    labels = label_rows(frame_labels)
    unused = (
        labels.join(frames, "frame_id", "left_anti").select("frame_id", "image_name").orderBy("frame_id").toPandas()
    )
    parts = [
        failed.assign(image_name="", count=1),
        in_gaps.assign(frame_id="", image_name="", reason="in the gap between two splits"),
        count_unknown(frame_labels).assign(frame_id="", image_name="", reason=UNKNOWN),
        unused.assign(source="", reason="a label for an image that is not there", count=1),
        label_rejects,
    ]
    rejects = pd.concat([part[REJECT_COLUMNS] for part in parts if len(part)] or [label_rejects], ignore_index=True)
    lost = len(unused) + int(label_rejects["count"].sum())
    _tell_labels(frame_labels[~frame_labels["frame_id"].isin([*unused["frame_id"], *failed["frame_id"]])], lost)
    if len(failed) or lost:
        logger.warning(
            "%s failed, %s found no image: see rejects.", counted(len(failed), "frame"), counted(lost, "label")
        )
    return rejects


def _tell_labels(used: pd.DataFrame, lost: int) -> None:
    """Log how many labels of a file are of frames that decoded, and how many of other ones."""
    of_file = used.loc[used["label_source"] != "folder", "label"]
    if len(of_file) or lost:
        logger.info(
            "Labels: %d abnormal, %d normal; %d for frames that are not here.",
            (of_file == ABNORMAL).sum(),
            (of_file == NORMAL).sum(),
            lost,
        )
