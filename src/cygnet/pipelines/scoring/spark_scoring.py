"""Scores sources on Spark's workers: each item is one task, and its scores come from the parts that it left."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any

import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's own documentation uses

from cygnet.endpoints.versions import ModelVersion, UnusableVersionError
from cygnet.errors import UserError
from cygnet.model.evaluation.events import TIME_DIGITS
from cygnet.model.evaluation.smoothing import SMOOTHED, smooth_scores
from cygnet.model.scoring.frame_scores import ITEMS, SCORED_ITEMS, FrameScoring, list_items, score_item
from cygnet.model.scoring.score_parts import PART, ScoreParts
from cygnet.model.serving.scorer import Settings
from cygnet.progress import shown_progress
from cygnet.spark import flat_map_rows, get_session, read_parquet, spark_schema
from cygnet.storage import folder_on_disk
from cygnet.vision.region import EVERYWHERE, Area

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoringRun:
    """What is known once all frames have their scores."""

    threshold: float  # score from which a frame is anomalous
    view: str  # which part of a frame was scored: square, whole or tiles
    frames_before: int  # taken from a run before this one
    frames_now: int  # scored in this run
    seconds: float  # that this run took to score them
    area: Area = EVERYWHERE  # what of a frame was looked at


def score_sources(
    sources: pd.DataFrame, score_parts: ScoreParts, settings: FrameScoring
) -> tuple[DataFrame, tuple[int, int, float]]:
    """Score what no run before this one has scored.

    Args:
        sources: The table of sources.
        score_parts: Where the workers write, and where the scores come from. Parts of other settings are removed.
        settings: How frames are scored.

    Returns:
        Rows of `PART` of all sources; and frames that an earlier run scored, frames that this one scored, and the
        seconds it took.
    """
    items = list_items(sources, settings)
    score_parts.keep_only({PurePath(settings.scorer_folder).name, *items["key"]})
    parts = [score_parts.item(key) for key in items["key"]]

    def count_rows() -> int:
        return sum(each.count_rows() for each in parts)

    before, begun_s = count_rows(), time.monotonic()
    if before:
        logger.info("%s frames are scored already, by a run before this one.", f"{before:,}")
    expected = int(items["expected_frames"].sum()) or None
    # to count is to list files, which may be on a lake
    with shown_progress("Scoring", "frames", lambda: (count_rows(), expected), poll_s=5):
        score_items(items[[not each.is_whole() for each in parts]], settings)
    seconds, now = time.monotonic() - begun_s, count_rows() - before
    rows = read_parquet(PART, *(each.folder for each in parts))
    return rows, (before, now, seconds)


def smooth_videos(rows: DataFrame, smoothing_s: float) -> DataFrame:
    """Smooth the scores of videos, one source at a time, see `smooth_scores`; rows and result are of `PART`."""
    schema = pa.schema([PART.field(name) for name in ("frame_id", *SMOOTHED)])

    def smooth(frames: pd.DataFrame) -> pd.DataFrame:
        return smooth_scores(frames, smoothing_s)[schema.names]

    good = rows.filter("reason is null").select("source", "media", "frame_index", "timestamp_s", *schema.names)
    smoothed = good.groupBy("source").applyInPandas(smooth, spark_schema(schema))
    return rows.drop(*SMOOTHED).join(smoothed, "frame_id", "left").select(*PART.names)


def read_model_settings(champion: ModelVersion, scorer_folder: str) -> Settings:
    """Read the calibration and the scene that a model carries.

    Raises:
        UnusableVersionError: It is of another version of Cygnet.
    """
    try:
        with folder_on_disk(scorer_folder) as folder:
            return Settings.load(folder)
    except ValueError as error:
        raise UnusableVersionError(champion, error) from error


def collect_scored(scores: DataFrame, columns: list[str]) -> pd.DataFrame:
    """Give columns of the frames that have a score: by source, in time order, `timestamp_s` to the microsecond.

    Raises:
        UserError: No frame has one.
    """
    rows = scores.filter("reason is null").select(columns).orderBy("source", "frame_index").toPandas()
    if rows.empty:
        failed = scores.select("reason").first()
        msg = f"Nothing could be scored: {failed['reason'] if failed else 'there are no frames'}."
        raise UserError(msg)
    return rows.round({"timestamp_s": TIME_DIGITS})


def count_failures(scores: DataFrame) -> pd.DataFrame:
    """Count the frames without a score: `source`, `reason`, `count`."""
    failed = scores.filter("reason is not null").groupBy("source", "reason").count()
    return failed.orderBy("source", "reason").toPandas()


def iterate_scored(scores: DataFrame, source: str, frames: list[int] | None = None) -> Iterator[dict[str, Any]]:
    """Give the rows of a source that have a score (or of some of its frames), by frame index; lazily."""
    rows = scores.filter((F.col("source") == F.lit(source)) & F.col("reason").isNull())
    if frames is not None:
        rows = rows.filter(F.col("frame_index").isin(frames))
    for row in rows.orderBy("frame_index").toLocalIterator():
        yield row.asDict()


def score_items(items: pd.DataFrame, settings: FrameScoring) -> None:
    """Score items on Spark's workers, each as a task of its own, the first ones first."""
    if items.empty:
        return
    rows = items.assign(position=range(len(items)))[ITEMS.names]
    tasks = get_session().createDataFrame(rows, spark_schema(ITEMS)).repartitionByRange(len(rows), "position")
    flat_map_rows(tasks, partial(score_item, scoring=settings, tasks=len(rows)), SCORED_ITEMS).collect()
