"""Calibration on `validation`: one temperature for the logits, one threshold for the score.

They are fitted on different frames: the temperature on the first half of every source's validation frames, the
threshold on the second. On the same frames, the threshold would be fitted to scores that the temperature has seen. The
first half's normal frames are also those among which p-values are counted. Distances to the normal subspace are counted
among those of train frames too, each measured by a fit without it: they are many more, and of a longer time.

Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", 2017. Threshold of rule `target_fpr`: the
conformal quantile of Vovk et al., "Algorithmic Learning in a Random World", 2005, as in split conformal prediction.
"""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from sklearn.metrics import precision_recall_curve

from cygnet.errors import UserError
from cygnet.model.evaluation.counted import counted_rows
from cygnet.model.serving.scorer import Calibration, scores_of, softmax_abnormal
from cygnet.model.training_set import spread_evenly
from cygnet.parameters.training import Threshold
from cygnet.tables import ABNORMAL, KIND_NULL, LABELS, NORMAL, parse_frame_id

UNCALIBRATED = Calibration(temperature=1.0, threshold=0.5)

MOST_NORMAL_FRAMES = 300
"""A model carries no more normal frames: every score is compared with all of them."""

TEMPERATURE_BOUNDS = (0.5, 5.0)
"""A temperature outside these bounds does not correct overconfidence: `validation` is too small, or the scores separate
its classes perfectly."""


def calibrate(rows: pd.DataFrame, threshold: Threshold, start: Calibration = UNCALIBRATED) -> Calibration:
    """Fit the temperature, which minimises NLL, on one half of the frames, and the threshold on the other.

    Args:
        rows: The `validation` rows: `frame_id`, `label`, `kind`, `classifier_margin`, and of a detector
            `normality_distance`. The control kind `null` is left out.
        threshold: The rule that chooses the threshold.
        start: What the score is made of, and `left_out_distances`: of normal train frames, each by a fit without it.

    Raises:
        UserError: A half lacks a class.
    """
    first, second = split_halves(rows)
    if "normality_distance" in first:  # a baseline has one score alone
        normal = first[first["label"] == NORMAL].groupby("frame_id")  # the largest of its images counts
        distances = normal["normality_distance"].max().to_numpy(np.float64)
        start = replace(
            start,
            normal_margins=thin(normal["classifier_margin"].max().to_numpy(np.float64)),
            normal_distances=thin(np.concatenate([distances, start.left_out_distances])),
        )
    first = counted_rows(first.assign(margin=start.margins(first)), "margin")
    margins = first["margin"].to_numpy()
    temperature = fit_temperature(np.stack([margins / 2, -margins / 2], axis=1), first["label"].to_numpy())
    start = replace(start, temperature=temperature, rule=threshold.rule)
    scored = counted_rows(second.assign(anomaly_score=scores_of(second, start)["anomaly_score"].to_numpy()))
    if threshold.rule == "max_f1":
        is_abnormal = (scored["label"] == ABNORMAL).to_numpy()
        return replace(start, threshold=max_f1_threshold(scored["anomaly_score"].to_numpy(), is_abnormal))
    of_frames = scored[scored["label"] == NORMAL].groupby("frame_id")["anomaly_score"].max()  # its highest tile counts
    score, fpr = conformal_threshold(of_frames.to_numpy(), threshold.target_fpr)
    return replace(start, threshold=max(score, score_at(threshold.target_fpr, start)), target_fpr=fpr)


def split_halves(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split the `validation` rows in two, without the control kind `null`; see `in_first_half`.

    Raises:
        UserError: A half lacks a class.
    """
    counted = rows[rows["kind"] != KIND_NULL]
    is_first = in_first_half(counted["frame_id"])
    first, second = counted[is_first], counted[~is_first]
    for ordinal, half in (("first", first), ("second", second)):
        for name, label in LABELS.items():
            if not (half["label"] == label).any():
                frames = half["frame_id"].nunique()
                msg = (
                    f"The {ordinal} half of the validation frames ({frames} frames) has no {name} image, but "
                    "calibration needs both classes in both halves: use a longer video, lower "
                    "ingestion.interval_s, or raise ingestion.split.validation_frac."
                )
                raise UserError(msg)
    return first, second


def in_first_half(frame_ids: pd.Series) -> np.ndarray:
    """Tell which rows belong to the first half of their source's frames, in order of time: `(N,)` bool.

    If the number of frames is odd, the second half is the larger one.
    """
    frames = pd.Series(sorted(set(frame_ids), key=parse_frame_id))
    of_source = frames.groupby([parse_frame_id(frame_id)[0] for frame_id in frames])
    is_first = of_source.cumcount() < of_source.transform("size") // 2
    return frame_ids.isin(set(frames[is_first])).to_numpy()


def fit_temperature(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Find the temperature within `TEMPERATURE_BOUNDS` that minimises NLL; arguments as `negative_log_likelihood`."""
    best = minimize_scalar(
        lambda log_temperature: negative_log_likelihood(logits / np.exp(log_temperature), labels, weights),
        bounds=np.log(TEMPERATURE_BOUNDS),
        method="bounded",
    )
    return float(np.exp(best.x))


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Compute the mean negative log-likelihood (NLL) in nats.

    Args:
        logits: `(N, 2)`, indexed by label.
        labels: `(N,)` int.
        weights: `(N,)`, of the rows; None: all weigh the same.
    """
    logits = np.asarray(logits, np.float64)
    log_total = np.logaddexp(logits[:, 0], logits[:, 1])
    return float(np.average(log_total - logits[np.arange(len(labels)), labels], weights=weights))


def max_f1_threshold(scores: np.ndarray, is_abnormal: np.ndarray) -> float:
    """Find the threshold with the best F1, as a float32 value like the scores.

    It lies half-way between the lowest flagged score and the next lower one, to keep a margin on both sides.
    """
    precision, recall, thresholds = precision_recall_curve(is_abnormal, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = float(thresholds[int(np.argmax(f1[:-1]))])
    lower = scores[scores < best]
    middle = np.float32((best + lower.max()) / 2) if len(lower) else np.float32(best)
    return float(middle) if not len(lower) or middle > lower.max() else best  # float32 can round it onto the lower


def conformal_threshold(normal_scores: np.ndarray, target_fpr: float) -> tuple[float, float]:
    """Find a threshold that a new normal image reaches with a probability of at most `target_fpr`.

    This holds if the new image is exchangeable with these. The threshold is just above the score of rank
    ceil((n + 1)(1 - target_fpr)), or just above the highest score if n is too small for that rank.

    Args:
        normal_scores: `(n,)` float32, n >= 1.
        target_fpr: > 0 and < 1.

    Returns:
        The threshold, a float32 value, and the rate that it guarantees: `target_fpr`, or 1 / (n + 1) if that is higher.
    """
    count = len(normal_scores)
    highest_normal = np.sort(normal_scores.astype(np.float32))[_rank(count, target_fpr) - 1]
    return float(np.nextafter(highest_normal, np.float32(np.inf))), max(target_fpr, 1 / (count + 1))


def threshold_frames(rows: pd.DataFrame) -> int:
    """Count the normal frames among `validation` rows whose scores the rule `target_fpr` ranks."""
    _, second = split_halves(rows)
    return int(second.loc[second["label"] == NORMAL, "frame_id"].nunique())


def beta_of_rate(count: int, promised_fpr: float) -> tuple[int, int]:
    """Give the Beta distribution of the rate at which new normal images reach a conformal threshold.

    The promised rate is its mean, or a little more. From few scores a threshold may fall far from it, by chance: Vovk,
    "Conditional validity of inductive conformal predictors", 2012.

    Args:
        count: Number n of the normal scores that the threshold was found among, >= 1.
        promised_fpr: What `conformal_threshold` returned.

    Returns:
        Both parameters: n + 1 less the rank of the threshold, and that rank.
    """
    rank = _rank(count, promised_fpr)
    return count + 1 - rank, rank


def _rank(count: int, target_fpr: float) -> int:
    return min(math.ceil((count + 1) * (1 - target_fpr) - 1e-9), count)


def score_at(p: float, calibration: Calibration) -> float:
    """Give the score of a frame whose p-value is p, a float32 value; 0 of a classifier, which has no p-value.

    A threshold below it would call more normal frames anomalous than p, by the frames among which p-values are counted.

    Args:
        p: > 0 and < 1.
        calibration: `score` and `temperature`.
    """
    if calibration.score == "classifier":
        return 0.0
    log_odds = np.log((1 - p) / p) / calibration.temperature
    return float(softmax_abnormal(log_odds / 2, -log_odds / 2))


def thin(values: np.ndarray) -> list[float]:
    """Sort values `(N,)`, N >= 1, and keep at most `MOST_NORMAL_FRAMES`: evenly by rank, both ends among them."""
    return [float(value) for value in np.sort(values)[spread_evenly(len(values), MOST_NORMAL_FRAMES)]]
