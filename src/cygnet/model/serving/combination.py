"""One anomaly score made of two, by a rule that is fixed in advance.

The classifier knows the anomalies that were drawn to train it; the normality knows none. Chosen on drawn anomalies, the
classifier would always win. Each score is therefore turned into a p-value among normal frames that neither was fitted
on, and the smaller one decides (Tippett, 1931; for detectors: "CADES", ICML 2025). No anomaly takes part in that.

A conformal p-value is (1 + normal scores at least as high) / (n + 1): it has steps, and none is below 1 / (n + 1). Here
the steps are smooth, because rounding must not move a score by a whole one. Above the highest normal score the 1 decays
like 1 / (1 + excess): anomalies keep their order, however few normal frames there are.
"""

from collections.abc import Sequence

import numpy as np

LARGEST_P = 1 - 1e-9
"""An image more normal than all others keeps a finite logit."""


def p_value(scores: np.ndarray, normal_scores: Sequence[float]) -> np.ndarray:
    """Give the share of normal frames that score at least as high, smoothed; it falls strictly as the score rises.

    Args:
        scores: `(N,)`; NaN remains NaN.
        normal_scores: n >= 1 scores in ascending order.

    Returns:
        `(N,)` float64, > 0 and < 1.
    """
    normal, values = np.asarray(normal_scores, np.float64), np.asarray(scores, np.float64)
    count, spread = len(normal), float(normal.std())
    smallest = max(1e-3 * float(np.abs(normal).max()), 1e-9)
    quartiles = np.subtract(*np.quantile(normal, [0.75, 0.25])) / 1.34
    # Silverman's rule of thumb, "Density Estimation for Statistics and Data Analysis", 1986
    width = max(0.9 * min(spread, float(quartiles)) * count**-0.2, smallest)
    above = (normal - values[:, None]) / width  # (N, n)
    reached = (1 / (1 + np.exp(-np.clip(above, -700, 700)))).sum(axis=1)
    excess = np.maximum(values - normal[-1], 0) / max(spread, smallest)
    return np.minimum((reached + 1 / (1 + excess)) / (count + 1), LARGEST_P)


def combine(p_values: np.ndarray) -> np.ndarray:
    """Combine the p-values of k scores, `(N, k)`, into the log odds that an image is not normal, `(N,)` float64.

    The smallest of k independent p-values is at most p with probability 1 - (1 - p)^k. NaN stands for a score that an
    image does not have: its k is one less.
    """
    log_kept = np.isfinite(p_values).sum(axis=1) * np.log1p(-np.nanmin(p_values, axis=1))
    return log_kept - np.log(-np.expm1(log_kept))
