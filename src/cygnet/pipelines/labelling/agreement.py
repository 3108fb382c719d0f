"""How far a model and a person agree on the same frames: confusion and Cohen's kappa, with its interval.

Kappa ("A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20, 1960) is the
agreement beyond that of two who guess with the same frequencies: 1 is perfect, 0 is chance. Its interval is a bootstrap
over frames: resampling frames of four kinds means to draw the four counts from a multinomial distribution. Where the
two always agree, every resample gives 1, and the bound is exact, as in `cygnet.model.evaluation.intervals`. Where one
of them only ever gives one label, kappa is 0 whatever the other says, and there is no interval.
"""

import numpy as np

from cygnet.reports import Agreement, Interval
from cygnet.tables import LABELS
from cygnet.vision.rng import generator

RESAMPLES = 10_000
TAIL = 0.025
SAME = 1e-12
NAMES = sorted(LABELS)


def measure_agreement(human: list[str], model: list[str]) -> Agreement | None:
    """Compare two lists of labels, frame by frame.

    Args:
        human: A key of `LABELS` for each frame.
        model: The same, in the same order.

    Returns:
        The comparison; None if there is no frame.
    """
    if not human:
        return None
    counts = np.zeros((2, 2), int)
    np.add.at(counts, ([NAMES.index(label) for label in human], [NAMES.index(label) for label in model]), 1)
    kappa = float(cohen_kappa(counts[None])[0])
    return {
        "frames": len(human),
        "agree_frac": float(np.trace(counts) / len(human)),
        "confusion": {
            said: dict(zip(NAMES, map(int, row), strict=True)) for said, row in zip(NAMES, counts, strict=True)
        },
        "kappa": kappa if np.isfinite(kappa) else None,
        "kappa_interval": _interval(counts),
    }


def cohen_kappa(counts: np.ndarray) -> np.ndarray:
    """Compute Cohen's kappa of tables `(R, 2, 2)` of counts: `(R,)` float64, NaN where both always say the same one."""
    total = counts.sum(axis=(1, 2))
    observed = np.trace(counts, axis1=1, axis2=2) / total
    expected = (counts.sum(axis=1) * counts.sum(axis=2)).sum(axis=1) / total**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)


def _interval(counts: np.ndarray) -> Interval | None:
    if (counts.sum(axis=0) == 0).any() or (counts.sum(axis=1) == 0).any():
        return None
    total = int(counts.sum())
    drawn = generator(0, "kappa").multinomial(total, counts.ravel() / total, size=RESAMPLES).reshape(-1, 2, 2)
    low, high = np.nanquantile(cohen_kappa(drawn), [TAIL, 1 - TAIL])
    if high - low > SAME:
        return {"low": float(low), "high": float(high), "method": "bootstrap"}
    expected = float((counts.sum(axis=0) * counts.sum(axis=1)).sum() / total**2)
    least = TAIL ** (1 / total)  # of the agreement, by Clopper and Pearson
    return {"low": (least - expected) / (1 - expected), "high": float(high), "method": "clopper_pearson"}
