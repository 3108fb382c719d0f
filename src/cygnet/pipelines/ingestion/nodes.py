"""Nodes of ingestion up to `images`. A bad row costs one row: it is set aside with its reason, see `reject_nodes`."""

import logging
from functools import partial

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's own documentation uses

from cygnet.area import read_area
from cygnet.errors import UserError, counted
from cygnet.labels import label_by_time
from cygnet.parameters.ingestion import Ingestion
from cygnet.parameters.scene import SceneParameters
from cygnet.pipelines.ingestion.frame_labels import count_unknown, known_frames, label_rows, labelled_events
from cygnet.pipelines.ingestion.splits import cut_spans, with_split
from cygnet.pipelines.ingestion.views import check_first_frame, cut_images, tell_what_is_seen
from cygnet.preflight import checked_before_run
from cygnet.scene import Scene
from cygnet.spark import flat_map_rows, get_session, spark_schema, spread_rows
from cygnet.tables import FRAMES, IMAGE_SIZE_PX, IMAGES, LABELS, NORMAL, SOURCES, SPLITS
from cygnet.vision.video import expected_rows, read_rows

logger = logging.getLogger(__name__)


def record_scene(ingestion: Ingestion, scene: SceneParameters, sources: pd.DataFrame) -> Scene:
    """Record what frames and images go through, for later nodes; raises as `read_area` and `check_first_frame`."""
    region, ignore = read_area(scene)
    recorded = Scene(
        interval_s=ingestion.interval_s,
        view=scene.view,
        crop_horizontal_bias=ingestion.crop_horizontal_bias,
        frame_jpeg_quality=ingestion.frame_jpeg_quality,
        image_jpeg_quality=ingestion.image_jpeg_quality,
        image_size_px=IMAGE_SIZE_PX,
        region=region,
        ignore=ignore,
    )
    check_first_frame(sources, recorded)
    return recorded


checked_before_run(record_scene)(record_scene)  # an area that can't be used must not leave a record behind


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
    frames: DataFrame,
    frame_labels: pd.DataFrame,
    label_ranges: pd.DataFrame,
    sources: pd.DataFrame,
    ingestion: Ingestion,
) -> pd.DataFrame:
    """Cut each source in time into train, validation and test, and no event of a video in two.

    Args:
        frames: The table `frames`.
        frame_labels: The labels of this run; frames that are unknown do not count.
        label_ranges: The labelled ranges of time, which the sentence names where they leave nothing.
        sources: The table `SOURCES`: which sources are videos.
        ingestion: `split`, `default_label`.

    Returns:
        One row per source with its media and the bounds of its splits, in seconds: see `cut_spans`.

    Raises:
        UserError: Nothing decoded, no frame lies in a labelled range, a split has no frame, or train no normal one.
    """
    decoded = frames.filter("reason is null").select("frame_id", "source", "frame_index", "timestamp_s")
    good = known_frames(decoded, frame_labels)
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
            msg = _tell_no_range_has_a_frame(decoded, frame_labels, label_ranges)
        raise UserError(msg)
    events = labelled_events(good, frame_labels, set(sources.loc[sources["media"] == "video", "source"]))
    source_splits = cut_spans(spans, events, ingestion.split).merge(sources[["source", "media"]].drop_duplicates())
    is_normal = F.coalesce("label", F.lit(LABELS[ingestion.default_label])) == NORMAL
    labelled = with_split(good, source_splits).join(F.broadcast(label_rows(frame_labels)), "frame_id", "left")
    found = labelled.groupBy("split").agg(F.count("*").alias("count"), F.count_if(is_normal).alias("normal")).collect()
    counts = {row["split"]: row["count"] for row in found}
    empty = [name for name in SPLITS if not counts.get(name)]
    if empty:
        msg = (
            f"The split {' and '.join(empty)} has no frames, of {spans['frames'].sum()} that decoded: give a longer "
            f"video, or lower ingestion.interval_s ({ingestion.interval_s:g}) or ingestion.split.gap_s "
            f"({ingestion.split.gap_s:g})."
        )
        raise UserError(msg)
    if not any(row["normal"] for row in found if row["split"] == "train"):
        msg = (
            f"None of the {counts['train']} frames of the split train is normal, and training needs normal frames: "
            "put normal images into the folder 'good' or 'normal', label frames normal, or change "
            f"ingestion.default_label ({ingestion.default_label})."
        )
        raise UserError(msg)
    logger.info(
        "%s of %s: %s; %d in the gaps.",
        counted(int(spans["frames"].sum()), "frame"),
        counted(len(spans), "source"),
        ", ".join(f"{name} {counts[name]}" for name in SPLITS),
        counts.get(None, 0),
    )
    return source_splits


def _tell_no_range_has_a_frame(decoded: DataFrame, frame_labels: pd.DataFrame, label_ranges: pd.DataFrame) -> str:
    source = count_unknown(frame_labels)["source"].iloc[0]
    start_s, end_s = label_ranges.loc[label_ranges["source"] == source, ["start_s", "end_s"]].iloc[0]
    last_s = decoded.filter(F.col("source") == F.lit(source)).agg(F.max("timestamp_s")).collect()[0][0]
    return (
        f"labels: no frame lies in one of the labelled ranges, as {start_s:g}-{end_s:g} s of '{source}', whose last "
        f"frame is at {last_s:.4g} s; give ranges in seconds of the video."
    )


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
