"""Wiring of training."""

from kedro.pipeline import Pipeline, node

from cygnet.pipelines.training.nodes import (
    check_parity,
    draw_anomaly_maps,
    draw_figures,
    draw_training_images,
    evaluate_detector,
    fit_detector,
    list_metrics,
    list_training_rows,
    package_detector,
    score_baselines,
    score_held_out_rows,
)


def create_pipeline() -> Pipeline:
    """Fit, score and calibrate, compare runtimes, evaluate, draw, register."""
    return Pipeline(
        [
            node(list_training_rows, "training_set", "training_rows", name="list_training_rows"),
            node(draw_training_images, "training_set", "contact_sheet_figure", name="draw_training_images"),
            node(
                fit_detector,
                ["training_set", "params:training", "params:synthesis", "params:augmentation", "fitting_state"],
                "fitted",
                name="fit_detector",
            ),
            node(
                score_held_out_rows,
                ["fitted", "training_set", "params:training", "params:ingestion", "params:serving"],
                ["scorer", "predictions"],
                name="score_held_out_rows",
            ),
            node(
                check_parity,
                ["fitted", "scorer", "predictions", "training_set", "params:training", "params:serving"],
                "parity",
                name="check_parity",
            ),
            node(
                score_baselines,
                ["training_set", "train_frames", "params:training"],
                ["baselines", "baseline_calibrations"],
                name="score_baselines",
            ),
            node(
                evaluate_detector,
                [
                    "predictions",
                    "training_set",
                    "baselines",
                    "baseline_calibrations",
                    "scorer",
                    "fitted",
                    "params:training",
                ],
                "evaluation",
                name="evaluate_detector",
            ),
            node(list_metrics, ["evaluation", "fitted"], "metrics", name="list_metrics"),
            node(
                draw_figures,
                ["predictions", "evaluation", "fitted"],
                [
                    "score_histogram_figure",
                    "roc_figure",
                    "precision_recall_figure",
                    "reliability_figure",
                    "confusion_figure",
                    "auroc_by_kind_figure",
                    "training_curves_figure",
                ],
                name="draw_figures",
            ),
            node(draw_anomaly_maps, ["predictions", "training_set"], "anomaly_maps_figure", name="draw_anomaly_maps"),
            node(
                package_detector,
                ["scorer", "evaluation", "parity", "training_set", "params:training"],
                "challenger",
                name="package_detector",
            ),
        ],
        tags="training",
    )
