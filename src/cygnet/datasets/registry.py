"""A registered model by its alias: `challenger` and `champion` are two entries of this one dataset.

Saving a fitted detector logs it to MLflow, registers a version and sets the alias; saving a version that is registered
already only moves the alias: that is a promotion. Loading gives name, version and URI, in any process.

What a version went through stands in its tags. A champion names the one before it there, so that rollbacks can go back
champion by champion.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mlflow
import pandas as pd
from kedro.io import AbstractDataset
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.uri import is_databricks_unity_catalog_uri

from cygnet.errors import UserError
from cygnet.model.serving.packaging import PackagedDetector, log_detector

MADE_BY = {"challenger": "training", "champion": "serving"}
"""The pipeline that lets an alias name a version."""

PREVIOUS_CHAMPION = "cygnet_previous_champion"
"""Tag of a champion: the version that was the champion before it."""

LONGEST_TAG = 1000
"""Characters of a tag's value in Unity Catalog; its keys have none of `. , - = / :`."""

MOST_SAID = 300
"""Characters of what MLflow says that a sentence of ours repeats."""


@dataclass(frozen=True)
class ModelVersion:
    """A registered version: its name, its number, and the URI that MLflow loads and serves."""

    name: str
    version: str

    @property
    def uri(self) -> str:
        """Address by version: an alias can move while the model is being served."""
        return f"models:/{self.name}/{self.version}"

    @property
    def metadata(self) -> dict[str, Any]:
        """What was stored with the model when it was logged; empty, if nothing was."""
        return mlflow.models.get_model_info(self.uri).metadata or {}

    def made_with(self) -> dict[str, Any]:
        """The parameters that the model was made with, by dotted name; empty for one that does not record them."""
        return self.metadata.get("made_with", {})

    def predict(self, images: list[bytes], *, cropped: bool) -> pd.DataFrame:
        """Score encoded images in this process, with the model as it is stored.

        Raises:
            UserError: The stored model can't be used here.
        """
        try:
            return self._model.predict(pd.DataFrame({"image": images}), params={"cropped": cropped})
        except Exception as error:  # the code of another version of Cygnet fails in any way
            raise self.unusable(error) from error

    def unusable(self, reason: Exception) -> UserError:
        """Say that the stored model can't be used here, and what to do."""
        return UserError(
            f"{self.name} version {self.version} can't be used: it is missing, damaged, or of another version of "
            "Cygnet. Restore it, let its alias name another version, or, in serving, compare with none "
            f"(serving.gate.mode=off). The reason: {' '.join(str(reason).split())[:MOST_SAID]}"
        )

    @cached_property
    def _model(self) -> Any:
        return mlflow.pyfunc.load_model(self.uri)


@dataclass(frozen=True)
class VersionTags:
    """What is to be noted at a version."""

    version: ModelVersion
    tags: dict[str, str]


@dataclass(frozen=True)
class Decision:
    """Whether a version becomes the champion, and what speaks against it."""

    version: ModelVersion
    is_promoted: bool
    reasons: tuple[str, ...] = ()


class RegisteredModelDataset(AbstractDataset[Any, Any]):
    """The version of a registered model that an alias names."""

    def __init__(
        self, *, name: str, alias: str, optional: bool = False, metadata: dict[str, Any] | None = None
    ) -> None:
        """Describe the alias.

        Args:
            name: Registered name; three levels in Unity Catalog.
            alias: `challenger` or `champion`.
            optional: Load None instead of failing when no version has the alias yet.
            metadata: For kedro-viz.
        """
        self._name = name
        self._alias = alias
        self._optional = optional
        self.metadata = metadata

    def check_settings(self) -> None:
        """Look at the name, before hours of training end at it.

        Raises:
            UserError: The registry is Unity Catalog, and the name has not its three levels.
        """
        levels = self._name.split(".")
        if is_databricks_unity_catalog_uri(mlflow.get_registry_uri()) and (len(levels) != 3 or not all(levels)):
            msg = (
                f"Model '{self._name}' can't be registered in Unity Catalog, where a name has three levels, "
                "catalog.schema.model: set `model` in globals.yml."
            )
            raise UserError(msg)

    def save(self, data: PackagedDetector | ModelVersion) -> None:
        """Register a detector, or take a registered version; then let the alias name it.

        Raises:
            UserError: As `check_settings`, or the registry did not take the version or the alias; with what it says.
        """
        self.check_settings()
        try:
            version = data.version if isinstance(data, ModelVersion) else log_detector(data, self._name)
            MlflowClient().set_registered_model_alias(self._name, self._alias, version)
        except MlflowException as error:
            said = " ".join(error.message.split())[:MOST_SAID]
            msg = f"The registry did not take a new {self._alias} of model '{self._name}': {said}"
            raise UserError(msg) from error

    def check(self) -> ModelVersion | None:
        """Resolve the alias.

        Raises:
            UserError: No version has the alias, and it is not optional.
        """
        return (_version_by_alias if self._optional else _required_version)(self._name, self._alias)

    def load(self) -> ModelVersion | None:
        """Give the version, or None if it is optional and not there; raises as `check` does."""
        return self.check()

    def made_with(self) -> dict[str, Any]:
        """What the version records of its parameters; nothing for an optional one, which is measured and not used."""
        return {} if self._optional else _required_version(self._name, self._alias).made_with()

    def _exists(self) -> bool:
        return _version_by_alias(self._name, self._alias) is not None

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "alias": self._alias}


class PreviousVersionDataset(AbstractDataset[None, ModelVersion]):
    """The version that was the champion before the present one."""

    def __init__(self, *, name: str, alias: str, metadata: dict[str, Any] | None = None) -> None:
        """Describe the model by its registered name, and the champion by its alias."""
        self._name = name
        self._alias = alias
        self.metadata = metadata

    def check(self) -> ModelVersion:
        """Follow the champion's tag.

        Raises:
            UserError: There is no champion, none before it, or that one was deleted.
        """
        present = _required_version(self._name, self._alias)
        client = MlflowClient()
        previous = client.get_model_version(self._name, present.version).tags.get(PREVIOUS_CHAMPION)
        if previous is None:
            msg = f"There is no champion of '{self._name}' before version {present.version}: nothing to go back to."
            raise UserError(msg)
        try:
            client.get_model_version(self._name, previous)
        except MlflowException as error:
            msg = f"Version {previous} of '{self._name}', the champion before version {present.version}, was deleted."
            raise UserError(msg) from error
        return ModelVersion(self._name, previous)

    def load(self) -> ModelVersion:
        """Give the version; raises as `check` does."""
        return self.check()

    def save(self, data: None) -> None:
        """Refuse: a champion's tag is saved with the decision that made it one."""
        raise NotImplementedError

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "alias": self._alias}


class VersionTagsDataset(AbstractDataset[VersionTags, None]):
    """Notes at a registered version what was decided about it; write-only."""

    def __init__(self, *, metadata: dict[str, Any] | None = None) -> None:
        """Take what kedro-viz shows."""
        self.metadata = metadata

    def save(self, data: VersionTags) -> None:
        """Set the tags, each cut to what every registry takes."""
        client = MlflowClient()
        for key, value in data.tags.items():
            cut = value if len(value) <= LONGEST_TAG else f"{value[: LONGEST_TAG - 3]}..."
            client.set_model_version_tag(data.version.name, data.version.version, key, cut)

    def load(self) -> None:
        """Refuse: tags are only written."""
        raise NotImplementedError

    def _describe(self) -> dict[str, Any]:
        return {}


def _version_by_alias(name: str, alias: str) -> ModelVersion | None:
    try:
        found = MlflowClient().get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise
    return ModelVersion(name, str(found.version))


def _required_version(name: str, alias: str) -> ModelVersion:
    version = _version_by_alias(name, alias)
    if version is None:
        msg = f"No version of model '{name}' is the {alias}: run `kedro run --pipeline={MADE_BY[alias]}` first."
        raise UserError(msg)
    return version
