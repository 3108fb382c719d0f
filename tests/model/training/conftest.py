"""Fixtures for fitting: the project's parameters, by type."""

import pytest

from cygnet.model.training.settings import FitSettings
from cygnet.parameters.augmentation import Augmentation
from cygnet.parameters.base import Parameters
from cygnet.parameters.synthesis import Synthesis
from cygnet.parameters.training import Training


@pytest.fixture
def synthesis(parameters: dict[str, Parameters]) -> Synthesis:
    """Give synthesis of conf/base."""
    synthesis: Synthesis = parameters["synthesis"]
    return synthesis


@pytest.fixture
def augmentation(parameters: dict[str, Parameters]) -> Augmentation:
    """Give augmentation of conf/base."""
    augmentation: Augmentation = parameters["augmentation"]
    return augmentation


@pytest.fixture
def settings(training: Training, synthesis: Synthesis, augmentation: Augmentation) -> FitSettings:
    """Give settings of a fit on little."""
    changes = {"batch_size": 8, "learning_rate": 3e-3, "layer_decay": 1.0, "epochs": 2}
    return FitSettings(training.model_copy(update=changes), synthesis, augmentation.reference)
