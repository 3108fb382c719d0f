"""Examples and settings small enough to fit on."""

import dataclasses
from typing import Any

import numpy as np
import torch

from cygnet.model.network.preprocessing import Preprocessing
from cygnet.model.training.examples import Examples
from cygnet.model.training.settings import FitSettings
from cygnet.parameters.augmentation import Augmentation
from cygnet.parameters.synthesis import Synthesis
from cygnet.tables import ABNORMAL, NORMAL
from support.toys import toy_image

PREPROCESSING = Preprocessing(32)


def bright_and_dark(per_class: int, first_seed: int = 0, *, swapped: bool = False) -> Examples:
    """Bright images are abnormal and dark ones normal; the other way round if swapped."""
    labels = [ABNORMAL, NORMAL] * per_class
    images = [toy_image(label, first_seed + place, 32) for place, label in enumerate(labels)]
    coverage = [torch.full((2, 2), float("nan") if label == ABNORMAL else 0.0) for label in labels]
    named = torch.tensor(labels)
    return Examples(
        torch.from_numpy(np.stack(images)),
        1 - named if swapped else named,
        torch.stack(coverage),
        np.arange(len(labels)),
        f"{per_class} {first_seed} {swapped}",
        PREPROCESSING,
    )


def drawing(synthesis: Synthesis, kind: str, **spots: object) -> Synthesis:
    """Draw this kind alone on train, in other spots."""
    kinds = synthesis.kinds.model_copy(update={"train": {kind: 1}})
    return synthesis.model_copy(update={"kinds": kinds, "spots": synthesis.spots.model_copy(update=spots)})


def with_preset(augmentation: Augmentation, preset: str, **changes: object) -> Augmentation:
    """Select a preset, some of its values changed."""
    changed = getattr(augmentation, preset).model_copy(update=changes)
    return augmentation.model_copy(update={"preset": preset, preset: changed})


def change(settings: FitSettings, path: str, value: object) -> FitSettings:
    """Change one parameter, named as in `--params`."""
    group, *names = path.split(".")
    values = getattr(settings, group).model_dump()
    inner = values
    for name in names[:-1]:
        inner = inner[name]
    inner[names[-1]] = value
    changed = type(getattr(settings, group)).model_validate(values)
    return dataclasses.replace(settings, **{group: changed})


NOT_READ: dict[str, Any] = {
    "training.threshold.rule": "max_f1",
    "training.evaluation.resamples": 500,
    "training.last_blocks": 3,
    "synthesis.kinds.test": {"polygon": 7},
    "synthesis.kinds.validation": {"polygon": 7},
    "synthesis.seeds.test": 9,
}
"""What changes no weight by itself: what it does to the rows shows in their fingerprint."""
