"""Nodes of ingestion. A bad row costs one row: it is set aside with its reason, and listed in `rejects`."""

import logging
from functools import partial

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's own documentation uses

from cygnet.area import read_area
from cygnet.errors import UserError
from cygnet.labels import REJECT_COLUMNS, label_by_time
from cygnet.parameters.ingestion import Ingestion
from cygnet.parameters.scene import SceneParameters
from cygnet.pipelines.ingestion.frame_labels import count_unknown, known_frames, label_rows, labelled_events
from cygnet.pipelines.ingestion.splits import cut_spans, with_split
from cygnet.pipelines.ingestion.views import cut_images, tell_what_is_seen
from cygnet.preflight import checked_before_run
from cygnet.scene import Scene
from cygnet.spark import flat_map_rows, get_session, spark_schema, spread_rows
from cygnet.tables import FRAMES, IMAGE_SIZE_PX, IMAGES, LABELS, SOURCES, SPLITS
from cygnet.vision.video import expected_rows, read_rows

logger = logging.getLogger(__name__)

UNKNOWN = "outside the labelled ranges"


@checked_before_run(read_area)
def record_scene(ingestion: Ingestion, scene: SceneParameters) -> Scene:
    """Record what this run's frames and images go through, for all later nodes; raises as `cygnet.area.read_area`."""
    region, ignore = read_area(scene)
    return Scene(
        interval_s=ingestion.interval_s,
        view=scene.view,
        crop_horizontal_bias=ingestion.crop_horizontal_bias,
        frame_jpeg_quality=ingestion.frame_jpeg_quality,
        image_jpeg_quality=ingestion.image_jpeg_quality,
        image_size_px=IMAGE_SIZE_PX,
        region=region,
        ignore=ignore,
    )


def read_frames(sources: pd.DataFrame, scene: Scene) -> DataFrame:
    """Sample every video, and read every image: spread over Spark's tasks, each decoded once.

    Args:
        sources: One row per file.
        scene: `interval_s`, `frame_jpeg_quality`.

    Returns:
        The table `frames`; a row that failed has a `reason` and no image.
    """
    read = partial(read_rows, interval_s=scene.interval_s, jpeg_quality=scene.frame_jpeg_quality)
    files = spread_rows(get_session().createDataFrame(sources, spark_schema(SOURCES)))
    return flat_map_rows(files, read, FRAMES, expected_rows(sources.to_dict("records"), scene.interval_s))


def label_frames(
    frames: DataFrame, frame_labels: pd.DataFrame, label_ranges: pd.DataFrame, label_rejects: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Label the frames of `frames` that lie in a labelled range of time: see `cygnet.labels.label_by_time`."""
    if label_ranges.empty:
        return frame_labels, label_rejects
    good = frames.filter("reason is null").select("source", "frame_index", "timestamp_s")
    wanted = good.filter(F.col("source").isin(sorted(set(label_ranges["source"]))))
    return label_by_time(wanted.orderBy("source", "frame_index").toPandas(), frame_labels, label_ranges, label_rejects)


def split_sources(
    frames: DataFrame, frame_labels: pd.DataFrame, sources: pd.DataFrame, ingestion: Ingestion
) -> pd.DataFrame:
    """Cut each source in time into train, validation and test, and no event of a video in two.

    Args:
        frames: The table `frames`.
        frame_labels: The labels of this run; frames that are unknown do not count.
        sources: The table `SOURCES`: which sources are videos.
        ingestion: `split`.

    Returns:
        One row per source with its media and the bounds of its splits, in seconds: see `cut_spans`.

    Raises:
        UserError: Nothing decoded, no frame lies in a labelled range, or a split has no frame.
    """
    good = known_frames(frames.filter("reason is null"), frame_labels).select("source", "frame_index", "timestamp_s")
    partial = count_unknown(frame_labels)["source"].tolist()
    train_frac = ingestion.split.train_frac
    spans = (
        good.withColumn("partial_s", F.when(F.col("source").isin(partial), F.col("timestamp_s")))
        .groupBy("source")
        .agg(
            F.min("timestamp_s").alias("first_s"),
            F.max("timestamp_s").alias("last_s"),
            F.count("*").alias("frames"),
            F.expr(f"percentile(partial_s, {train_frac})").alias("train_end_s"),
            F.expr(f"percentile(partial_s, {train_frac + ingestion.split.validation_frac})").alias("validation_end_s"),
        )
        .orderBy("source")
        .toPandas()
    )
    if spans.empty:
        reason = frames.filter("reason is not null").select("reason").first()
        msg = f"Nothing could be decoded: {reason['reason'] if reason else 'there are no frames'}."
        if frame_labels["label"].isna().any():
            msg = "labels: no frame lies in one of the labelled ranges; give ranges in seconds of the video."
        raise UserError(msg)
    events = labelled_events(good, frame_labels, set(sources.loc[sources["media"] == "video", "source"]))
    source_splits = cut_spans(spans, events, ingestion.split).merge(sources[["source", "media"]].drop_duplicates())
    counts = {row["split"]: row["count"] for row in with_split(good, source_splits).groupBy("split").count().collect()}
    empty = [name for name in SPLITS if not counts.get(name)]
    if empty:
        msg = (
            f"The split {' and '.join(empty)} has no frames, of {spans['frames'].sum()} that decoded: give a longer "
            f"video, or lower ingestion.interval_s ({ingestion.interval_s:g}) or ingestion.split.gap_s "
            f"({ingestion.split.gap_s:g})."
        )
        raise UserError(msg)
    logger.info(
        "%d frames of %d sources: %s; %d in the gaps.",
        spans["frames"].sum(),
        len(spans),
        ", ".join(f"{name} {counts[name]}" for name in SPLITS),
        counts.get(None, 0),
    )
    return source_splits


def make_images(
    frames: DataFrame, source_splits: pd.DataFrame, frame_labels: pd.DataFrame, scene: Scene, default_label: str
) -> DataFrame:
    """Crop, resize, label and split the frames that decoded.

    Args:
        frames: The table `frames`.
        source_splits: Media, and the bounds of the splits, of each source.
        frame_labels: The labels that are given, by `frame_id`.
        scene: `view`, `region`, `ignore`, `crop_horizontal_bias`, `image_jpeg_quality`.
        default_label: `normal` or `abnormal`, of frames that no label names.

    Returns:
        The table `images`: 256x256 JPEG, of each frame or tile. Frames in a gap or without a known label are left out.

    Raises:
        UserError: See `tell_what_is_seen`.
    """
    good = frames.filter("reason is null")
    tell_what_is_seen(good, scene)
    good = good.select("frame_id", "source", "timestamp_s", "width", "height", "image")
    rows = (
        with_split(known_frames(good, frame_labels), source_splits)
        .filter("split is not null")
        .join(F.broadcast(label_rows(frame_labels)), "frame_id", "left")
        .select(
            "frame_id",
            "split",
            F.coalesce("label", F.lit(LABELS[default_label])).alias("label"),
            F.coalesce("label_source", F.lit("default")).alias("label_source"),
            F.when(F.col("media") == "video", F.col("timestamp_s")).alias("timestamp_s"),
            *("width", "height", "image"),
        )
    )
    return flat_map_rows(rows, partial(cut_images, scene=scene), IMAGES)


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
    labels = label_rows(frame_labels)
    known = with_split(known_frames(good, frame_labels), source_splits)
    in_gaps = known.filter("split is null").groupBy("source").count().orderBy("source").toPandas()
    unused = labels.join(good, "frame_id", "left_anti").select("frame_id", "image_name").orderBy("frame_id").toPandas()
    parts = [
        failed.assign(image_name="", count=1),
        in_gaps.assign(frame_id="", image_name="", reason="in the gap between two splits"),
        count_unknown(frame_labels).assign(frame_id="", image_name="", reason=UNKNOWN),
        unused.assign(source="", reason="a label for an image that is not there", count=1),
        label_rejects,
    ]
    rejects = pd.concat([part[REJECT_COLUMNS] for part in parts if len(part)] or [label_rejects], ignore_index=True)
    if len(failed) or len(unused) or len(label_rejects):
        lost = len(unused) + len(label_rejects)
        logger.warning("%d frames failed, %d labels found no image: see rejects.", len(failed), lost)
    return rejects
