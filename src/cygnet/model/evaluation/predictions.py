"""Scores rows of `training_set` with the scorer that will be served, and calibrates that scorer on `validation`.

The table `predictions` and the reference of the parity check both come from here: they differ by the runtime alone.
"""

import logging
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as pad

from cygnet.model.evaluation.calibrate import calibrate
from cygnet.model.serving.scorer import Parts, Scorer, scores_of
from cygnet.model.training_set import count_rows, iterate_rows
from cygnet.parameters.training import Threshold
from cygnet.progress import tracked
from cygnet.vision.codec import decode_mask, encode_map
from cygnet.vision.region import blank_outside

logger = logging.getLogger(__name__)

EVALUATION_SPLITS = ["validation", "test"]
"""Calibration reads the first, the report the second; neither is augmented."""


def measure_rows(scorer: Scorer, training_set: pad.Dataset, splits: list[str]) -> pd.DataFrame:
    """Run the network on every row of some splits, batch by batch; `score_rows` makes scores of it.

    Args:
        scorer: The scorer to use, calibrated or not.
        training_set: The table.
        splits: Names of splits.

    Returns:
        The keys, `classifier_margin` and `normality_distance`, sorted by `image_id`; and `classifier_map` and
        `distance_map`, `(G, G)` float32 each, 0 outside the area that is looked at.

    Raises:
        ValueError: An image does not decode, or exceeds the scorer's limits.
    """
    tables = []
    what, count = f"Scoring with {scorer.runtime.name}", count_rows(training_set, splits)
    for rows in tracked(iterate_rows(training_set, splits, with_masks=True), what, "images", count, len):
        parts = scorer.measure(scorer.decode(encoded) for encoded in rows["image"])
        areas = [decode_mask(area) if area else None for area in rows["area"]]
        maps: dict[str, Any] = {
            name: [blank_outside(each, area) for each, area in zip(of_rows, areas, strict=True)]
            for name, of_rows in (("classifier_map", parts.classifier_maps), ("distance_map", parts.distance_maps))
        }
        keys = rows.drop(columns=["image", "mask", "area"])
        tables.append(pd.concat([keys, parts.images], axis=1).assign(**maps))
    return pd.concat(tables).sort_values("image_id", ignore_index=True)


def score_rows(rows: pd.DataFrame, scorer: Scorer) -> pd.DataFrame:
    """Score what `measure_rows` returned with a calibrated scorer; return the columns of `predictions`."""
    scores = scores_of(rows, scorer.calibration)
    classifier_maps, distances = (np.stack(rows[name].to_list()) for name in ("classifier_map", "distance_map"))
    maps = scorer.anomaly_maps(Parts(rows, classifier_maps, distances))
    encoded = {
        "anomaly_map": [encode_map(anomaly_map) for anomaly_map in maps],
        "classifier_map": [encode_map(classifier_map) for classifier_map in classifier_maps],
    }
    return pd.concat([rows.drop(columns=["classifier_map", "distance_map"]), scores], axis=1).assign(**encoded)


def calibrate_scorer(scorer: Scorer, rows: pd.DataFrame, threshold: Threshold) -> Scorer:
    """Fit the calibration on the `validation` rows.

    Args:
        scorer: A scorer whose calibration says what the score is made of.
        rows: What `measure_rows` returned for it; `validation` must be among the splits.
        threshold: The rule that chooses the threshold.

    Raises:
        UserError: A half of the validation frames lacks a class.
    """
    calibration = calibrate(rows[rows["split"] == "validation"], threshold, scorer.calibration)
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
    return scorer.with_calibration(calibration)
