"""Results that pass between the steps of an evaluation, apart from the modules that compute them.

The annotations of the nodes therefore resolve without importing scikit-learn.
"""

from dataclasses import dataclass

from cygnet.model.serving.scorer import Calibration
from cygnet.reports import Localisation

Variant = dict[str, float]
"""Name and value of the settings that distinguish one variant of a baseline from another."""


@dataclass(frozen=True)
class FittedBaseline:
    """The variant of a baseline that was chosen on `validation`, and its calibration."""

    variant: Variant
    calibration: Calibration


@dataclass(frozen=True)
class LocalisationByKind:
    """Localisation of each kind with all normal images; None where no region of a mask is large enough."""

    overall: Localisation | None
    by_kind: dict[str, Localisation | None]  # without `null` and `real`, which have no mask to find


@dataclass(frozen=True)
class LocalisationByPart:
    """How well the map of each part of the network covers the masks."""

    drawn: LocalisationByKind  # `anomaly_map`: what is shown
    classifier: LocalisationByKind  # `classifier_map`
