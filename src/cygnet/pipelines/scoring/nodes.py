"""Nodes of scoring. A bad frame costs one row: it stays in `scores` with its reason, and is counted in the report."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's own documentation uses

from cygnet.datasets.registry import ModelVersion
from cygnet.errors import UserError
from cygnet.model.evaluation.events import find_events, frame_spacing_s, label_spans, measure_events
from cygnet.model.scoring.frame_scores import SCORED_ITEMS, FrameScoring, list_items, score_item
from cygnet.model.scoring.score_parts import PART, ScoreParts
from cygnet.model.serving.scorer import Settings
from cygnet.parameters.augmentation import Augmentation
from cygnet.parameters.ingestion import Ingestion
from cygnet.parameters.scoring import Scoring
from cygnet.pipelines.scoring.progress import shown_progress
from cygnet.spark import flat_map_rows, get_session, read_parquet
from cygnet.storage import folder_on_disk
from cygnet.tables import LABELS
from cygnet.vision.annotate import Clip, FrameScore, annotated_frames
from cygnet.vision.codec import decode_map
from cygnet.vision.squares import Square
from cygnet.vision.video import read_samples

logger = logging.getLogger(__name__)

CSV_COLUMNS = ["source", "frame_index", "timestamp_s", "anomaly_score", "is_anomalous"]
ITEM_COLUMNS = "key string, source string, media string, paths array<string>, first_index int, place int"
CLIP_FRAMES_PER_S = (1.0, 120.0)
"""An annotated video is played at the time of its frames, within these bounds."""


@dataclass(frozen=True)
class ScoringRun:
    """What is known once all frames have their scores."""

    threshold: float  # score from which a frame is anomalous
    frames_before: int  # taken from a run before this one
    frames_now: int  # scored in this run
    seconds: float  # that this run took to score them


def score_frames(
    sources: pd.DataFrame,
    champion: ModelVersion,
    score_parts: ScoreParts,
    scoring: Scoring,
    ingestion: Ingestion,
    augmentation: Augmentation,
) -> tuple[DataFrame, ScoringRun]:
    """Score every frame on Spark's workers; what a run before this one has scored is taken from there.

    Args:
        sources: The table of sources.
        champion: The model.
        score_parts: Where the workers write, and where the scores come from.
        scoring: `interval_s`, `crop`, `threshold`.
        ingestion: `interval_s` (of images, if `scoring.interval_s` is null) and the qualities of its two encodings.
        augmentation: Quality of the encoding that the images of `predictions` had last.

    Returns:
        The table `scores`, and how the run went.

    Raises:
        UserError: The model can't be used by this version of Cygnet.
    """
    scorer_folder = score_parts.add_scorer(champion.uri)
    try:
        with folder_on_disk(scorer_folder) as folder:
            own_threshold = Settings.load(folder).calibration.threshold
    except ValueError as error:
        raise champion.unusable(error) from error
    threshold = scoring.threshold or own_threshold
    settings = FrameScoring(
        parts_folder=score_parts.folder,
        scorer_folder=scorer_folder,
        crop=scoring.crop,
        interval_s=scoring.interval_s,
        image_interval_s=scoring.interval_s or ingestion.interval_s,
        frame_jpeg_quality=ingestion.frame_jpeg_quality,
        image_jpeg_qualities=(ingestion.image_jpeg_quality, augmentation.jpeg_quality),
    )
    items = list_items(sources, settings)
    score_parts.keep_only({PurePath(scorer_folder).name, *items["key"]})
    parts = [score_parts.item(key) for key in items["key"]]

    def count_rows() -> int:
        return sum(each.count_rows() for each in parts)

    before, begun_s = count_rows(), time.monotonic()
    if before:
        logger.info("%s frames are scored already, by a run before this one.", f"{before:,}")
    with shown_progress("Scored", count_rows, int(items["expected_frames"].sum())):
        score_items(items[[not each.is_whole() for each in parts]], settings)
    seconds, now = time.monotonic() - begun_s, count_rows() - before
    rows = read_parquet(PART, *(each.folder for each in parts))
    scores = rows.withColumn("is_anomalous", F.col("anomaly_score") >= F.lit(float(np.float32(threshold))))
    return scores.orderBy("source", "frame_index"), ScoringRun(threshold, before, now, seconds)


def list_scores(scores: DataFrame) -> pd.DataFrame:
    """List the frames that have a score: by source, in time order.

    Returns:
        `source`, `frame_index`, `timestamp_s`, `anomaly_score`, `is_anomalous`.

    Raises:
        UserError: No frame has one.
    """
    rows = scores.filter("reason is null").select(CSV_COLUMNS).orderBy("source", "frame_index").toPandas()
    if rows.empty:
        failed = scores.select("reason").first()
        msg = f"Nothing could be scored: {failed['reason'] if failed else 'there are no frames'}."
        raise UserError(msg)
    return rows


def find_scored_events(scores_csv: pd.DataFrame, scoring_run: ScoringRun, scoring: Scoring) -> pd.DataFrame:
    """Find the events of every source: see `cygnet.model.evaluation.events.find_events`."""
    events = find_events(scores_csv, scoring_run.threshold, scoring.events)
    logger.info(
        "%d of %d frames are anomalous, in %d events.", scores_csv["is_anomalous"].sum(), len(scores_csv), len(events)
    )
    return events


def find_labelled_spans(
    scores_csv: pd.DataFrame,
    frame_labels: pd.DataFrame,
    label_rejects: pd.DataFrame,
    scoring: Scoring,
    ingestion: Ingestion,
) -> tuple[pd.DataFrame, int]:
    """Find what is labelled abnormal.

    Args:
        scores_csv: The frames that have a score.
        frame_labels: The labels that are given, by `frame_id`; without any, nothing is known and there are no spans.
        label_rejects: The labels that found no image by their name.
        scoring: `events.max_gap_s`: abnormal frames this close together are one span.
        ingestion: `default_label`, of frames that no label names.

    Returns:
        `source`, `start_s`, `end_s` of each span; and how many labels are about no frame that was scored.
    """
    default = LABELS[ingestion.default_label if len(frame_labels) else "normal"]
    spans, unused = label_spans(scores_csv, frame_labels, default, scoring.events.max_gap_s)
    return spans, unused + int((label_rejects["image_name"] != "").sum())


def draw_timelines(
    scores_csv: pd.DataFrame, events: pd.DataFrame, labelled_spans: pd.DataFrame, scoring_run: ScoringRun
) -> dict[str, Callable[[], Figure]]:
    """Draw the score of each source over time; each figure is made when it is written."""
    from cygnet.model.evaluation.plots import draw_timeline

    return {
        str(source): partial(
            draw_timeline,
            str(source),
            frames,
            events[events["source"] == source],
            labelled_spans[labelled_spans["source"] == source],
            scoring_run.threshold,
        )
        for source, frames in scores_csv.groupby("source")
    }


def annotate_videos(
    sources: pd.DataFrame, scores: DataFrame, scores_csv: pd.DataFrame, scoring_run: ScoringRun, scoring: Scoring
) -> dict[str, Callable[[], Clip]]:
    """Annotate the scored frames of each source; each frame is read again and drawn when it is written."""
    if not scoring.annotated_video:
        return {}
    return {
        str(source): partial(
            _annotate,
            sources[sources["source"] == source],
            scores.filter(F.col("source") == F.lit(str(source))),
            1 / frame_spacing_s(frames["timestamp_s"].to_numpy()),
            scoring_run.threshold,
            scoring.interval_s,
        )
        for source, frames in scores_csv.groupby("source")
    }


def write_scoring_report(
    scores: DataFrame,
    scores_csv: pd.DataFrame,
    events: pd.DataFrame,
    labelled_spans: pd.DataFrame,
    frame_labels: pd.DataFrame,
    unused_labels: int,
    champion: ModelVersion,
    scoring_run: ScoringRun,
    scoring: Scoring,
) -> dict[str, Any]:
    """Sum up: model, frames that were scored and that failed, speed, each source, and the labels if there are any.

    Returns:
        The content of `scoring_report.json`.
    """
    failed = scores.filter("reason is not null").groupBy("source", "reason").count().orderBy("source", "reason")
    failures = failed.toPandas()
    if len(failures):
        logger.warning("%d frames have no score: see scoring_report.json.", failures["count"].sum())
    frames_by_source = scores_csv.groupby("source")
    per_source = {
        str(source): {
            "frames": int((scores_csv["source"] == source).sum()),
            "anomalous_frames": int(scores_csv.loc[scores_csv["source"] == source, "is_anomalous"].sum()),
            "failed_frames": int(failures.loc[failures["source"] == source, "count"].sum()),
            "events": int((events["source"] == source).sum()),
        }
        for source in sorted({*frames_by_source.groups, *failures["source"]})
    }
    has_speed = scoring_run.frames_now > 0
    return {
        "model": {"name": champion.name, "version": champion.version},
        "threshold": scoring_run.threshold,
        "crop": scoring.crop,
        "interval_s": scoring.interval_s,
        "frames": len(scores_csv),
        "failed_frames": {reason: int(count) for reason, count in failures.groupby("reason")["count"].sum().items()},
        "anomalous_frames": int(scores_csv["is_anomalous"].sum()),
        "events": len(events),
        "frames_of_runs_before": scoring_run.frames_before,
        "seconds": scoring_run.seconds,
        "frames_per_s": scoring_run.frames_now / scoring_run.seconds if has_speed else None,
        "sources": per_source,
        "labels": {**measure_events(events, labelled_spans, scores_csv), "unused_labels": unused_labels}
        if len(frame_labels)
        else None,
    }


def score_items(items: pd.DataFrame, settings: FrameScoring) -> None:
    """Score items on Spark's workers, each as a task of its own, the first ones first."""
    if items.empty:
        return
    rows = items.assign(place=range(len(items)))[[column.split()[0] for column in ITEM_COLUMNS.split(", ")]]
    tasks = get_session().createDataFrame(rows, ITEM_COLUMNS).repartitionByRange(len(rows), "place")
    flat_map_rows(tasks, partial(score_item, scoring=settings, tasks=len(rows)), SCORED_ITEMS).collect()


def _annotate(
    files: pd.DataFrame, scores: DataFrame, frames_per_s: float, threshold: float, interval_s: float | None
) -> Clip:
    frames = annotated_frames(_scored_frames(files, scores, interval_s), threshold)
    return Clip(frames, float(np.clip(frames_per_s, *CLIP_FRAMES_PER_S)))


def _scored_frames(
    files: pd.DataFrame, scores: DataFrame, interval_s: float | None
) -> Iterator[tuple[np.ndarray, FrameScore]]:
    """Read the frames of a source again, beside their scores."""
    samples = (sample for file in _rows_of(files) for sample in read_samples(file, interval_s))
    images = (sample.image for sample in samples if sample.image is not None)
    rows = scores.filter("reason is null").orderBy("frame_index").toLocalIterator()
    done = 0
    with shown_progress(f"Annotating {files['source'].iloc[0]}:", lambda: done, 0):
        for image, row in zip(images, rows, strict=True):
            square = Square(row["square_left_px"], row["square_top_px"], row["square_side_px"])
            anomaly_map = decode_map(bytes(row["anomaly_map"]))
            yield image, FrameScore(row["timestamp_s"], row["anomaly_score"], row["is_anomalous"], square, anomaly_map)
            done += 1


def _rows_of(files: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in files.to_dict("records")]
