"""Fixtures for registry and endpoint: a detector that was never fitted, and a store to register it in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cygnet.model.serving.packaging import PackagedDetector
from cygnet.parameters.base import Parameters
from cygnet.tables import NORMAL
from cygnet.vision.codec import encode_jpeg
from support.toys import toy_image, toy_scorer, tracked


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of the MLflow store that all tests of this session share."""
    return tmp_path_factory.getbasetemp() / "mlflow"


@pytest.fixture
def tracking(store: Path) -> Iterator[None]:
    """Track in the shared store."""
    with tracked(store):
        yield


@pytest.fixture(scope="session")
def detector(parameters: dict[str, Parameters]) -> PackagedDetector:
    """Give what training packages."""
    return PackagedDetector(toy_scorer(parameters["training"]), encode_jpeg(toy_image(NORMAL), 95), {"note": "toy"})
