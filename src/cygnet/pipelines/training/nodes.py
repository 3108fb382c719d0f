"""Nodes of training. torch and transformers load when a node runs, so that the command line stays quick."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad
from matplotlib.figure import Figure

from cygnet.model.serving.packaging import PackagedDetector
from cygnet.model.serving.scorer import Calibration, Limits, Scorer, scores_of
from cygnet.model.training.results import Fitted
from cygnet.model.training.resume import StateStore
from cygnet.parameters.augmentation import Augmentation
from cygnet.parameters.ingestion import Ingestion
from cygnet.parameters.serving import Serving
from cygnet.parameters.synthesis import Synthesis
from cygnet.parameters.training import Training
from cygnet.tables import ABNORMAL, BASELINES, KIND_NORMAL, KIND_NULL, NORMAL, PREDICTIONS
from cygnet.vision.codec import decode_image, decode_map, decode_mask, encode_map

logger = logging.getLogger(__name__)

SHEET_CELLS_PER_CLASS = 12
MAPS_PER_CLASS = 5
HELD_OUT = ["validation", "test"]
PLAIN = Calibration(1.0, 0.5)


def list_training_rows(training_set: pad.Dataset) -> pd.DataFrame:
    """List the rows of the training table without their pixels, for the run's lineage."""
    from cygnet.model.rows import read_keys

    return read_keys(training_set)


def draw_training_images(training_set: pad.Dataset) -> Figure:
    """Draw a contact sheet: some normal and some abnormal train images, anomalies outlined, evenly over the keys."""
    from cygnet.model.evaluation.plots import draw_contact_sheet
    from cygnet.model.rows import read_keys

    keys = read_keys(training_set, "train")
    chosen: list[str] = []
    for label in (NORMAL, ABNORMAL):
        image_ids = keys.loc[keys["label"] == label, "image_id"].to_numpy()
        places = np.linspace(0, len(image_ids) - 1, min(SHEET_CELLS_PER_CLASS, len(image_ids))).round().astype(int)
        chosen += list(image_ids[places])
    rows = training_set.to_table(
        columns=["image_id", "frame_id", "kind", "image", "mask"], filter=pad.field("image_id").isin(chosen)
    )
    cells = [
        (
            row["frame_id"] if row["kind"] == KIND_NORMAL else f"{row['frame_id']} {row['kind']}",
            decode_image(row["image"]),
            decode_mask(row["mask"]) if row["mask"] else None,
        )
        for row in sorted(rows.to_pylist(), key=lambda row: chosen.index(row["image_id"]))
    ]
    return draw_contact_sheet(cells)


def fit_detector(
    training_set: pad.Dataset,
    training: Training,
    synthesis: Synthesis,
    augmentation: Augmentation,
    fitting_state: StateStore,
) -> Fitted:
    """Fine-tune the checkpoint on `train`; `validation` decides when to stop and which epoch is kept.

    Args:
        training_set: The table.
        training: All settings.
        synthesis: Which anomalies `training.twins` draws.
        augmentation: How `training.twins` varies images: by the same preset as the table.
        fitting_state: Where the fit leaves its state, to continue from there after it was killed.

    Raises:
        UserError: The checkpoint can't be used, or a split lacks a class.
    """
    from cygnet.model.evaluation.calibrate import split_halves
    from cygnet.model.network.backbone import load_detector
    from cygnet.model.rows import check_classes, read_keys
    from cygnet.model.training.examples import load_examples
    from cygnet.model.training.fit import Splits, fit
    from cygnet.model.training.settings import FitSettings

    check_classes(read_keys(training_set, "test"), "test")
    split_halves(read_keys(training_set, "validation"))  # else calibration would find out, after the fit
    detector = load_detector(training)
    with TemporaryDirectory(prefix="cygnet-fit-") as folder:
        train, validation = (
            load_examples(training_set, split, detector.preprocessing, detector.patches_per_side, Path(folder))
            for split in ("train", "validation")
        )
        logger.info("Fitting on %d images, stopping by %d.", len(train.labels), len(validation.labels))
        settings = FitSettings(training, synthesis, augmentation)
        return fit(detector, Splits(train, validation), settings, fitting_state, Path(folder))


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
    from cygnet.model.serving.export import make_runtime

    limits = Limits(**serving.limits.model_dump())
    runtime = make_runtime(fitted.detector, serving.runtime)
    plain = Scorer(runtime, PLAIN, ingestion.crop_horizontal_bias, limits)
    scorer, rows = _calibrated(plain, _score_rows(plain, training_set, HELD_OUT), training)
    return scorer, pa.Table.from_pandas(rows, schema=PREDICTIONS, preserve_index=False)


def check_parity(
    fitted: Fitted,
    scorer: Scorer,
    predictions: pad.Dataset,
    training_set: pad.Dataset,
    training: Training,
    serving: Serving,
) -> dict[str, Any]:
    """Score `test` with torch in float32, and compare with what the served runtime said in `predictions`.

    Returns:
        The content of `parity.json`; see `cygnet.model.evaluation.parity`.
    """
    from cygnet.model.evaluation.parity import FLOAT32, compare_runtimes
    from cygnet.model.serving.export import make_runtime

    is_float32 = serving.runtime in FLOAT32
    calibration, bias = scorer.calibration if is_float32 else PLAIN, scorer.crop_horizontal_bias
    of_torch = Scorer(make_runtime(fitted.detector, "torch"), calibration, bias, scorer.limits)
    rows = _score_rows(of_torch, training_set, ["test"] if is_float32 else HELD_OUT)
    if not is_float32:
        _, rows = _calibrated(of_torch, rows, training)
    columns = ["image_id", "anomaly_score", "is_anomalous"]
    served = predictions.to_table(columns=columns, filter=pad.field("split") == "test").to_pandas()
    parity = compare_runtimes(rows[rows["split"] == "test"], served, serving.runtime, serving.parity)
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
) -> tuple[pa.Table, dict[str, dict[str, Any]]]:
    """Fit the baselines on `train`, calibrate them on `validation` as the detector is, and score the held-out rows.

    Args:
        training_set: The table.
        train_frames: The table `images`.
        training: The checkpoint before fine-tuning, `threshold`, `evaluation`.

    Returns:
        The table `baselines`, and how each was calibrated.
    """
    from cygnet.model.evaluation.baselines import fit_and_score
    from cygnet.model.network.backbone import load_detector

    rows, chosen = fit_and_score(
        training_set, train_frames, load_detector(training), training.threshold, training.evaluation
    )
    return pa.Table.from_pandas(rows, schema=BASELINES, preserve_index=False), chosen


def evaluate_detector(
    predictions: pad.Dataset,
    training_set: pad.Dataset,
    baselines: pad.Dataset,
    baseline_calibrations: dict[str, dict[str, Any]],
    scorer: Scorer,
    fitted: Fitted,
    training: Training,
) -> dict[str, Any]:
    """Measure the detector and the baselines on `test`.

    Returns:
        The content of `evaluation.json`; see `cygnet.model.evaluation.evaluate`.
    """
    from cygnet.model.evaluation.evaluate import evaluate, evaluate_baselines
    from cygnet.model.evaluation.localisation import localise

    summary = {
        "checkpoint": training.checkpoint,
        "epochs": int(fitted.history["epoch"].max()),
        "images": fitted.images,
        "seconds": fitted.seconds,
        "images_per_second": fitted.images / fitted.seconds,
    }
    settings, rows = training.evaluation, predictions.to_table().to_pandas()
    evaluation = evaluate(rows, scorer.calibration, summary, settings, localise(training_set, rows))
    evaluation["baselines"] = evaluate_baselines(baselines.to_table().to_pandas(), baseline_calibrations, settings)
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


def list_metrics(evaluation: dict[str, Any], fitted: Fitted) -> dict[str, Any]:
    """List what MLflow shows as metrics: the history by epoch, and the evaluation's figures.

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
    for name, value in _flatten("test", {key: evaluation[key] for key in evaluation if key != "training"}):
        metrics[name] = {"value": float(value), "step": 0}
    return metrics


def draw_figures(predictions: pad.Dataset, evaluation: dict[str, Any], fitted: Fitted) -> tuple[Figure, ...]:
    """Draw the figures of `test`, and the training curves.

    Returns:
        Score histogram, ROC, precision and recall, reliability, confusion matrix, AUROC by kind, training curves.
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
    """Draw the anomaly maps of the highest normal and of the lowest abnormal test images."""
    from cygnet.model.evaluation import plots

    rows = predictions.to_table(
        columns=["image_id", "label", "kind", "anomaly_score", "is_anomalous", "severity", "anomaly_map"],
        filter=(pad.field("split") == "test") & (pad.field("kind") != KIND_NULL),
    ).to_pandas()
    rows = rows.sort_values(["anomaly_score", "image_id"])
    highest = rows[rows["label"] == NORMAL].tail(MAPS_PER_CLASS)[::-1]
    lowest = rows[rows["label"] == ABNORMAL].head(MAPS_PER_CLASS)
    image_ids = [*highest["image_id"], *lowest["image_id"]]
    images = training_set.to_table(columns=["image_id", "image", "mask"], filter=pad.field("image_id").isin(image_ids))
    by_id = {row["image_id"]: row for row in images.to_pylist()}
    false_alarms, misses = (
        [
            (
                _map_title(row),
                decode_image(by_id[row["image_id"]]["image"]),
                decode_map(row["anomaly_map"]),
                decode_mask(by_id[row["image_id"]]["mask"]) if by_id[row["image_id"]]["mask"] else None,
            )
            for row in chosen.to_dict("records")
        ]
        for chosen in (highest, lowest)
    )
    return plots.draw_anomaly_maps(false_alarms, misses)


def package_detector(
    scorer: Scorer,
    evaluation: dict[str, Any],
    parity: dict[str, Any],
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


def _calibrated(plain: Scorer, rows: pd.DataFrame, training: Training) -> tuple[Scorer, pd.DataFrame]:
    """Find temperature and threshold on the `validation` among `rows`; give the scorer and the rows that have them.

    Args:
        plain: A scorer with `PLAIN` ones.
        rows: What `_score_rows` made with it.
        training: `threshold`, the rule.
    """
    from cygnet.model.evaluation.calibrate import calibrate

    calibration = calibrate(rows[rows["split"] == "validation"], training.threshold)
    logger.info(
        "%s: temperature %.3f, threshold %.4f by %s.",
        plain.runtime.name,
        calibration.temperature,
        calibration.threshold,
        calibration.rule,
    )
    asked = training.threshold.target_fpr
    if calibration.target_fpr is not None and calibration.target_fpr > asked:
        logger.warning(
            "training.threshold.target_fpr %g is out of reach of so few normal validation images: the threshold "
            "promises %.3g, the smallest rate that they allow. Give a longer video, or raise it.",
            asked,
            calibration.target_fpr,
        )
    scores = scores_of(rows[["logit_abnormal", "logit_normal"]].to_numpy(), calibration)
    scorer = Scorer(plain.runtime, calibration, plain.crop_horizontal_bias, plain.limits)
    return scorer, pd.concat([rows.drop(columns=scores.columns), scores], axis=1)


def _score_rows(scorer: Scorer, training_set: pad.Dataset, splits: list[str]) -> pd.DataFrame:
    """Score some splits batch by batch: the columns of `predictions`, in the order of the `image_id`s."""
    from cygnet.model.rows import iterate_rows

    parts = []
    for rows in iterate_rows(training_set, splits):
        logits, maps = scorer.infer([scorer.decode(encoded, cropped=True) for encoded in rows["image"]])
        scores = scores_of(logits, scorer.calibration)
        parts.append(
            pd.concat([rows.drop(columns="image"), scores], axis=1).assign(
                anomaly_map=[encode_map(probabilities) for probabilities in maps]
            )
        )
    return pd.concat(parts).sort_values("image_id", ignore_index=True)


def _map_title(row: dict[str, Any]) -> str:
    """Say what an image is, what it scored, and whether that was wrong."""
    is_normal = row["label"] == NORMAL
    name = "normal" if is_normal else row["kind"]
    severity = "" if pd.isna(row["severity"]) else f" of severity {row['severity']:.2f}"
    wrong = "false alarm" if is_normal else "missed"
    verdict = f", {wrong}" if row["is_anomalous"] == is_normal else ""
    return f"{name}{severity}: {row['anomaly_score']:.3f}{verdict}"


def _flatten(prefix: str, values: dict[str, Any]) -> list[tuple[str, float]]:
    """Name every number of nested dicts by its path; names of methods are no metrics."""
    flat = []
    for key, value in values.items():
        if isinstance(value, dict):
            flat += _flatten(f"{prefix}.{key}", value)
        elif value is not None and not isinstance(value, str):
            flat.append((f"{prefix}.{key}", value))
    return flat
