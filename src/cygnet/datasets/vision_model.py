"""The catalog's entries for labelling by a vision model: its key, its answers, and the labels that it gives."""

import importlib.util
import logging
from pathlib import PurePath
from typing import Any

import pandas as pd

from cygnet.datasets.base import FolderDataset, ReadOnly, WriteOnly
from cygnet.datasets.labels import COLUMNS, is_of_ranges, read_labels
from cygnet.endpoints.answer_cache import AnswerCache
from cygnet.endpoints.vision_model import VisionEndpoint
from cygnet.errors import UserError
from cygnet.secrets import read_secret
from cygnet.storage import exists, replacing

logger = logging.getLogger(__name__)


class VisionEndpointDataset(ReadOnly[VisionEndpoint]):
    """Loads the key with which a vision model is asked. Neither parameters nor logs ever have it."""

    def __init__(self, *, key_variable: str, secret: str | None = None, metadata: dict[str, Any] | None = None) -> None:
        """Describe where the key is.

        Args:
            key_variable: Name of the environment variable that has it.
            secret: Scope and key, `scope/key`, of the secret that is it instead; None: the environment.
            metadata: For kedro-viz.
        """
        self._key_variable = key_variable
        self._secret = secret
        self.metadata = metadata

    def check_settings(self) -> None:
        """Check that there are a client and a key.

        Raises:
            UserError: The client is not installed, the variable is empty, or the secret can't be read.
        """
        if importlib.util.find_spec("openai") is None:
            msg = "Labelling by a vision model needs `pip install 'cygnet[llm]'`."
            raise UserError(msg)
        self._key()

    def load(self) -> VisionEndpoint:
        """Give the key; raises as `check_settings`."""
        return VisionEndpoint(self._key())

    def _key(self) -> str:
        key = read_secret(self._key_variable, self._secret)
        if not key:
            msg = (
                f"There is no key for the vision model: export {self._key_variable}=KEY (any text for a server that "
                "wants none), or name a secret, see docs/labelling.md."
            )
            raise UserError(msg)
        return key

    def _describe(self) -> dict[str, Any]:
        return {"key_variable": self._key_variable, "secret": self._secret}


class AnswerCacheDataset(FolderDataset[AnswerCache]):
    """Loads a handle to the folder where answers are kept."""

    handle = AnswerCache


class ModelLabelsDataset(WriteOnly[pd.DataFrame]):
    """Adds a model's labels to the CSV that ingestion reads. What a person wrote there stays, whatever it is.

    The file is read again when it is saved: a label that a person adds while the model is asked counts. A file of
    ranges of time can hold no labels of images; beside it, `<name>_llm.csv` gets them.
    """

    def __init__(self, *, filepath: Any, metadata: dict[str, Any] | None = None) -> None:
        """Describe the CSV, on any storage; it need not exist."""
        self._filepath = str(filepath)
        self.metadata = metadata

    def save(self, data: pd.DataFrame) -> None:
        """Replace the model's labels of the images that it was asked about now.

        Args:
            data: `image_name`, `label` (empty: the image gets none), `confidence`, `notes`.
        """
        path, known = self._filepath, self._read(self._filepath)
        if is_of_ranges(known):
            path = str(self._filepath).removesuffix(".csv") + "_llm.csv"
            known = self._read(path)
            logger.warning(
                "%s holds ranges of time, so the model's labels of images are in %s: a run reads one of the two files, "
                "--params=labels=PATH.",
                self._filepath,
                path,
            )
        rows = merge_labels(known, data)
        with replacing(path) as file:
            rows.to_csv(file, index=False)
        logger.info("%d labels of a vision model are in %s.", (rows["source"] == "llm").sum(), path)

    def _read(self, path: str) -> pd.DataFrame:
        return read_labels(path) if exists(path) else pd.DataFrame(columns=[*COLUMNS, "source"], dtype=str)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


def merge_labels(known: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Put a model's labels into those of a file.

    Args:
        known: The file's rows, all text; without a column `source` they are a person's.
        answers: `image_name`, `label` (empty: none), `confidence`, `notes`, of the images that were asked about.

    Returns:
        Every row of a person as it was; the model's rows of other images; and the answers that have a label, apart from
        those of images that a person has labelled.
    """
    if "source" not in known:
        known = known.assign(source="")
    names, is_model = known["image_name"].str.strip(), known["source"].str.strip().str.lower() == "llm"
    by_people = set(names[~is_model])
    kept = known[~(is_model & (names.isin(answers["image_name"]) | names.isin(by_people)))]
    is_new = (answers["label"] != "") & ~answers["image_name"].map(lambda name: bool(_names_of(name) & by_people))
    added = answers[is_new].assign(confidence=lambda rows: rows["confidence"].map("{:g}".format), source="llm")
    return pd.concat([kept, added[[*COLUMNS, "source"]]], ignore_index=True).fillna("")


def _names_of(image_name: str) -> set[str]:
    """Give the names by which a label may call an image: with or without extension."""
    return {image_name, PurePath(image_name).stem}
