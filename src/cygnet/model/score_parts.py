"""Where scoring keeps what it has scored so far, so that a run that was killed goes on from there.

A folder that the driver and all workers see, as the videos are: on this machine's disk or mounted like it. It holds the
scorer, which so reaches the workers of any kind of Spark, and for each item (a video, or some images of a folder) a
folder of parts, written by the worker as it goes. Spark's own results would come when a task ends, which for a long
video is after hours.

A part has the rows of `PART_ROWS` frames in their order, fewer only at the end of an item. It is whole or not there: it
is written beside its place and then moved. What it holds follows from the item alone, so that a task that Spark runs
twice writes the same parts twice. `_SUCCESS` says that no more parts will come.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cygnet.tables import SCORES

PART = pa.schema([field for field in SCORES if field.name != "is_anomalous"])
"""`scores` without what follows from the threshold: another threshold takes no new scoring."""

PART_ROWS = 128
MARKER = "_SUCCESS"


class ItemParts:
    """The parts of one item: `<number>-<rows>.parquet` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def is_whole(self) -> bool:
        """Tell whether the item has been scored to its end."""
        return (self.folder / MARKER).exists()

    def count_rows(self) -> int:
        """Count the rows of all parts, by their names."""
        return sum(int(name.partition("-")[2]) for name in self._names())

    def next_index(self) -> int:
        """Give the frame index to go on at: the one after the last that a part has; 0, if there is none."""
        names = self._names()
        if not names:
            return 0
        return int(pq.read_table(self._path(names[-1]), columns=["frame_index"])["frame_index"][-1].as_py()) + 1

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Write the next part: rows of `PART`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{len(self._names()):06d}-{len(rows)}"
        partial = self.folder / f".{name}.{os.getpid()}"
        pq.write_table(pa.Table.from_pylist(rows, schema=PART), partial)
        partial.replace(self._path(name))

    def end(self) -> None:
        """Say that no more parts will come."""
        (self.folder / MARKER).touch()

    def _names(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*.parquet"))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"


class ScoreParts:
    """The folder of scorer and items."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def item(self, key: str) -> ItemParts:
        """Give the parts of an item."""
        return ItemParts(self.folder / key)

    def keep_only(self, names: set[str]) -> None:
        """Remove what other settings, files or models left."""
        for path in self.folder.iterdir():
            if path.name not in names:
                shutil.rmtree(path, ignore_errors=True)

    def add_scorer(self, model_uri: str) -> Path:
        """Copy the scorer of an MLflow model here.

        Returns:
            Its folder, named by its content: a version number comes again in another registry.
        """
        import mlflow
        from mlflow.models import Model

        self.folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.folder, prefix=".") as download:
            model = Path(mlflow.artifacts.download_artifacts(artifact_uri=model_uri, dst_path=download))
            artifacts = Model.load(str(model)).flavors["python_function"]["artifacts"]
            scorer = model / artifacts["detector"]["path"]
            place = self.folder / f"model-{_digest_of_folder(scorer)}"
            if not place.exists():
                scorer.rename(place)
        return place


def digest(value: Any) -> str:
    """Give a short name for a value that JSON can say."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def _digest_of_folder(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest([(str(path.relative_to(folder)), _digest_of_file(path)) for path in files])


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
