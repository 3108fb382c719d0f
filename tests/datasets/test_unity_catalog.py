"""What Unity Catalog gets from us, through MLflow's and Databricks' own clients: versions, aliases, tags, refusals."""

from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import Pipeline, node
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from cygnet.datasets.registry import PreviousVersionDataset, RegisteredModelDataset, VersionTagsDataset
from cygnet.endpoints.versions import PREVIOUS_CHAMPION, ModelVersion, VersionTags
from cygnet.errors import UserError
from cygnet.hooks import UserErrorHooks
from cygnet.model.serving import packaging
from cygnet.model.serving.packaging import PackagedDetector
from cygnet.vision.codec import encode_png
from support.stub_catalog import UnityCatalog
from support.stub_server import Workspace
from support.toys import tracked

NAME = "main.pond.detector"


@pytest.fixture
def catalog(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UnityCatalog]:
    """Give the catalog of a workspace that is the registry; runs are kept in the shared store."""
    with Workspace().open() as workspace, tracked(store):
        monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("DATABRICKS_HOST", workspace.url)
        monkeypatch.setenv("DATABRICKS_TOKEN", workspace.token)
        mlflow.set_registry_uri("databricks-uc")
        yield workspace.catalog


def challenger() -> RegisteredModelDataset:
    return RegisteredModelDataset(name=NAME, alias="challenger")


def champion() -> RegisteredModelDataset:
    return RegisteredModelDataset(name=NAME, alias="champion")


def test_a_challenger_is_a_version_of_the_catalog_with_its_files_and_the_alias(
    catalog: UnityCatalog, detector: PackagedDetector
) -> None:
    assert not challenger().exists()
    challenger().save(detector)
    challenger().save(detector)
    assert {number: version["status"] for number, version in catalog.models[NAME].versions.items()} == {
        "1": "READY",
        "2": "READY",
    }
    assert catalog.models[NAME].aliases == {"challenger": "2"}
    assert challenger().load() == ModelVersion(NAME, "2")
    assert {"/Models/main/pond/detector/2/MLmodel", "/Models/main/pond/detector/2/code/cygnet/tables.py"} <= set(
        catalog.files
    )


def test_a_promotion_and_a_rollback_only_move_the_alias(catalog: UnityCatalog, detector: PackagedDetector) -> None:
    for before in (None, "1"):
        challenger().save(detector)
        version = challenger().load()
        tags = {"cygnet_gate_reasons": "x" * 5000, **({PREVIOUS_CHAMPION: before} if before else {})}
        VersionTagsDataset().save(VersionTags(version, tags))
        champion().save(version)
    stored = set(catalog.files)
    assert catalog.models[NAME].aliases == {"challenger": "2", "champion": "2"}
    assert len(catalog.models[NAME].tags["2"]["cygnet_gate_reasons"]) == 1000
    champion().save(PreviousVersionDataset(name=NAME, alias="champion").load())
    assert catalog.models[NAME].aliases == {"challenger": "2", "champion": "1"}
    assert (set(catalog.files), sorted(catalog.models[NAME].versions)) == (stored, ["1", "2"])
    with pytest.raises(UserError, match=f"'{NAME}' has no previous champion"):
        PreviousVersionDataset(name=NAME, alias="champion").check()


@pytest.mark.usefixtures("catalog")
def test_a_version_of_the_catalog_predicts_as_the_scorer(
    detector: PackagedDetector, scene: Callable[..., np.ndarray]
) -> None:
    challenger().save(detector)
    version = challenger().load()
    answer = version.predict([encode_png(scene(seed)) for seed in range(3)], cropped=True)
    expected = detector.scorer.score([scene(seed) for seed in range(3)])[0]
    pd.testing.assert_frame_equal(answer[expected.columns], expected, check_exact=False, rtol=0, atol=1e-6)
    assert version.metadata["note"] == "toy"


@pytest.mark.usefixtures("catalog")
def test_a_model_that_is_not_there_is_the_users_mistake_unless_optional() -> None:
    with pytest.raises(UserError, match=f"No version of model '{NAME}' is the challenger"):
        challenger().check()
    MlflowClient().create_registered_model(NAME)
    with pytest.raises(UserError, match=f"No version of model '{NAME}' is the challenger"):
        challenger().check()
    assert RegisteredModelDataset(name=NAME, alias="champion", optional=True).load() is None


def refusal(dataset: RegisteredModelDataset, detector: PackagedDetector) -> str:
    """The one sentence of a save that is refused."""
    with pytest.raises(DatasetError) as refused:
        dataset.save(detector)
    cause = refused.value.__cause__
    assert isinstance(cause, UserError)
    assert "\n" not in cause.message
    return cause.message


@pytest.mark.parametrize("name", ["detector", "pond.detector", "a.main.pond.detector", "main..detector"])
def test_a_name_without_three_levels_is_refused_before_anything_is_stored(
    catalog: UnityCatalog, detector: PackagedDetector, name: str
) -> None:
    dataset = RegisteredModelDataset(name=name, alias="challenger")
    with pytest.raises(UserError, match="three levels"):
        dataset.check_settings()
    assert f"Model '{name}' can't be registered in Unity Catalog" in refusal(dataset, detector)
    assert (catalog.models, catalog.files) == ({}, {})


@pytest.mark.usefixtures("catalog")
def test_a_run_that_would_end_at_such_a_name_does_not_start() -> None:
    training = Pipeline([node(lambda images: None, "images", "challenger", name="train")])
    datasets = {"images": MemoryDataset([]), "challenger": RegisteredModelDataset(name="detector", alias="challenger")}
    hooks = UserErrorHooks()
    hooks._data, hooks._parameters, hooks._given = "data", {}, {}
    with pytest.raises(UserError, match="three levels"):
        hooks.before_pipeline_run(training, DataCatalog(datasets))


def test_a_model_without_a_signature_is_refused(
    catalog: UnityCatalog, detector: PackagedDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = packaging.SIGNATURE.__class__(inputs=packaging.SIGNATURE.inputs)
    monkeypatch.setattr(packaging, "SIGNATURE", without)
    message = refusal(challenger(), detector)
    assert message.startswith(f"The registry refused a new challenger of model '{NAME}': ")
    assert "signature" in message
    assert (catalog.models[NAME].versions, catalog.files) == ({}, {})


def test_whoever_may_not_create_a_model_is_told_so(catalog: UnityCatalog, detector: PackagedDetector) -> None:
    catalog.may_create = False
    assert "User does not have CREATE MODEL on Schema 'main.pond'" in refusal(challenger(), detector)


def test_there_are_no_stages(catalog: UnityCatalog, detector: PackagedDetector) -> None:
    challenger().save(detector)
    with pytest.raises(MlflowException, match="unsupported for models in the Unity Catalog"):
        MlflowClient().transition_model_version_stage(NAME, "1", "Production")
