"""Nodes of training. torch and transformers load when a node runs, so that the command line stays quick."""

import logging
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad
from matplotlib.figure import Figure

from cygnet.model.fitted import Fitted
from cygnet.model.packaging import PackagedDetector
from cygnet.model.scorer import Calibration, Scorer
from cygnet.parameters import Ingestion, Training
from cygnet.tables import ABNORMAL, KIND_NORMAL, NORMAL, PREDICTIONS
from cygnet.vision.codec import decode_image, decode_mask

logger = logging.getLogger(__name__)

SHEET_CELLS_PER_CLASS = 12
HELD_OUT = ["validation", "test"]


def list_training_rows(training_set: pad.Dataset) -> pd.DataFrame:
    """List the rows of the training table without their pixels, for the run's lineage."""
    from cygnet.model.data import read_keys

    return read_keys(training_set)


def draw_training_images(training_set: pad.Dataset) -> Figure:
    """Draw a contact sheet: some normal and some abnormal train images, anomalies outlined, evenly over the keys."""
    from cygnet.model.data import read_keys
    from cygnet.model.figures import draw_contact_sheet

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


def fit_detector(training_set: pad.Dataset, training: Training) -> Fitted:
    """Fine-tune the checkpoint on `train`; `validation` decides when to stop and which epoch is kept.

    Raises:
        UserError: The checkpoint can't be used, or a split lacks a class.
    """
    from cygnet.model.backbone import load_backbone
    from cygnet.model.data import check_classes, load_examples, read_keys
    from cygnet.model.fit import fit, patches_per_side

    check_classes(read_keys(training_set, "test"), "test")
    model, preprocessing = load_backbone(training)
    side = patches_per_side(model)
    train = load_examples(training_set, "train", preprocessing, side)
    validation = load_examples(training_set, "validation", preprocessing, side)
    logger.info("Fitting on %d images, stopping by %d.", len(train.labels), len(validation.labels))
    return fit(model, preprocessing, train, validation, training)


def calibrate_detector(fitted: Fitted, training_set: pad.Dataset, training: Training, ingestion: Ingestion) -> Scorer:
    """Find temperature and threshold on `validation`, and make the scorer that will be served.

    Args:
        fitted: The fitted model.
        training_set: The table.
        training: `threshold`, the rule.
        ingestion: `crop_horizontal_bias`, which the scorer applies to whole frames.
    """
    from cygnet.model.calibrate import calibrate

    plain = Scorer(fitted.model, fitted.preprocessing, Calibration(1.0, 0.5), ingestion.crop_horizontal_bias)
    rows = _score_rows(plain, training_set, ["validation"])
    calibration = calibrate(rows, training.threshold)
    logger.info("Temperature %.3f, threshold %.4f.", calibration.temperature, calibration.threshold)
    return Scorer(fitted.model, fitted.preprocessing, calibration, ingestion.crop_horizontal_bias)


def score_held_out_rows(scorer: Scorer, training_set: pad.Dataset) -> pa.Table:
    """Score every validation and test image with the scorer that is served.

    Returns:
        The table `predictions`.
    """
    rows = _score_rows(scorer, training_set, HELD_OUT)
    return pa.Table.from_pandas(rows, schema=PREDICTIONS, preserve_index=False)


def evaluate_detector(predictions: pad.Dataset, scorer: Scorer, fitted: Fitted, training: Training) -> dict[str, Any]:
    """Measure the detector on `test`.

    Returns:
        The content of `evaluation.json`; see `cygnet.model.evaluate`.
    """
    from cygnet.model.evaluate import evaluate

    summary = {
        "checkpoint": training.checkpoint,
        "epochs": len(fitted.history),
        "images": fitted.images,
        "seconds": fitted.seconds,
        "images_per_second": fitted.images / fitted.seconds,
    }
    evaluation = evaluate(predictions.to_table().to_pandas(), scorer.calibration, summary)
    counts = evaluation["counts"]
    logger.info(
        "AUROC %.4f on test: %d normal and %d abnormal images of %d frames.",
        evaluation["auroc"],
        counts["normal"],
        counts["abnormal"],
        counts["normal_frames"],
    )
    return evaluation


def list_metrics(evaluation: dict[str, Any], fitted: Fitted) -> dict[str, Any]:
    """List what MLflow shows as metrics: the history by epoch, and the evaluation's figures.

    Returns:
        Metric name to `{"value", "step"}`, or to a list of them.
    """
    metrics: dict[str, Any] = {
        name: [
            {"value": float(value), "step": int(epoch)} for epoch, value in fitted.history[["epoch", name]].to_numpy()
        ]
        for name in ("learning_rate", "train_loss", "validation_nll")
    }
    for name, value in _flatten("test", {key: evaluation[key] for key in evaluation if key != "training"}):
        metrics[name] = {"value": float(value), "step": 0}
    return metrics


def draw_figures(predictions: pad.Dataset, scorer: Scorer, fitted: Fitted) -> tuple[Figure, Figure, Figure, Figure]:
    """Draw score histogram, ROC and confusion matrix of `test`, and the training curves."""
    from cygnet.model import figures

    rows, threshold = predictions.to_table().to_pandas(), scorer.calibration.threshold
    return (
        figures.draw_score_histogram(rows, threshold),
        figures.draw_roc(rows, threshold),
        figures.draw_confusion(rows),
        figures.draw_training_curves(fitted.history),
    )


def package_detector(
    scorer: Scorer, evaluation: dict[str, Any], training_set: pad.Dataset, training: Training
) -> PackagedDetector:
    """Put together what the registry stores: the scorer, an example request, and what the model is."""
    example = training_set.head(1, columns=["image"], filter=pad.field("split") == "test")["image"][0].as_py()
    metadata = {
        "checkpoint": training.checkpoint or "small ViT from its configuration",
        "input": "a whole frame, or with the parameter cropped=true a 256x256 image of the scene",
        "labels": {"abnormal": ABNORMAL, "normal": NORMAL},
        "temperature": scorer.calibration.temperature,
        "threshold": scorer.calibration.threshold,
        "auroc_test": evaluation["auroc"],
    }
    return PackagedDetector(scorer, example, metadata)


def _score_rows(scorer: Scorer, training_set: pad.Dataset, splits: list[str]) -> pd.DataFrame:
    """Score some splits batch by batch: keys and the four columns of the score, in the order of the `image_id`s."""
    from cygnet.model.data import iterate_rows

    parts = []
    for rows in iterate_rows(training_set, splits):
        images = [scorer.decode(encoded, cropped=True) for encoded in rows["image"]]
        parts.append(pd.concat([rows.drop(columns="image"), scorer.score(images)], axis=1))
    return pd.concat(parts).sort_values("image_id", ignore_index=True)


def _flatten(prefix: str, values: dict[str, Any]) -> list[tuple[str, float]]:
    flat = []
    for key, value in values.items():
        if isinstance(value, dict):
            flat += _flatten(f"{prefix}.{key}", value)
        elif value is not None:
            flat.append((f"{prefix}.{key}", value))
    return flat
