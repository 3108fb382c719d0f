"""Wiring of ingestion."""

from kedro.pipeline import Pipeline, node

from cygnet.labels import match_labels
from cygnet.pipelines.ingestion.nodes import label_frames, make_images, read_frames, record_scene, split_sources
from cygnet.pipelines.ingestion.reject_nodes import list_rejects


def create_pipeline() -> Pipeline:
    """Read, split, label and crop the frames of all videos."""
    return Pipeline(
        [
            node(
                match_labels,
                ["videos", "labels"],
                ["sources", "matched_labels", "label_ranges", "unmatched_labels"],
                name="match_labels",
            ),
            node(record_scene, ["params:ingestion", "params:scene", "videos"], "scene", name="record_scene"),
            node(read_frames, ["sources", "scene"], "frames", name="read_frames", tags="spark"),
            node(
                label_frames,
                ["frames", "matched_labels", "label_ranges", "unmatched_labels"],
                ["frame_labels", "label_rejects"],
                name="label_frames",
                tags="spark",
            ),
            node(
                split_sources,
                ["frames", "frame_labels", "label_ranges", "sources", "params:ingestion"],
                "source_splits",
                name="split_sources",
                tags="spark",
            ),
            node(
                make_images,
                ["frames", "source_splits", "frame_labels", "scene", "params:ingestion.default_label"],
                "images",
                name="make_images",
                tags="spark",
            ),
            node(
                list_rejects,
                ["frames", "source_splits", "frame_labels", "label_rejects"],
                "rejects",
                name="list_rejects",
                tags=["spark", "report"],
            ),
        ],
        tags="ingestion",
    )
