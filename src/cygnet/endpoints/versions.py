"""Registered versions of the model, and what is decided about them.

These types are what endpoints, the registry's datasets and the pipelines have in common. They know MLflow, which stores
the versions, and neither Kedro nor any endpoint.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any
from urllib.parse import unquote

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException

from cygnet.errors import UserError

PREVIOUS_CHAMPION = "cygnet_previous_champion"
"""Tag of a champion that names the version it replaced. Rollbacks follow it, champion by champion."""

MAX_QUOTED_CHARS = 300
"""Longest part of an error of MLflow's that one of our sentences quotes."""


def quote(error_text: str) -> str:
    """Shorten an error of MLflow's to part of a sentence: one line, at most `MAX_QUOTED_CHARS`, no final full stop."""
    return " ".join(error_text.split())[:MAX_QUOTED_CHARS].rstrip(".")


@cache
def _folder_of_links() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="cygnet-")  # until this process ends


@dataclass(frozen=True)
class ModelVersion:
    """A registered version: its name, its number, and the URI by which MLflow loads and serves it."""

    name: str
    version: str

    @property
    def uri(self) -> str:
        """Address by number: an alias can move while the model is being served."""
        return f"models:/{self.name}/{self.version}"

    @cached_property
    def loadable_uri(self) -> str:
        """Fetch the model if it is remote, and give the folder by a path that MLflow can load it from.

        MLflow decodes the path of a folder as if it were a URL, and looks for `a b` where the folder is `a%20b`. Such
        a folder is given below a link to its parent. A version that can't be fetched keeps `uri`: loading it says why.
        """
        try:
            folder = mlflow.artifacts.download_artifacts(artifact_uri=self.uri)
        except MlflowException:
            return self.uri
        if unquote(folder) == folder:
            return folder
        link = Path(mkdtemp(dir=_folder_of_links().name), "parent")
        link.symlink_to(Path(folder).parent)  # MLflow refuses a folder that is a link itself
        return str(link / Path(folder).name)

    @property
    def metadata(self) -> dict[str, Any]:
        """What was stored with the model when it was logged; empty if nothing was."""
        return mlflow.models.get_model_info(self.uri).metadata or {}

    @property
    def made_at(self) -> str:
        """When it was logged, UTC: `YYYY-MM-DD HH:MM`."""
        return mlflow.models.get_model_info(self.uri).utc_time_created[:16]

    def made_with(self) -> dict[str, Any]:
        """The parameters that the model was made with, by dotted name; empty for one that does not record them."""
        return self.metadata.get("made_with", {})

    def predict(self, images: list[bytes], *, cropped: bool) -> pd.DataFrame:
        """Score encoded images in this process, with the code and weights that are stored.

        Args:
            images: JPEG, PNG, WebP, BMP or TIFF.
            cropped: Whether they are 256x256 images of the scene, or whole frames.

        Returns:
            The columns of `cygnet.model.serving.served_model`, a row per image.

        Raises:
            UnusableVersionError: The stored model does not load or run here.
        """
        try:
            return self._model.predict(pd.DataFrame({"image": images}), params={"cropped": cropped})
        except Exception as error:  # the stored code of another version of Cygnet can fail in any way
            raise UnusableVersionError(self, error) from error

    @cached_property
    def _model(self) -> Any:
        return mlflow.pyfunc.load_model(self.loadable_uri)


class UnusableVersionError(UserError):
    """A stored model does not load or run with this version of Cygnet."""

    def __init__(self, version: ModelVersion, reason: Exception) -> None:
        super().__init__(
            f"{version.name} version {version.version} can't be used: {quote(str(reason))}. Train again with `kedro "
            "run`, restore it, or point its alias at another version."
        )


@dataclass(frozen=True)
class VersionTags:
    """Tags to set on a version."""

    version: ModelVersion
    tags: dict[str, str]


@dataclass(frozen=True)
class Decision:
    """Whether a version becomes the champion, and the reasons against it."""

    version: ModelVersion
    is_promoted: bool
    reasons: tuple[str, ...] = ()
