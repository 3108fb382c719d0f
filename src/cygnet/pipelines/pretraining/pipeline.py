"""Wiring of pretraining."""

from kedro.pipeline import Pipeline, node

from cygnet.pipelines.pretraining.nodes import (
    draw_curve,
    draw_pairs_sheet,
    evaluate_pretrained,
    package_checkpoint,
    pretrain_detector,
)


def create_pipeline() -> Pipeline:
    """Show what is drawn, train on it, evaluate, draw the curve, package."""
    return Pipeline(
        [
            node(
                draw_pairs_sheet,
                "params:pretraining",
                "pretraining_images_figure",
                name="draw_pairs_sheet",
                tags="report",
            ),
            node(
                pretrain_detector,
                ["params:pretraining", "pretraining_state"],
                "pretrained",
                name="pretrain_detector",
                tags="gpu",
            ),
            node(
                evaluate_pretrained,
                ["pretrained", "params:pretraining", "params:ingestion.crop_horizontal_bias"],
                "pretraining_report",
                name="evaluate_pretrained",
                tags="report",
            ),
            node(
                draw_curve,
                ["pretrained", "params:pretraining"],
                "pretraining_curve_figure",
                name="draw_curve",
                tags="report",
            ),
            node(
                package_checkpoint,
                ["pretrained", "pretraining_report", "params:pretraining"],
                "pretrained_checkpoint",
                name="package_checkpoint",
            ),
        ],
        tags="pretraining",
    )
