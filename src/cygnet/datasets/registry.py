"""The MLflow model registry: a registered version by its alias, the previous champion, and a version's tags.

`challenger`, `champion`, `recalibrated` and `adapted` are entries of one dataset. Saving a fitted detector logs it to
MLflow, registers a version and sets the alias. Saving a version that is registered already only moves the alias, which
is a promotion.
"""

from typing import Any

import mlflow
from kedro.io import AbstractDataset
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.uri import is_databricks_unity_catalog_uri

from cygnet.datasets.base import ReadOnly, WriteOnly
from cygnet.endpoints.versions import PREVIOUS_CHAMPION, ModelVersion, VersionTags, quote
from cygnet.errors import UserError
from cygnet.model.serving.packaging import PackagedDetector, log_detector

SET_BY = {"challenger": "training", "champion": "serving", "recalibrated": "calibration", "adapted": "adaptation"}
"""The pipeline that sets an alias."""

MAX_TAG_CHARS = 1000
"""Longest value of a tag in Unity Catalog. Its keys must not contain any of `. , - = / :`."""


class RegisteredModelDataset(AbstractDataset[Any, Any]):
    """The version of a registered model that an alias names."""

    def __init__(
        self, *, name: str, alias: str, optional: bool = False, metadata: dict[str, Any] | None = None
    ) -> None:
        """Describe the alias.

        Args:
            name: Registered name; three levels in Unity Catalog.
            alias: `challenger`, `champion`, `recalibrated` or `adapted`.
            optional: Load None instead of failing when no version has the alias yet.
            metadata: For kedro-viz.
        """
        self._name = name
        self._alias = alias
        self._optional = optional
        self.metadata = metadata

    def check_settings(self) -> None:
        """Check the name before hours of training end with an error about it.

        Raises:
            UserError: The registry is Unity Catalog, and the name does not have three levels.
        """
        levels = self._name.split(".")
        if is_databricks_unity_catalog_uri(mlflow.get_registry_uri()) and (len(levels) != 3 or not all(levels)):
            msg = (
                f"Model '{self._name}' can't be registered in Unity Catalog, where a name has three levels, "
                "catalog.schema.model: set `model` in globals.yml."
            )
            raise UserError(msg)

    def save(self, data: PackagedDetector | ModelVersion) -> None:
        """Register a detector, unless it is a registered version already, and point the alias at it.

        Raises:
            UserError: As `check_settings`, or the registry refused the version or the alias; quotes its reason.
        """
        self.check_settings()
        try:
            version = data.version if isinstance(data, ModelVersion) else log_detector(data, self._name)
            MlflowClient().set_registered_model_alias(self._name, self._alias, version)
        except MlflowException as error:
            msg = f"The registry refused a new {self._alias} of model '{self._name}': {quote(error.message)}."
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


class PreviousVersionDataset(ReadOnly[ModelVersion]):
    """Loads the previous champion: the version that was promoted before the present one."""

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
            msg = f"'{self._name}' has no previous champion to roll back to: version {present.version} records none."
            raise UserError(msg)
        try:
            client.get_model_version(self._name, previous)
        except MlflowException as error:
            msg = f"Version {previous} of '{self._name}', the previous champion, was deleted."
            raise UserError(msg) from error
        return ModelVersion(self._name, previous)

    def load(self) -> ModelVersion:
        """Give the version; raises as `check` does."""
        return self.check()

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "alias": self._alias}


class VersionTagsDataset(WriteOnly[VersionTags]):
    """Saves tags of a registered version: what was decided about it."""

    def __init__(self, *, metadata: dict[str, Any] | None = None) -> None:
        """Describe the entry for kedro-viz."""
        self.metadata = metadata

    def save(self, data: VersionTags) -> None:
        """Set the tags, each cut to the length that every registry takes."""
        client = MlflowClient()
        for key, value in data.tags.items():
            cut = value if len(value) <= MAX_TAG_CHARS else f"{value[: MAX_TAG_CHARS - 3]}..."
            client.set_model_version_tag(data.version.name, data.version.version, key, cut)

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
        msg = f"No version of model '{name}' is the {alias}: run `kedro run --pipeline={SET_BY[alias]}` first."
        raise UserError(msg)
    return version
