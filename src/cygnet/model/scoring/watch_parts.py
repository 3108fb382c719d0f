"""Stores what a watch finds in parts, each complete or absent: a watch that is killed loses at most the last one.

A source has a folder of its own for scores, and one for events: two cameras can be watched at once. A part is a Parquet
file named by the time at which it was written; its metadata names the files of a watched folder that end in it. A
watch that starts again goes on after the last part.
"""

import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cygnet.storage import list_files, on_disk, replacing
from cygnet.tables import WATCH_EVENTS, WATCH_SCORES
from cygnet.vision.live import Position

FINISHED = b"cygnet.finished_files"
POSITION_COLUMNS = ["source", "media", "frame_index", "timestamp_s", "taken_at"]


class TableParts:
    """The parts of one table of one source."""

    def __init__(self, folder: str, schema: pa.Schema) -> None:
        self.folder = folder
        self._schema = schema

    def append(self, rows: list[dict[str, Any]], finished: list[str] | None = None) -> None:
        """Write the next part, unless there is nothing to write.

        Args:
            rows: Rows of the table.
            finished: Names of files whose last frame is among the rows.
        """
        if not rows:
            return
        schema = self._schema.with_metadata({FINISHED: json.dumps(finished or [])})
        with replacing(f"{self.folder}/{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{len(rows)}.parquet") as file:
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)

    def last_position(self, media: str, source: str | None = None) -> Position | None:
        """Give the last stored frame if it is of this media, or the last one of a source; None: there is none."""
        for name in reversed(self._names()):
            with on_disk(f"{self.folder}/{name}") as file:
                rows = pq.read_table(file, columns=POSITION_COLUMNS).to_pylist()
            rows = [row for row in rows if source in {None, row["source"]}]
            if rows and rows[-1]["media"] == media:
                last = rows[-1]
                return Position(last["source"], last["frame_index"], last["timestamp_s"], last["taken_at"])
            if rows or source is None:
                return None
        return None

    def finished_files(self) -> set[str]:
        """Give the names of all files that are stored to their last frame."""
        names: set[str] = set()
        for part in self._names():
            with on_disk(f"{self.folder}/{part}") as file:
                names.update(json.loads((pq.read_schema(file).metadata or {}).get(FINISHED, "[]")))
        return names

    def _names(self) -> list[str]:
        return list(list_files(self.folder, ".parquet"))


class WatchParts:
    """The folder of both tables."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def scores(self, folder: str) -> TableParts:
        """Give the parts of `WATCH_SCORES` of a watched source, by the name of its folder."""
        return TableParts(f"{self.folder}/scores/{folder}", WATCH_SCORES)

    def events(self, folder: str) -> TableParts:
        """Give the parts of `WATCH_EVENTS`."""
        return TableParts(f"{self.folder}/events/{folder}", WATCH_EVENTS)
