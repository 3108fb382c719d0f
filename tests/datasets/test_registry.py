"""What the registry promises: a version by its alias, and a promotion that stores nothing twice."""

import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError
from mlflow import MlflowClient

from cygnet.datasets.registry import PreviousVersionDataset, RegisteredModelDataset, VersionTagsDataset
from cygnet.endpoints.versions import PREVIOUS_CHAMPION, ModelVersion, VersionTags
from cygnet.errors import UserError
from cygnet.model.serving.packaging import PackagedDetector
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
    expected = detector.scorer.score([scene(seed) for seed in range(3)])[0]
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


def test_version_gives_what_was_stored_with_it(detector: PackagedDetector) -> None:
    dataset = RegisteredModelDataset(name="stored", alias="challenger")
    dataset.save(detector)
    assert dataset.load().metadata["note"] == "toy"


def test_version_whose_artifacts_are_gone_is_a_sentence(detector: PackagedDetector) -> None:
    dataset = RegisteredModelDataset(name="gone", alias="champion")
    dataset.save(detector)
    version = dataset.load()
    shutil.rmtree(Path(mlflow.artifacts.download_artifacts(version.uri)))  # a local store gives its own folder
    with pytest.raises(
        UserError, match=r"gone version 1 can't be used: .*\. Train again with `kedro run`, restore"
    ) as refused:
        version.predict([b"image"], cropped=True)
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("damage", ["settings", "code"])
def test_version_of_an_older_cygnet_is_a_sentence(detector: PackagedDetector, damage: str) -> None:
    dataset = RegisteredModelDataset(name=f"old-{damage}", alias="champion")
    dataset.save(detector)
    version = dataset.load()
    folder = Path(mlflow.artifacts.download_artifacts(version.uri))  # a local store gives its own folder
    settings = folder / "artifacts" / "detector" / "detector.json"
    if damage == "settings":
        settings.write_text(settings.read_text().replace("request_px", "pixels"))
    else:
        served = folder / "served_model.py"
        served.write_text(served.read_text().replace("Scorer", "ScorerOfBefore"))
    with pytest.raises(
        UserError, match=f"old-{damage} version 1 can't be used: .* Train again with `kedro run`, restore"
    ):
        version.predict([b"image"], cropped=True)


def test_tags_are_set_again_and_cut_to_what_every_registry_takes(detector: PackagedDetector) -> None:
    dataset = RegisteredModelDataset(name="tagged", alias="challenger")
    dataset.save(detector)
    tags = VersionTagsDataset()
    tags.save(VersionTags(dataset.load(), {"short": "x" * 1000, "long": "y" * 1001, "empty": "was not"}))
    tags.save(VersionTags(dataset.load(), {"empty": ""}))
    found = MlflowClient().get_model_version("tagged", "1").tags
    assert found["short"] == "x" * 1000
    assert found["long"] == "y" * 997 + "..."
    assert found["empty"] == ""


def previous(name: str) -> PreviousVersionDataset:
    return PreviousVersionDataset(name=name, alias="champion")


def test_rollbacks_go_back_champion_by_champion_until_none_is_left(detector: PackagedDetector) -> None:
    champion = RegisteredModelDataset(name="chained", alias="champion")
    for version, before in (("1", None), ("2", "1"), ("3", "2")):
        champion.save(detector)
        tags = {} if before is None else {PREVIOUS_CHAMPION: before}
        VersionTagsDataset().save(VersionTags(ModelVersion("chained", version), tags))
    for expected in ("2", "1"):
        champion.save(previous("chained").load())
        assert champion.load().version == expected
    with pytest.raises(UserError, match="'chained' has no previous champion"):
        previous("chained").check()


def test_rollback_without_a_champion_or_to_a_deleted_one_is_the_users_mistake(detector: PackagedDetector) -> None:
    with pytest.raises(UserError, match="'uncrowned' is the champion: run `kedro run --pipeline=serving`"):
        previous("uncrowned").check()
    champion = RegisteredModelDataset(name="bereft", alias="champion")
    champion.save(detector)
    champion.save(detector)
    VersionTagsDataset().save(VersionTags(champion.load(), {PREVIOUS_CHAMPION: "1"}))
    MlflowClient().delete_model_version("bereft", "1")
    with pytest.raises(UserError, match="Version 1 of 'bereft', the previous champion, was deleted"):
        previous("bereft").check()
