"""Optional labels by a person or an LLM: a CSV with `image_name,label,confidence,notes` and optionally `source`."""

from pathlib import Path
from typing import Any

import pandas as pd

from cygnet.datasets.base import ReadOnly
from cygnet.errors import UserError
from cygnet.storage import exists, on_disk
from cygnet.tables import LABELS

COLUMNS = ("image_name", "label", "confidence", "notes")
LABEL_SOURCES = ("human", "llm")


class LabelsDataset(ReadOnly[pd.DataFrame]):
    """Loads and checks the labels: `image_name`, `label` (name), `source`, all strings."""

    def __init__(self, *, filepath: Any, default: dict[str, str], metadata: dict[str, Any] | None = None) -> None:
        """Describe where the labels are.

        Args:
            filepath: The CSV, local or on ADLS.
            default: Its `filepath` is the CSV of a run without `--params=labels=...`; it need not exist.
            metadata: For kedro-viz.
        """
        self._filepath = str(filepath)
        self._default = default["filepath"]
        self.metadata = metadata

    def check(self) -> pd.DataFrame:
        """Read and check the labels.

        Raises:
            UserError: The file is missing or not a CSV, as `check_labels`, or ADLS can't be reached.
        """
        if self._filepath == self._default and not exists(self._filepath):
            return check_labels(pd.DataFrame(columns=list(COLUMNS), dtype=str), self._filepath)
        try:
            with on_disk(self._filepath) as file:
                table = pd.read_csv(
                    Path(file), dtype=str, keep_default_na=False, skipinitialspace=True, index_col=False
                )
        except FileNotFoundError as error:
            msg = f"labels={self._filepath}: no such file."
            raise UserError(msg) from error
        except (ValueError, OSError) as error:
            reason = str(error).strip()
            msg = f"labels={self._filepath}: not a readable CSV with the columns {', '.join(COLUMNS)}: {reason}."
            raise UserError(msg) from error
        return check_labels(table, self._filepath)

    def load(self) -> pd.DataFrame:
        """Give the labels; raises as `check` does."""
        return self.check()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


def check_labels(table: pd.DataFrame, path: str) -> pd.DataFrame:
    """Check a table of labels and reduce it to one row per image: `image_name`, `label`, `source`.

    Raises:
        UserError: A column is missing, a label or source is unknown, or one image has two different labels.
    """
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        msg = f"labels={path}: the columns {', '.join(missing)} are missing; it needs {', '.join(COLUMNS)}."
        raise UserError(msg)
    labels = pd.DataFrame(
        {
            "image_name": table["image_name"].str.strip(),
            "label": table["label"].str.strip().str.lower(),
            "source": table["source"].str.strip().str.lower() if "source" in table else "human",
        }
    )
    labels["source"] = labels["source"].replace("", "human")
    for column, allowed in (("label", tuple(LABELS)), ("source", LABEL_SOURCES)):
        unknown = labels[~labels[column].isin(allowed)]
        if len(unknown):
            name, value = unknown.iloc[0]["image_name"], unknown.iloc[0][column]
            msg = f"labels={path}: {name} has the {column} '{value}', allowed are {' and '.join(allowed)}."
            raise UserError(msg)
    labels = labels.drop_duplicates(["image_name", "label"])
    twice = labels[labels["image_name"].duplicated()]
    if len(twice):
        msg = f"labels={path}: {twice.iloc[0]['image_name']} is labelled normal and abnormal; keep one."
        raise UserError(msg)
    return labels.reset_index(drop=True)
