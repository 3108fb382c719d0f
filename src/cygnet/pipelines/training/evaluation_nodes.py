"""Nodes of training that measure: parity, baselines, metrics and figures. The others are in `nodes.py`."""

import logging
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad
from matplotlib.figure import Figure

from cygnet.model.evaluation.results import FittedBaseline, LocalisationByPart
from cygnet.model.serving.scorer import Scorer
from cygnet.model.training.results import Fitted
from cygnet.parameters.serving import Parity
from cygnet.parameters.training import Training
from cygnet.reports import (
    BaselineMetrics,
    DetectorMetrics,
    EvaluationReport,
    ParityReport,
    TrainingSummary,
    View,
    list_numbers,
)
from cygnet.tables import BASELINES

logger = logging.getLogger(__name__)


def score_reference_rows(
    fitted: Fitted, scorer: Scorer, training_set: pad.Dataset, training: Training, limits: Parity
) -> pd.DataFrame:
    """Score `test`, or a sample of it, with torch in float32: the reference for the parity check."""
    from cygnet.model.evaluation.parity import score_reference
    from cygnet.model.serving.runtimes import RUNTIMES

    by_torch = RUNTIMES["torch"].make(fitted.detector)
    return score_reference(by_torch, scorer, training_set, training.threshold, limits.images_per_kind)


def check_parity(
    reference_scores: pd.DataFrame, predictions: pad.Dataset, scorer: Scorer, limits: Parity
) -> ParityReport:
    """Compare what the served runtime said in `predictions` with the reference.

    Returns:
        The content of `parity.json`; see `cygnet.model.evaluation.parity`.
    """
    from cygnet.model.evaluation.parity import compare_runtimes

    columns = ["image_id", "anomaly_score", "is_anomalous"]
    served = predictions.to_table(columns=columns, filter=pad.field("split") == "test").to_pandas()
    parity = compare_runtimes(reference_scores, served, scorer.runtime.name, limits)
    logger.info(
        "%s against torch: scores of %d images differ by %.2g at most.",
        scorer.runtime.name,
        parity["rows"],
        parity["max_abs_score_difference"],
    )
    for reason in parity["reasons"]:
        logger.warning("The model will not be promoted: %s.", reason)
    return parity


def score_baselines(
    training_set: pad.Dataset, train_frames: pad.Dataset, training: Training
) -> tuple[pa.Table, dict[str, FittedBaseline]]:
    """Fit the baselines on `train`, calibrate them on `validation` as the detector is, and score the held-out rows.

    Args:
        training_set: The table.
        train_frames: The table `images`.
        training: `threshold`, `evaluation`.

    Returns:
        The table `baselines`, and how each baseline was fitted.
    """
    from cygnet.model.evaluation.baselines import fit_and_score

    rows, fitted = fit_and_score(training_set, train_frames, training.threshold, training.evaluation)
    return pa.Table.from_pandas(rows, schema=BASELINES, preserve_index=False), fitted


def measure_localisation(predictions: pad.Dataset, training_set: pad.Dataset) -> LocalisationByPart:
    """Compare the maps of `test` with the masks: see `cygnet.model.evaluation.localisation`."""
    from cygnet.model.evaluation.localisation import localise

    rows = predictions.to_table().to_pandas()
    return LocalisationByPart(localise(training_set, rows), localise(training_set, rows, "classifier_map"))


def evaluate_detector(
    predictions: pad.Dataset,
    localisation: LocalisationByPart,
    scorer: Scorer,
    fitted: Fitted,
    training: Training,
) -> DetectorMetrics:
    """Measure the detector on `test`: see `cygnet.model.evaluation.evaluate`."""
    from cygnet.model.evaluation.evaluate import evaluate

    summary: TrainingSummary = {
        "checkpoint": training.checkpoint,
        "epochs": int(fitted.history["epoch"].max()),
        "images": fitted.images,
        "seconds": fitted.seconds,
        "images_per_second": fitted.images / fitted.seconds,
        "seed": training.seed,
    }
    rows = predictions.to_table().to_pandas()
    return evaluate(rows, scorer.calibration, summary, training.evaluation, localisation)


def evaluate_baselines(
    baselines: pad.Dataset, baseline_calibrations: dict[str, FittedBaseline], training: Training
) -> dict[str, BaselineMetrics]:
    """Measure every baseline on `test` as the detector is measured."""
    from cygnet.model.evaluation import evaluate

    return evaluate.evaluate_baselines(baselines.to_table().to_pandas(), baseline_calibrations, training.evaluation)


def write_evaluation(
    detector_metrics: DetectorMetrics, baseline_metrics: dict[str, BaselineMetrics], view: View
) -> EvaluationReport:
    """Put the detector beside the baselines, and what it sees of a frame.

    Returns:
        The content of `evaluation.json`.
    """
    counts, interval = detector_metrics["counts"], detector_metrics["intervals"]["auroc"]
    best = max(baseline_metrics, key=lambda name: baseline_metrics[name]["auroc"])
    logger.info(
        "AUROC %.4f on test (%.4f-%.4f): %d normal and %d abnormal images of %d frames. Best baseline: %.4f, %s.",
        detector_metrics["auroc"],
        interval["low"],
        interval["high"],
        counts["normal"],
        counts["abnormal"],
        counts["normal_frames"],
        baseline_metrics[best]["auroc"],
        best,
    )
    return {**detector_metrics, "view": view, "baselines": baseline_metrics}


def list_metrics(evaluation: EvaluationReport, fitted: Fitted) -> dict[str, Any]:
    """List what MLflow shows as metrics: the history by epoch, and every number of the evaluation.

    Returns:
        Metric name to `{"value", "step"}`, or to a list of them.
    """
    metrics: dict[str, Any] = {
        name: [
            {"value": float(value), "step": int(epoch)}
            for epoch, value in fitted.history[["epoch", name]].dropna().to_numpy()
        ]
        for name in ("train_loss", "fitted_frac", "validation_nll", "validation_auroc")
    }
    measured = {key: value for key, value in evaluation.items() if key != "training"}
    return metrics | {name: {"value": value, "step": 0} for name, value in list_numbers(measured, "test").items()}


def draw_figures(predictions: pad.Dataset, evaluation: EvaluationReport, fitted: Fitted) -> tuple[Figure, ...]:
    """Draw the plots of `test`, and the training curves.

    Returns:
        Score histogram, ROC, precision-recall, reliability, confusion matrix, AUROC by kind, training curves.
    """
    from cygnet.model.evaluation import plots

    columns = ["frame_id", "split", "label", "kind", "anomaly_score", "is_anomalous"]
    rows, threshold = predictions.to_table(columns=columns).to_pandas(), evaluation["threshold"]
    return (
        plots.draw_score_histogram(rows, threshold),
        plots.draw_roc(rows, threshold),
        plots.draw_precision_recall(rows, threshold),
        plots.draw_reliability(rows, evaluation["ece"]),
        plots.draw_confusion(rows),
        plots.draw_auroc_by_kind(evaluation),
        plots.draw_training_curves(fitted.history),
    )


def draw_anomaly_maps(predictions: pad.Dataset, training_set: pad.Dataset) -> Figure:
    """Draw the anomaly maps of the normal test images with the highest scores and the abnormal ones with the lowest."""
    from cygnet.model.evaluation import plots
    from cygnet.model.evaluation.gallery import hardest_images

    return plots.draw_anomaly_maps(*hardest_images(predictions, training_set))
