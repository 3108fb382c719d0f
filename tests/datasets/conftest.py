"""A fixture for registry and endpoint: a detector that was never fitted."""

import pytest

from cygnet.model.serving.packaging import PackagedDetector
from cygnet.parameters.base import Parameters
from cygnet.tables import NORMAL
from cygnet.vision.codec import encode_jpeg
from support.toys import toy_image, toy_scorer


@pytest.fixture(scope="session")
def detector(parameters: dict[str, Parameters]) -> PackagedDetector:
    """Give what training packages."""
    return PackagedDetector(toy_scorer(parameters["training"]), encode_jpeg(toy_image(NORMAL), 95), {"note": "toy"})
