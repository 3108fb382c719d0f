"""Optional labels by a person or an LLM, as a CSV of one of two kinds.

- of images: `image_name,label,confidence,notes`, and optionally `source`, which says who labelled.
- of ranges of time: `source,start_s,end_s,label`, where `source` is the name of a video.

Capital letters do not matter in the first line, and rows that are wholly empty are left out.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cygnet.addresses import shown
from cygnet.datasets.base import ReadOnly
from cygnet.errors import UserError
from cygnet.storage import exists, on_disk
from cygnet.tables import LABELS

COLUMNS = ("image_name", "label", "confidence", "notes")
RANGE_COLUMNS = ("source", "start_s", "end_s", "label")
FIRST_LINE = 2
"""Number of the line below the names of the columns."""
LABEL_SOURCES = ("human", "llm")
NEEDED = f"it needs the columns {', '.join(COLUMNS)}, or {', '.join(RANGE_COLUMNS)}"
SEPARATORS = {";": "semicolons", "\t": "tabs"}
"""What spreadsheets write in place of commas."""


class LabelsDataset(ReadOnly[pd.DataFrame]):
    """Loads and checks the labels: tables `IMAGE_LABELS` or `LABEL_RANGES` of `cygnet.tables`, as the CSV has them."""

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

    @property
    def filepath(self) -> str:
        """The CSV."""
        return self._filepath

    def check(self) -> pd.DataFrame:
        """Read and check the labels.

        Raises:
            UserError: As `read`, `check_labels` and `check_ranges`.
        """
        table = self.read()
        return (check_ranges if is_of_ranges(table) else check_labels)(table, self._filepath)

    def read(self) -> pd.DataFrame:
        """Read the CSV as it is, all columns as strings.

        Raises:
            UserError: The file is missing or not a CSV, or ADLS can't be reached.
        """
        if self._filepath == self._default and not exists(self._filepath):
            return pd.DataFrame(columns=list(COLUMNS), dtype=str)
        return read_labels(self._filepath)

    def load(self) -> pd.DataFrame:
        """Give the labels; raises as `check` does."""
        return self.check()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


def read_labels(path: str) -> pd.DataFrame:
    """Read a CSV of labels, every value as text.

    Returns:
        Its columns by their names in lower case; its rows by the number of their line, without those that are empty.

    Raises:
        UserError: The file is missing or not a CSV, two columns have one name, or ADLS can't be reached.
    """
    try:
        with on_disk(path) as file:
            table = pd.read_csv(
                Path(file),
                dtype=str,
                keep_default_na=False,
                skipinitialspace=True,
                skip_blank_lines=False,
                index_col=False,
            ).fillna("")
    except FileNotFoundError as error:
        msg = f"labels={shown(path)}: no such file."
        raise UserError(msg) from error
    except (ValueError, OSError) as error:
        msg = f"labels={path}: not a readable CSV: {_reason_of(error)}; {NEEDED}."
        raise UserError(msg) from error
    table.columns = table.columns.str.strip().str.lower()
    if not table.columns.is_unique:
        msg = f"labels={path}: the column {table.columns[table.columns.duplicated()][0]} is there twice; keep one."
        raise UserError(msg)
    table.index += FIRST_LINE
    return table[(table != "").any(axis=1)]


def _reason_of(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "its encoding is not UTF-8"
    return "it is empty" if isinstance(error, pd.errors.EmptyDataError) else str(error).strip().rstrip(".")


def is_of_ranges(table: pd.DataFrame) -> bool:
    """Tell whether a CSV labels ranges of time, not images."""
    return bool({"start_s", "end_s"} & set(table.columns))


def check_labels(table: pd.DataFrame, path: str) -> pd.DataFrame:
    """Check a table of labels and reduce it to one row per image: `image_name`, `label`, `source`.

    Where a person and an LLM label one image, the person's label counts.

    Raises:
        UserError: A column is missing, a label or source is unknown, or one image has two different labels.
    """
    _check_columns(table, COLUMNS, path)
    labels = pd.DataFrame(
        {
            "image_name": table["image_name"].str.strip(),
            "label": table["label"].str.strip().str.lower(),
            "source": table["source"].str.strip().str.lower() if "source" in table else "human",
        }
    )
    labels["source"] = labels["source"].replace("", "human")
    written = _written(labels["image_name"])
    _check_values(labels, "label", tuple(LABELS), written, path)
    _check_values(labels, "source", LABEL_SOURCES, written, path)
    by_people = labels.loc[labels["source"] == "human", "image_name"]
    labels = labels[(labels["source"] == "human") | ~labels["image_name"].isin(by_people)]
    labels = labels.drop_duplicates(["image_name", "label"])
    twice = labels[labels["image_name"].duplicated()]
    if len(twice):
        msg = f"labels={path}: {twice.iloc[0]['image_name']} is labelled normal and abnormal; keep one."
        raise UserError(msg)
    return labels.reset_index(drop=True)


def check_ranges(table: pd.DataFrame, path: str) -> pd.DataFrame:
    """Check a table of labelled ranges: `source`, `start_s`, `end_s` (exclusive, float), `label`.

    Raises:
        UserError: A column is missing, a label is unknown, a range is not one of seconds, or two that overlap disagree.
    """
    _check_columns(table, RANGE_COLUMNS, path)
    ranges = pd.DataFrame({"source": table["source"].str.strip(), "label": table["label"].str.strip().str.lower()})
    start_s, end_s, source = (table[name].str.strip().replace("", "?") for name in ("start_s", "end_s", "source"))
    written = _written("from " + start_s + " s to " + end_s + " s of " + source)
    _check_values(ranges, "label", tuple(LABELS), written, path)
    for column in ("start_s", "end_s"):
        ranges[column] = pd.to_numeric(table[column], errors="coerce")
    is_range = (ranges["start_s"] >= 0) & (ranges["end_s"] > ranges["start_s"]) & np.isfinite(ranges["end_s"])
    if not is_range.all():
        msg = f"labels={path}: {written[~is_range].iloc[0]} is not a range: give seconds, 0 <= start_s < end_s."
        raise UserError(msg)
    for _, of_source in ranges.sort_values("start_s").groupby("source"):
        _check_overlaps(of_source, written, path)
    return ranges[list(RANGE_COLUMNS)].drop_duplicates(ignore_index=True)


def _check_overlaps(ranges: pd.DataFrame, written: pd.Series, path: str) -> None:
    """Refuse ranges of one source, sorted by their start, that overlap with another label."""
    last: dict[str, tuple[float, str]] = {}  # by label, the latest end so far and its range
    for row, label, start_s, end_s in ranges[["label", "start_s", "end_s"]].itertuples():
        for other, (until_s, name) in last.items():
            if other != label and start_s < until_s:
                msg = f"labels={path}: {name} is {other}, {written[row]} is {label}, and they overlap; keep one."
                raise UserError(msg)
        last[label] = max(last.get(label, (0.0, "")), (end_s, written[row]))


def _check_columns(table: pd.DataFrame, needed: tuple[str, ...], path: str) -> None:
    if not set(needed) <= set(table.columns):
        line = ",".join(table.columns)
        wrong = [name for separator, name in SEPARATORS.items() if separator in line]
        told = f", separated by commas instead of {wrong[0]}" if wrong else ""
        msg = f"labels={path}: its first line is {line!r}; {NEEDED}{told}."
        raise UserError(msg)


def _written(rows: pd.Series) -> pd.Series:
    """Call rows by the number of their line and what is in it."""
    return "line " + rows.index.astype(str) + " (" + rows + ")"


def _check_values(labels: pd.DataFrame, column: str, allowed: tuple[str, ...], names: pd.Series, path: str) -> None:
    is_unknown = ~labels[column].isin(allowed)
    if is_unknown.any():
        name, value = names[is_unknown].iloc[0], labels.loc[is_unknown, column].iloc[0]
        msg = f"labels={path}: {name} has the {column} '{value}', allowed are {' and '.join(allowed)}."
        raise UserError(msg)
