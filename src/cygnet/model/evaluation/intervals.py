"""95 % confidence intervals of metrics, by a bootstrap that resamples frames.

The images of one frame share its light, its scene and its donor, so they are not independent observations: the
bootstrap resamples whole frames with all their rows (Davison and Hinkley, "Bootstrap Methods and their Application",
1997, section 3.8; percentile interval). All resamples are evaluated at once, as weights of the rows.

Where every resample gives the same value, as for an AUROC of exactly 1, the bootstrap interval has no width and claims
more than a sample can show. There the bound is exact: none of n frames behaved differently, so by Clopper and Pearson
("The use of confidence or fiducial limits", Biometrika 26, 1934) at most a share e = 1 - (0.05 / 2)^(1 / n) of all
frames does. The interval spans the values that the metric takes if that share is as bad, or as good, as possible. n is
counted for each class separately. For recall this is the Clopper-Pearson interval itself. For AUROC the lower bound is
(1 - e)^2 = 0.025^(2 / n), the same as from n / 2 pairs of two frames that are all in order.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pandas as pd

from cygnet.reports import Interval, MetricIntervals
from cygnet.tables import ABNORMAL
from cygnet.vision.rng import generator

LEVEL = 0.95
CELLS_AT_ONCE = 4_000_000
"""Resamples x rows in memory at once: 32 MB per array."""

DECIMALS = 12
"""Beyond these decimals values differ only by the order of summation."""


def confidence_intervals(rows: pd.DataFrame, resamples: int, seed: int) -> MetricIntervals:
    """Estimate the intervals of AUROC, average precision, F1 and recall.

    Args:
        rows: `frame_id`, `label`, `anomaly_score`, `is_anomalous`; both classes must be present.
        resamples: Number of bootstrap resamples.
        seed: Of the resampling; the same frames and seed give the same resamples.
    """
    is_abnormal = (rows["label"] == ABNORMAL).to_numpy()
    scores, flagged = rows["anomaly_score"].to_numpy(np.float64), rows["is_anomalous"].to_numpy(bool)
    parts = [weighted_metrics(scores, is_abnormal, flagged, weights) for weights in _resample(rows, resamples, seed)]
    worst, best = _extremes(rows["frame_id"].to_numpy(), scores, is_abnormal, flagged)
    tail = (1 - LEVEL) / 2

    def interval(name: str) -> Interval:
        low, high = np.nanquantile(np.concatenate([part[name] for part in parts]), [tail, 1 - tail])
        method: Literal["bootstrap", "clopper_pearson"] = "bootstrap"
        if high - low < 10**-DECIMALS:
            low, high, method = worst[name][0], best[name][0], "clopper_pearson"
        return {"low": round(float(low), DECIMALS), "high": round(float(high), DECIMALS), "method": method}

    return {
        "auroc": interval("auroc"),
        "average_precision": interval("average_precision"),
        "f1": interval("f1"),
        "recall": interval("recall"),
    }


def weighted_metrics(
    scores: np.ndarray, is_abnormal: np.ndarray, flagged: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute AUROC, average precision, F1 and recall of weighted rows.

    Args:
        scores: `(N,)` float64, the larger the more abnormal.
        is_abnormal: `(N,)` bool.
        flagged: `(N,)` bool, the decisions.
        weights: `(R, N)`, how often each row counts, in R resamples.

    Returns:
        Each metric `(R,)` float64; NaN where a resample lacks a class.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))  # (T,), of each run of tied scores
    abnormal = np.add.reduceat(weights[:, order] * is_abnormal[order], starts, axis=1)  # (R, T)
    normal = np.add.reduceat(weights[:, order] * ~is_abnormal[order], starts, axis=1)  # (R, T)
    hits, alarms = abnormal.cumsum(axis=1), normal.cumsum(axis=1)  # with each score as the threshold
    abnormal_total, normal_total = hits[:, -1], alarms[:, -1]
    true, false = weights @ (is_abnormal & flagged), weights @ (~is_abnormal & flagged)  # (R,), as decided
    with np.errstate(invalid="ignore", divide="ignore"):
        in_order = abnormal * (normal_total[:, None] - alarms + normal / 2)
        precision = np.where(abnormal > 0, hits / (hits + alarms), 0.0)
        metrics = {
            "auroc": in_order.sum(axis=1) / (abnormal_total * normal_total),
            "average_precision": (abnormal * precision).sum(axis=1) / abnormal_total,
            "f1": 2 * true / (true + false + abnormal_total),
            "recall": true / abnormal_total,
        }
    has_both = (abnormal_total > 0) & (normal_total > 0)
    return {name: np.where(has_both, values, np.nan) for name, values in metrics.items()}


def _resample(rows: pd.DataFrame, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Resample frames with replacement: weights `(R, N)` of the rows, a bounded number of resamples at a time."""
    frames, frame_of_row = np.unique(rows["frame_id"].to_numpy(str), return_inverse=True)
    rng = generator(seed, "bootstrap")
    at_once = max(1, CELLS_AT_ONCE // max(len(rows), len(frames)))
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        sampled = rng.integers(len(frames), size=(count, len(frames)))
        cells = sampled + len(frames) * np.arange(count)[:, None]  # each resample counts in a range of its own
        times = np.bincount(cells.ravel(), minlength=count * len(frames)).reshape(count, len(frames))
        yield times[:, frame_of_row].astype(np.float64)


def _extremes(
    frame_ids: np.ndarray, scores: np.ndarray, is_abnormal: np.ndarray, flagged: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Compute the metrics if the share of frames that may behave differently is at its worst, and at its best."""
    different = np.empty(len(scores))
    for of_class in (is_abnormal, ~is_abnormal):
        different[of_class] = 1 - ((1 - LEVEL) / 2) ** (1 / max(1, len(set(frame_ids[of_class]))))
    weights = np.concatenate([1 - different, different])[None]  # (1, 2 N)
    twice = np.tile(is_abnormal, 2)
    worst, best = (
        weighted_metrics(
            np.concatenate([scores, np.where(is_abnormal == goes_well, np.inf, -np.inf)]),
            twice,
            np.concatenate([flagged, is_abnormal == goes_well]),
            weights,
        )
        for goes_well in (False, True)
    )
    return worst, best
