"""Calibration on validation: one temperature for the logits, one threshold for the score.

Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", 2017.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.metrics import precision_recall_curve

from cygnet.model.scorer import Calibration, scores_of
from cygnet.tables import ABNORMAL

TEMPERATURE_BOUNDS = (0.5, 5.0)
"""Outside, a temperature mends no overconfidence but hides that validation is too small or separates perfectly."""


def calibrate(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Find the temperature that minimises NLL, and then the threshold that maximises F1 of the abnormal class.

    Args:
        logits: `(N, 2)`, not calibrated.
        labels: `(N,)` int.
    """
    best = minimize_scalar(
        lambda log_temperature: negative_log_likelihood(logits / np.exp(log_temperature), labels),
        bounds=np.log(TEMPERATURE_BOUNDS),
        method="bounded",
    )
    temperature = float(np.exp(best.x))
    scores = scores_of(logits, Calibration(temperature, 0.5))["anomaly_score"].to_numpy()
    return Calibration(temperature, max_f1_threshold(scores, labels == ABNORMAL))


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood in nats of `(N, 2)` logits."""
    logits = np.asarray(logits, np.float64)
    log_total = np.logaddexp(logits[:, 0], logits[:, 1])
    return float(np.mean(log_total - logits[np.arange(len(labels)), labels]))


def max_f1_threshold(scores: np.ndarray, is_abnormal: np.ndarray) -> float:
    """Find the score from which calling images anomalous gives the best F1.

    Half-way to the next lower score, so that neither side sits on the edge; a float32 value, as scores are.
    """
    precision, recall, thresholds = precision_recall_curve(is_abnormal, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = float(thresholds[int(np.argmax(f1[:-1]))])
    lower = scores[scores < best]
    middle = np.float32((best + lower.max()) / 2) if len(lower) else np.float32(best)
    return float(middle) if not len(lower) or middle > lower.max() else best  # float32 can round it onto the lower
