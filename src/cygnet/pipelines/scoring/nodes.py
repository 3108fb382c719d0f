"""Nodes of scoring. A bad frame costs one row: it stays in `scores` with its reason, and is counted in the report."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's own documentation uses

from cygnet.endpoints.versions import ModelVersion
from cygnet.model.evaluation.events import find_events, frame_spacing_s, label_spans, measure_known_events
from cygnet.model.scoring import summary
from cygnet.model.scoring.clips import Scored, annotated_clip
from cygnet.model.scoring.frame_scores import FrameScoring
from cygnet.model.scoring.score_parts import ScoreParts
from cygnet.parameters.scoring import Scoring
from cygnet.pipelines.scoring.spark_scoring import (
    ScoringRun,
    collect_scored,
    count_failures,
    iterate_scored,
    read_model_settings,
    score_sources,
    smooth_videos,
)
from cygnet.progress import tracked
from cygnet.reports import FrameCounts, LabelMetrics, ScoringReport
from cygnet.tables import LABELS, SCORES_CSV_COLUMNS
from cygnet.vision.clip import Clip

logger = logging.getLogger(__name__)


def score_frames(
    sources: pd.DataFrame, champion: ModelVersion, score_parts: ScoreParts, scoring: Scoring
) -> tuple[DataFrame, ScoringRun]:
    """Score every frame on Spark's workers; what a run before this one has scored is taken from there.

    Args:
        sources: The table of sources.
        champion: The model.
        score_parts: Where the workers write, and where the scores come from.
        scoring: `interval_s`, `crop`, `threshold`, `smoothing_s`.

    Returns:
        The table `scores`, and how the run went.

    Raises:
        UserError: The model can't be used by this version of Cygnet.
    """
    scorer_folder = score_parts.add_scorer(champion.uri)
    model = read_model_settings(champion, scorer_folder)
    settings = FrameScoring(
        parts_folder=score_parts.folder,
        scorer_folder=scorer_folder,
        view=scoring.view or model.scene.view,
        interval_s=scoring.interval_s,
        scene=model.scene,
    )
    rows, progress = score_sources(sources, score_parts, settings)
    rows = smooth_videos(rows, scoring.smoothing_s)
    run = ScoringRun(scoring.threshold or model.calibration.threshold, settings.view, *progress, model.scene.area)
    scores = rows.withColumn("is_anomalous", F.col("anomaly_score") >= F.lit(float(np.float32(run.threshold))))
    return scores.orderBy("source", "frame_index"), run


def list_scores(scores: DataFrame) -> pd.DataFrame:
    """List the frames that have a score: by source, in time order.

    Returns:
        `source`, `frame_index`, `timestamp_s`, `anomaly_score`, `is_anomalous`.

    Raises:
        UserError: No frame has one.
    """
    return collect_scored(scores, SCORES_CSV_COLUMNS)


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
    default_label: str,
) -> tuple[pd.DataFrame, int]:
    """Find what is labelled abnormal.

    Args:
        scores_csv: The frames that have a score.
        frame_labels: The labels that are given, by `frame_id`; without any, nothing is known and there are no spans.
        label_rejects: The labels that found no image by their name.
        scoring: `events.max_gap_s`: abnormal frames this close together are one span.
        default_label: `normal` or `abnormal`, of frames that no label names.

    Returns:
        `source`, `start_s`, `end_s` of each span; and how many labels are about no frame that was scored.
    """
    default = LABELS[default_label if len(frame_labels) else "normal"]
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
    scored = Scored(scoring.interval_s, scoring_run.threshold, scoring_run.area)
    return {
        str(source): partial(
            annotated_clip,
            sources[sources["source"] == source],
            tracked(iterate_scored(scores, str(source)), f"Annotating {source}", "frames", len(frames)),
            frame_spacing_s(frames["timestamp_s"].to_numpy()),
            scored,
        )
        for source, frames in scores_csv.groupby("source")
    }


def count_frames(scores: DataFrame, scores_csv: pd.DataFrame, events: pd.DataFrame) -> FrameCounts:
    """Count frames and events, overall and by source."""
    failures = count_failures(scores)
    if len(failures):
        logger.warning("%d frames have no score: see scoring_report.json.", failures["count"].sum())
    return summary.count_frames(scores_csv, failures, events)


def measure_labels(
    scores_csv: pd.DataFrame,
    events: pd.DataFrame,
    labelled_spans: pd.DataFrame,
    frame_labels: pd.DataFrame,
    unused_labels: int,
) -> LabelMetrics | dict[str, Any]:
    """Compare the events with what is labelled abnormal; empty without labels of these sources."""
    if frame_labels.empty:
        return {}
    return {**measure_known_events(events, labelled_spans, scores_csv, frame_labels), "unused_labels": unused_labels}


def write_scoring_report(
    frame_counts: FrameCounts,
    label_metrics: LabelMetrics,
    champion: ModelVersion,
    scoring_run: ScoringRun,
    scoring: Scoring,
) -> ScoringReport:
    """Sum up: model, frames that were scored and that failed, speed, each source, and the labels if there are any.

    Returns:
        The content of `scoring_report.json`.
    """
    return {
        "model": {"name": champion.name, "version": champion.version},
        "threshold": scoring_run.threshold,
        "crop": scoring_run.view,
        "interval_s": scoring.interval_s,
        **frame_counts,
        "frames_of_runs_before": scoring_run.frames_before,
        "seconds": scoring_run.seconds,
        "frames_per_s": scoring_run.frames_now / scoring_run.seconds if scoring_run.frames_now else None,
        "labels": label_metrics or None,
    }
