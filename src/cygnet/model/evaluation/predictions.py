"""Scores rows of `training_set` with the scorer that will be served, and calibrates that scorer on `validation`.

The table `predictions` and the reference of the parity check both come from here: they differ by the runtime alone.
"""

import logging

import pandas as pd
import pyarrow.dataset as pad

from cygnet.model.evaluation.calibrate import calibrate
from cygnet.model.serving.scorer import Calibration, Scorer, scores_of
from cygnet.model.training_set import iterate_rows
from cygnet.parameters.training import Threshold
from cygnet.vision.codec import encode_map

logger = logging.getLogger(__name__)

EVALUATION_SPLITS = ["validation", "test"]
"""Calibration reads the first, the report the second; neither is augmented."""

UNCALIBRATED = Calibration(temperature=1.0, threshold=0.5)


def score_rows(scorer: Scorer, training_set: pad.Dataset, splits: list[str]) -> pd.DataFrame:
    """Score every row of some splits, batch by batch.

    Args:
        scorer: The scorer to use, calibrated or not.
        training_set: The table; only the keys and the images are read.
        splits: Names of splits.

    Returns:
        The columns of `predictions`, sorted by `image_id`.

    Raises:
        ValueError: An image does not decode, or exceeds the scorer's limits.
    """
    parts = []
    for rows in iterate_rows(training_set, splits):
        scores, maps = scorer.score(scorer.decode(encoded, cropped=True) for encoded in rows["image"])
        encoded_maps = [encode_map(anomaly_map) for anomaly_map in maps]
        parts.append(pd.concat([rows.drop(columns="image"), scores], axis=1).assign(anomaly_map=encoded_maps))
    return pd.concat(parts).sort_values("image_id", ignore_index=True)


def calibrate_scorer(scorer: Scorer, rows: pd.DataFrame, threshold: Threshold) -> tuple[Scorer, pd.DataFrame]:
    """Fit temperature and threshold on the `validation` rows, and apply them.

    Args:
        scorer: A scorer with the calibration `UNCALIBRATED`.
        rows: What `score_rows` returned for it; `validation` must be among the splits.
        threshold: The rule that chooses the threshold.

    Returns:
        A scorer with the fitted calibration, and all rows with the scores that it gives.

    Raises:
        UserError: A half of the validation frames lacks a class.
    """
    calibration = calibrate(rows[rows["split"] == "validation"], threshold)
    logger.info(
        "%s: temperature %.3f, threshold %.4f by %s.",
        scorer.runtime.name,
        calibration.temperature,
        calibration.threshold,
        calibration.rule,
    )
    target_fpr = threshold.target_fpr
    if calibration.target_fpr is not None and calibration.target_fpr > target_fpr:
        logger.warning(
            "training.threshold.target_fpr %g is out of reach with so few normal validation images: the threshold "
            "guarantees %.3g, the lowest rate that they allow. Use a longer video, or raise the parameter.",
            target_fpr,
            calibration.target_fpr,
        )
    scores = scores_of(rows[["logit_abnormal", "logit_normal"]].to_numpy(), calibration)
    return scorer.with_calibration(calibration), pd.concat([rows.drop(columns=scores.columns), scores], axis=1)
