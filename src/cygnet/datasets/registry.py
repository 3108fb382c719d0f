"""A registered model by its alias: `challenger` and `champion` are two entries of this one dataset.

Saving a fitted detector logs it to MLflow, registers a version and sets the alias; saving a version that is registered
already only moves the alias: that is a promotion. Loading gives name, version and URI, in any process.
"""

from dataclasses import dataclass
from typing import Any

import mlflow
import pandas as pd
from kedro.io import AbstractDataset
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from cygnet.errors import UserError
from cygnet.model.packaging import PackagedDetector, log_detector


@dataclass(frozen=True)
class ModelVersion:
    """A registered version: its name, its number, and the URI that MLflow loads and serves."""

    name: str
    version: str

    @property
    def uri(self) -> str:
        """Address by version: an alias can move while the model is being served."""
        return f"models:/{self.name}/{self.version}"

    def predict(self, images: list[bytes], *, cropped: bool) -> pd.DataFrame:
        """Score encoded images in this process, with the model as it is stored."""
        model = mlflow.pyfunc.load_model(self.uri)
        return model.predict(pd.DataFrame({"image": images}), params={"cropped": cropped})


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

    def save(self, data: PackagedDetector | ModelVersion) -> None:
        """Register a detector, or take a registered version; then let the alias name it."""
        version = data.version if isinstance(data, ModelVersion) else log_detector(data, self._name)
        MlflowClient().set_registered_model_alias(self._name, self._alias, version)

    def check(self) -> ModelVersion | None:
        """Resolve the alias.

        Raises:
            UserError: No version has the alias, and it is not optional.
        """
        version = self._version()
        if version is None and not self._optional:
            msg = f"No version of model '{self._name}' is the {self._alias}: run `kedro run --pipeline=training` first."
            raise UserError(msg)
        return version

    def load(self) -> ModelVersion | None:
        """Give the version, or None if it is optional and not there; raises as `check` does."""
        return self.check()

    def _version(self) -> ModelVersion | None:
        try:
            found = MlflowClient().get_model_version_by_alias(self._name, self._alias)
        except MlflowException as error:
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                return None
            raise
        return ModelVersion(self._name, str(found.version))

    def _exists(self) -> bool:
        return self._version() is not None

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "alias": self._alias}
