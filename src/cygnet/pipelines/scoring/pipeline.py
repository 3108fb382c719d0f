"""Wiring of scoring."""

from kedro.pipeline import Pipeline, node

from cygnet.labels import label_by_time, match_labels
from cygnet.pipelines.scoring.nodes import (
    annotate_videos,
    count_frames,
    draw_timelines,
    find_labelled_spans,
    find_scored_events,
    list_scores,
    measure_labels,
    score_frames,
    write_scoring_report,
)
from cygnet.pipelines.scoring.peak_nodes import draw_peaks
from cygnet.report.scoring_page import choose_peaks, write_scoring_page


def create_pipeline() -> Pipeline:
    """Score every frame, find the events, compare them with the labels, and draw the results."""
    return Pipeline(
        [
            node(
                match_labels,
                ["videos", "labels"],
                ["scored_sources", "matched_scored_labels", "scored_label_ranges", "unmatched_scored_labels"],
                name="match_scored_labels",
            ),
            node(
                score_frames,
                ["scored_sources", "champion", "score_parts", "params:scoring"],
                ["scores", "scoring_run"],
                name="score_frames",
                tags="spark",
            ),
            node(list_scores, "scores", "scores_csv", name="list_scores", tags="spark"),
            node(
                label_by_time,
                ["scores_csv", "matched_scored_labels", "scored_label_ranges", "unmatched_scored_labels"],
                ["scored_labels", "scored_label_rejects"],
                name="label_scored_frames",
            ),
            node(find_scored_events, ["scores_csv", "scoring_run", "params:scoring"], "events", name="find_events"),
            node(
                find_labelled_spans,
                [
                    "scores_csv",
                    "scored_labels",
                    "scored_label_rejects",
                    "params:scoring",
                    "params:ingestion.default_label",
                ],
                ["labelled_spans", "unused_labels"],
                name="find_labelled_spans",
            ),
            node(
                draw_timelines,
                ["scores_csv", "events", "labelled_spans", "scoring_run"],
                "timelines",
                name="draw_timelines",
                tags="report",
            ),
            node(count_frames, ["scores", "scores_csv", "events"], "frame_counts", name="count_frames", tags="spark"),
            node(
                measure_labels,
                ["scores_csv", "events", "labelled_spans", "scored_labels", "unused_labels"],
                "label_metrics",
                name="measure_labels",
            ),
            node(
                write_scoring_report,
                ["frame_counts", "label_metrics", "champion", "scoring_run", "params:scoring"],
                "scoring_report",
                name="write_scoring_report",
                tags="report",
            ),
            node(choose_peaks, ["scores_csv", "events"], "peaks", name="choose_peaks"),
            node(
                draw_peaks,
                ["scored_sources", "scores", "peaks", "scoring_run"],
                "peak_pictures",
                name="draw_peaks",
                tags="spark",
            ),
            node(
                write_scoring_page,
                ["scoring_report", "scores_csv", "events", "labelled_spans", "peak_pictures"],
                "scoring_page",
                name="write_scoring_page",
                tags="report",
            ),
            node(
                annotate_videos,
                ["scored_sources", "scores", "scores_csv", "scoring_run", "params:scoring"],
                "annotated_videos",
                name="annotate_videos",
                tags=["spark", "report"],
            ),
        ],
        tags="scoring",
    )
