"""Wiring of labelling. `model_labels` adds to the file that `labels` is read from; human labels in it stay."""

from kedro.pipeline import Pipeline, node

from cygnet.pipelines.labelling.nodes import ask_model, draw_frames, pick_frames, sort_answers, write_labelling_report


def create_pipeline() -> Pipeline:
    """Pick frames, draw what is sent, ask, sort the answers, report."""
    return Pipeline(
        [
            node(
                pick_frames,
                ["stored_frames", "videos", "labels", "params:labelling"],
                "picked_frames",
                name="pick_frames",
            ),
            node(
                draw_frames,
                ["stored_frames", "picked_frames", "scene", "params:labelling"],
                "drawn_frames",
                name="draw_frames",
            ),
            node(
                ask_model,
                ["drawn_frames", "vision_endpoint", "vision_answers", "params:labelling"],
                ["answers", "usage"],
                name="ask_model",
            ),
            node(
                sort_answers,
                ["answers", "params:labelling.review_below"],
                ["model_labels", "labels_to_review", "labelling_failures"],
                name="sort_answers",
                tags="report",
            ),
            node(
                write_labelling_report,
                ["answers", "usage", "params:labelling"],
                "labelling_report",
                name="write_labelling_report",
                tags="report",
            ),
        ],
        tags="labelling",
    )
