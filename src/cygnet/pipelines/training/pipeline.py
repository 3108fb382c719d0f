"""Wiring of training."""

from kedro.pipeline import Pipeline, node

from cygnet.pipelines.training.evaluation_nodes import (
    check_parity,
    draw_anomaly_maps,
    draw_figures,
    evaluate_baselines,
    evaluate_detector,
    list_metrics,
    measure_localisation,
    score_baselines,
    score_reference_rows,
    write_evaluation,
)
from cygnet.pipelines.training.nodes import (
    describe_view,
    draw_training_images,
    fit_detector,
    gather_fit_settings,
    list_training_rows,
    make_scorer,
    package_detector,
    score_held_out_rows,
)
from cygnet.pipelines.training.normality_nodes import draw_suspicious_frames, fit_subspace, list_suspicious_frames


def create_pipeline() -> Pipeline:
    """Fit, list suspicious train frames, score and calibrate, compare runtimes, evaluate, draw, register."""
    return Pipeline(
        [
            node(list_training_rows, "training_set", "training_rows", name="list_training_rows"),
            node(
                draw_training_images, "training_set", "contact_sheet_figure", name="draw_training_images", tags="report"
            ),
            node(
                gather_fit_settings,
                ["params:training", "params:synthesis", "params:augmentation", "training_scene"],
                "fit_settings",
                name="gather_fit_settings",
            ),
            node(
                fit_detector,
                ["training_set", "fit_settings", "fitting_state"],
                "fitted_classifier",
                name="fit_detector",
                tags="gpu",
            ),
            node(
                fit_subspace,
                ["fitted_classifier", "train_frames", "params:training", "training_scene"],
                ["fitted", "left_out"],
                name="fit_subspace",
                tags="gpu",
            ),
            node(list_suspicious_frames, "left_out", "suspicious_frames", name="list_suspicious_frames", tags="report"),
            node(
                draw_suspicious_frames,
                ["left_out", "train_frames"],
                "suspicious_frames_figure",
                name="draw_suspicious_frames",
                tags="report",
            ),
            node(
                make_scorer,
                ["fitted", "training_scene", "params:serving.runtime", "params:serving.limits", "params:training"],
                "uncalibrated_scorer",
                name="make_scorer",
            ),
            node(
                score_held_out_rows,
                ["uncalibrated_scorer", "training_set", "train_frames", "left_out", "params:training"],
                ["scorer", "predictions"],
                name="score_held_out_rows",
            ),
            node(
                score_reference_rows,
                ["fitted", "scorer", "training_set", "params:training", "params:serving.parity"],
                "reference_scores",
                name="score_reference_rows",
            ),
            node(
                check_parity,
                ["reference_scores", "predictions", "scorer", "params:serving.parity"],
                "parity",
                name="check_parity",
                tags="report",
            ),
            node(
                score_baselines,
                ["training_set", "train_frames", "params:training"],
                ["baselines", "baseline_calibrations"],
                name="score_baselines",
                tags="gpu",
            ),
            node(measure_localisation, ["predictions", "training_set"], "localisation", name="measure_localisation"),
            node(
                evaluate_detector,
                ["predictions", "localisation", "scorer", "fitted", "params:training"],
                "detector_metrics",
                name="evaluate_detector",
            ),
            node(
                evaluate_baselines,
                ["baselines", "baseline_calibrations", "params:training"],
                "baseline_metrics",
                name="evaluate_baselines",
            ),
            node(describe_view, ["train_frames", "training_scene", "fitted"], "view", name="describe_view"),
            node(
                write_evaluation,
                ["detector_metrics", "baseline_metrics", "view"],
                "evaluation",
                name="write_evaluation",
                tags="report",
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
                tags="report",
            ),
            node(
                draw_anomaly_maps,
                ["predictions", "training_set"],
                "anomaly_maps_figure",
                name="draw_anomaly_maps",
                tags="report",
            ),
            node(
                package_detector,
                ["scorer", "evaluation", "parity", "training_set", "params:serving.parity"],
                "challenger",
                name="package_detector",
                tags="registry",
            ),
        ],
        tags="training",
    )
