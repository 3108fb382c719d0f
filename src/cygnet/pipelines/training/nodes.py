"""Nodes of training. torch and transformers load when a node runs, so that the command line stays quick."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad
from matplotlib.figure import Figure

from cygnet.model.evaluation.results import FittedBaseline
from cygnet.model.serving.packaging import PackagedDetector
from cygnet.model.serving.scorer import Limits, Scorer
from cygnet.model.training.results import Fitted
from cygnet.model.training.resume import Checkpoints
from cygnet.parameters.ingestion import Ingestion
from cygnet.parameters.serving import Serving
from cygnet.parameters.synthesis import Synthesis
from cygnet.parameters.training import Training
from cygnet.reports import EvaluationReport, ParityReport, TrainingSummary, list_numbers
from cygnet.tables import ABNORMAL, BASELINES, NORMAL, PREDICTIONS

logger = logging.getLogger(__name__)


def list_training_rows(training_set: pad.Dataset) -> pd.DataFrame:
    """List the rows of the training table without their pixels, for the run's lineage."""
    from cygnet.model.rows import read_keys

    return read_keys(training_set)


def draw_training_images(training_set: pad.Dataset) -> Figure:
    """Draw a contact sheet of normal and abnormal train images, with the anomalies outlined."""
    from cygnet.model.evaluation.gallery import training_examples
    from cygnet.model.evaluation.plots import draw_contact_sheet

    return draw_contact_sheet(training_examples(training_set))


def fit_detector(
    training_set: pad.Dataset, training: Training, synthesis: Synthesis, checkpoints: Checkpoints
) -> Fitted:
    """Fine-tune the checkpoint on `train`; `validation` decides when to stop and which epoch is kept.

    Args:
        training_set: The table.
        training: All settings.
        synthesis: What anomalies of `training.twins` are like.
        checkpoints: Where the fit leaves its state, to go on from there after it was killed.

    Raises:
        UserError: The checkpoint can't be used, or a split lacks a class.
    """
    from cygnet.model.evaluation.calibrate import split_halves
    from cygnet.model.network.backbone import load_detector
    from cygnet.model.rows import check_classes, read_keys
    from cygnet.model.training.examples import load_examples
    from cygnet.model.training.fit import fit

    check_classes(read_keys(training_set, "test"), "test")
    split_halves(read_keys(training_set, "validation"))  # else calibration would find out, after the fit
    detector = load_detector(training)
    with TemporaryDirectory(prefix="cygnet-fit-") as folder:
        train, validation = (
            load_examples(training_set, split, detector.preprocessing, detector.patches_per_side, Path(folder))
            for split in ("train", "validation")
        )
        logger.info("Fitting on %d images, stopping by %d.", len(train.labels), len(validation.labels))
        return fit(detector, train, validation, training, synthesis, checkpoints, Path(folder))


def score_held_out_rows(
    fitted: Fitted, training_set: pad.Dataset, training: Training, ingestion: Ingestion, serving: Serving
) -> tuple[Scorer, pa.Table]:
    """Score every validation and test image with the scorer that will be served, calibrated on `validation`.

    Args:
        fitted: The fitted detector.
        training_set: The table.
        training: `threshold`, the rule.
        ingestion: `crop_horizontal_bias`, which the scorer applies to whole frames.
        serving: `runtime` and `limits`.

    Returns:
        The scorer, with temperature and threshold found in its own runtime, and the table `predictions`.
    """
    from cygnet.model.evaluation.score_rows import EVALUATION_SPLITS, UNCALIBRATED, calibrate_scorer, score_rows
    from cygnet.model.serving.export import make_runtime

    limits = Limits(**serving.limits.model_dump())
    runtime = make_runtime(fitted.detector, serving.runtime)
    uncalibrated = Scorer(runtime, UNCALIBRATED, ingestion.crop_horizontal_bias, limits)
    rows = score_rows(uncalibrated, training_set, EVALUATION_SPLITS)
    scorer, rows = calibrate_scorer(uncalibrated, rows, training.threshold)
    return scorer, pa.Table.from_pandas(rows, schema=PREDICTIONS, preserve_index=False)


def check_parity(
    fitted: Fitted,
    scorer: Scorer,
    predictions: pad.Dataset,
    training_set: pad.Dataset,
    training: Training,
    serving: Serving,
) -> ParityReport:
    """Score `test` with torch in float32, and compare with what the served runtime said in `predictions`.

    Returns:
        The content of `parity.json`; see `cygnet.model.evaluation.parity`.
    """
    from cygnet.model.evaluation.parity import compare_runtimes, score_reference
    from cygnet.model.serving.export import make_runtime

    reference = score_reference(make_runtime(fitted.detector, "torch"), scorer, training_set, training.threshold)
    columns = ["image_id", "anomaly_score", "is_anomalous"]
    served = predictions.to_table(columns=columns, filter=pad.field("split") == "test").to_pandas()
    parity = compare_runtimes(reference, served, serving.runtime, serving.parity)
    logger.info(
        "%s against torch: scores of %d images differ by %.2g at most.",
        serving.runtime,
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
        training: The checkpoint before fine-tuning, `threshold`, `evaluation`.

    Returns:
        The table `baselines`, and how each baseline was fitted.
    """
    from cygnet.model.evaluation.baselines import fit_and_score
    from cygnet.model.network.backbone import load_detector

    rows, fitted = fit_and_score(
        training_set, train_frames, load_detector(training), training.threshold, training.evaluation
    )
    return pa.Table.from_pandas(rows, schema=BASELINES, preserve_index=False), fitted


def evaluate_detector(
    predictions: pad.Dataset,
    training_set: pad.Dataset,
    baselines: pad.Dataset,
    baseline_calibrations: dict[str, FittedBaseline],
    scorer: Scorer,
    fitted: Fitted,
    training: Training,
) -> EvaluationReport:
    """Measure the detector and the baselines on `test`.

    Returns:
        The content of `evaluation.json`; see `cygnet.model.evaluation.evaluate`.
    """
    from cygnet.model.evaluation.evaluate import evaluate, evaluate_baselines
    from cygnet.model.evaluation.localisation import localise

    summary: TrainingSummary = {
        "checkpoint": training.checkpoint,
        "epochs": int(fitted.history["epoch"].max()),
        "images": fitted.images,
        "seconds": fitted.seconds,
        "images_per_second": fitted.images / fitted.seconds,
    }
    settings, rows = training.evaluation, predictions.to_table().to_pandas()
    evaluation: EvaluationReport = {
        **evaluate(rows, scorer.calibration, summary, settings, localise(training_set, rows)),
        "baselines": evaluate_baselines(baselines.to_table().to_pandas(), baseline_calibrations, settings),
    }
    counts = evaluation["counts"]
    best = max(evaluation["baselines"], key=lambda name: evaluation["baselines"][name]["auroc"])
    logger.info(
        "AUROC %.4f on test (%.4f-%.4f): %d normal and %d abnormal images of %d frames. Best baseline: %.4f, %s.",
        evaluation["auroc"],
        evaluation["intervals"]["auroc"]["low"],
        evaluation["intervals"]["auroc"]["high"],
        counts["normal"],
        counts["abnormal"],
        counts["normal_frames"],
        evaluation["baselines"][best]["auroc"],
        best,
    )
    return evaluation


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

    columns = ["split", "label", "kind", "anomaly_score", "is_anomalous"]
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


def package_detector(
    scorer: Scorer,
    evaluation: EvaluationReport,
    parity: ParityReport,
    training_set: pad.Dataset,
    training: Training,
) -> PackagedDetector:
    """Put together what the registry stores: the scorer, an example request, and what the model is."""
    example = training_set.head(1, columns=["image"], filter=pad.field("split") == "test")["image"][0].as_py()
    metadata = {
        "checkpoint": training.checkpoint or "small ViT from its configuration",
        "input": "a whole frame, or with the parameter cropped=true a 256x256 image of the scene",
        "labels": {"abnormal": ABNORMAL, "normal": NORMAL},
        "temperature": scorer.calibration.temperature,
        "threshold": scorer.calibration.threshold,
        "threshold_rule": scorer.calibration.rule,
        "promised_fpr": scorer.calibration.target_fpr,
        "auroc_test": evaluation["auroc"],
        "runtime": scorer.runtime.name,
        "parity": parity,
    }
    return PackagedDetector(scorer, example, metadata)
