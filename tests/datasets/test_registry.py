"""What the registry promises: a version by its alias, and a promotion that stores nothing twice."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError
from mlflow import MlflowClient

from cygnet.datasets.registry import ModelVersion, RegisteredModelDataset
from cygnet.errors import UserError
from cygnet.model.packaging import PackagedDetector
from cygnet.vision.codec import encode_png

pytestmark = pytest.mark.usefixtures("tracking")


def versions(name: str) -> list[str]:
    return sorted(str(found.version) for found in MlflowClient().search_model_versions(f"name='{name}'"))


def test_saved_detector_is_registered_under_its_alias(detector: PackagedDetector) -> None:
    challenger = RegisteredModelDataset(name="registered", alias="challenger")
    assert not challenger.exists()
    challenger.save(detector)
    challenger.save(detector)
    assert versions("registered") == ["1", "2"]
    assert challenger.exists()
    assert challenger.load() == ModelVersion("registered", "2")
    assert challenger.load().uri == "models:/registered/2"


def test_promotion_only_moves_the_alias(detector: PackagedDetector) -> None:
    challenger = RegisteredModelDataset(name="promoted", alias="challenger")
    champion = RegisteredModelDataset(name="promoted", alias="champion")
    challenger.save(detector)
    champion.save(challenger.load())
    challenger.save(detector)
    assert (champion.load().version, challenger.load().version) == ("1", "2")
    champion.save(challenger.load())
    assert (champion.load().version, challenger.load().version) == ("2", "2")
    assert versions("promoted") == ["1", "2"]


def test_version_predicts_as_the_scorer(detector: PackagedDetector, scene: Callable[..., np.ndarray]) -> None:
    dataset = RegisteredModelDataset(name="predicting", alias="challenger")
    dataset.save(detector)
    answer = dataset.load().predict([encode_png(scene(seed)) for seed in range(3)], cropped=True)
    expected = detector.scorer.score([scene(seed) for seed in range(3)])
    pd.testing.assert_frame_equal(answer[expected.columns], expected, check_exact=False, rtol=0, atol=1e-6)


def test_missing_model_is_the_users_mistake_unless_optional() -> None:
    with pytest.raises(DatasetError) as refused:
        RegisteredModelDataset(name="nobody", alias="challenger").load()
    assert isinstance(refused.value.__cause__, UserError)
    assert "'nobody' is the challenger: run `kedro run" in refused.value.__cause__.message
    assert RegisteredModelDataset(name="nobody", alias="champion", optional=True).load() is None


def test_missing_alias_is_the_users_mistake_unless_optional() -> None:
    MlflowClient().create_registered_model("nameless")
    with pytest.raises(DatasetError) as refused:
        RegisteredModelDataset(name="nameless", alias="champion").load()
    assert isinstance(refused.value.__cause__, UserError)
    optional = RegisteredModelDataset(name="nameless", alias="champion", optional=True)
    assert optional.load() is None
    assert not optional.exists()
