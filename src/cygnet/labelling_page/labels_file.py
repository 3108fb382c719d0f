"""The CSV of labels as the page changes it: one answer at a time, complete on disk before the next.

The file is read anew for each answer, so that what another program or an editor wrote meanwhile is kept, and replaced
in one step: a reader finds the old file or the new one. Rows of other images, other columns and the order of rows stay.
"""

from collections.abc import Hashable
from threading import Lock
from typing import Any, TypedDict

import pandas as pd

from cygnet.datasets.labels import COLUMNS, LabelsDataset, check_labels, is_of_ranges
from cygnet.errors import UserError
from cygnet.labels import frames_of_files, name_frames
from cygnet.storage import replacing
from cygnet.tables import frame_id_of

Row = dict[Hashable, Any]


class Said(TypedDict):
    """What is said of a frame."""

    label: str
    """`normal` or `abnormal`."""

    source: str
    """`human`, `llm`, or `folder`: the name of the image's folder says it."""

    notes: str


class FrameNames:
    """The names by which a label may call each frame, as `cygnet.labels.match_labels` understands them."""

    def __init__(self, frames: pd.DataFrame, sources: pd.DataFrame) -> None:
        """Name the frames.

        Args:
            frames: `frame_id`, `source`, `frame_index`; a frame's number is its position.
            sources: The table `SOURCES`; of videos it may lack some.

        Raises:
            UserError: Other images bear both names of a frame.
        """
        numbers = {frame_id: number for number, frame_id in enumerate(frames["frame_id"])}
        self.of_frame = name_frames(sources, numbers)
        indexed = [f"{source}_{index:06d}" for source, index in frames[["source", "frame_index"]].to_numpy()]
        self.number_of = {name: number for number, name in enumerate(indexed)}
        for name, frame_ids in frames_of_files(sources).items():
            if len(frame_ids) == 1 and (number := numbers.get(next(iter(frame_ids)))) is not None:
                self.number_of[name] = number
        labelled = sources[sources["label"].notna()]
        ids = [frame_id_of(source, index) for source, index in labelled[["source", "file_index"]].to_numpy()]
        self.by_folder = {
            numbers[frame_id]: Said(label=label, source="folder", notes="")
            for frame_id, label in zip(ids, labelled["label"], strict=True)
            if frame_id in numbers
        }


class LabelsFile:
    """Reads and changes the labels of the frames that the page shows; answers are made one after the other."""

    def __init__(self, dataset: LabelsDataset, names: FrameNames) -> None:
        """Describe the file; nothing is written until the first answer.

        Args:
            dataset: The labels of the catalog.
            names: The frames.
        """
        self._dataset = dataset
        self._names = names
        self._lock = Lock()
        self._undone_by: list[dict[int, list[Row]]] = []  # per answer, the rows that each of its frames had

    def said(self) -> dict[int, Said]:
        """Give what is said of each frame that has a label, by its number.

        Raises:
            UserError: The CSV can't be read, breaks the rules of `check_labels`, or labels ranges of time.
        """
        return self._said(self._read())

    def answer(self, first: int, last: int, label: str) -> dict[int, Said | None]:
        """Label frames `first` to `last`, both included, as a person.

        Returns:
            What is said of these frames now.

        Raises:
            UserError: As `said`, or the file can't be written.
        """
        rows: dict[int, list[Row]] = {
            number: [{"image_name": self._names.of_frame[number], "label": label, "source": "human"}]
            for number in range(first, last + 1)
        }
        with self._lock:
            before, now = self._replace(rows)
            self._undone_by.append(before)
        return now

    def undo(self) -> dict[int, Said | None]:
        """Take the last answer of this session back.

        Returns:
            What is said of its frames now; empty if there is nothing to undo.

        Raises:
            UserError: As `answer`.
        """
        with self._lock:
            if not self._undone_by:
                return {}
            _, now = self._replace(self._undone_by[-1])
            self._undone_by.pop()
        return now

    def _read(self) -> pd.DataFrame:
        table = self._dataset.read()
        if is_of_ranges(table):
            msg = (
                f"labels={self._dataset.filepath}: it labels ranges of time, and this page labels frames: "
                f"pass labels=PATH of a CSV with the columns {', '.join(COLUMNS)}."
            )
            raise UserError(msg)
        return table

    def _said(self, table: pd.DataFrame) -> dict[int, Said]:
        labels = check_labels(table, self._dataset.filepath)
        notes = dict(zip(table["image_name"].str.strip(), table["notes"], strict=True))
        return self._names.by_folder | {
            self._names.number_of[name]: Said(label=label, source=source, notes=notes[name])
            for name, label, source in labels[["image_name", "label", "source"]].to_numpy()
            if name in self._names.number_of
        }

    def _replace(self, rows: dict[int, list[Row]]) -> tuple[dict[int, list[Row]], dict[int, Said | None]]:
        """Put rows in the place of those that frames have; return those, and what is said of the frames now."""
        table = self._read()
        before: dict[int, list[Row]] = {number: [] for number in rows}
        after: list[Row] = []
        for row in table.to_dict("records"):
            number = self._names.number_of.get(row["image_name"].strip())
            if number not in before:
                after.append(row)
                continue
            if not before[number]:
                after += rows[number]
            before[number].append(row)
        after += [row for number, of_frame in rows.items() if not before[number] for row in of_frame]
        changed = pd.DataFrame(after, columns=[*table.columns, *{"source"}.difference(table.columns)]).fillna("")
        said = self._said(changed)
        try:
            with replacing(self._dataset.filepath) as file:
                changed.to_csv(file, index=False, lineterminator="\n")
        except OSError as error:
            msg = f"labels={self._dataset.filepath}: the answer can't be saved there ({error}); nothing was changed."
            raise UserError(msg) from error
        return before, {number: said.get(number) for number in rows}
