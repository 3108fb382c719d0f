"""Where scoring keeps what it has scored so far, so that a run that was killed goes on from there.

A folder that the driver and all workers see, as the videos are: on disk, mounted, or on ADLS. It holds the scorer,
which so reaches the workers of any kind of Spark, and for each item (a video, or some images of a folder) a folder of
parts, written by the worker as it goes. Spark's own results would come when a task ends, which for a long video is
after hours.

A part has the rows of `PART_ROWS` frames in their order, fewer only at the end of an item. It is whole or not there.
What it holds follows from the item alone, so that a task that Spark runs twice writes the same parts twice. `_SUCCESS`
says that no more parts will come.
"""

import hashlib
import json
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cygnet.storage import MARKER, list_files, on_disk, put_folder, reached, remove, replacing
from cygnet.tables import SCORES

PART = pa.schema([field for field in SCORES if field.name != "is_anomalous"])
"""`scores` without what follows from the threshold: another threshold takes no new scoring."""

PART_ROWS = 128


class ItemParts:
    """The parts of one item: `<number>-<rows>.parquet` in a folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def is_whole(self) -> bool:
        """Tell whether the item has been scored to its end."""
        return MARKER in list_files(self.folder)

    def count_rows(self) -> int:
        """Count the rows of all parts, by their names."""
        return sum(int(name.partition("-")[2]) for name in self._names())

    def next_index(self) -> int:
        """Give the frame index to go on at: the one after the last that a part has; 0, if there is none."""
        names = self._names()
        if not names:
            return 0
        with on_disk(f"{self.folder}/{names[-1]}.parquet") as file:
            return int(pq.read_table(file, columns=["frame_index"])["frame_index"][-1].as_py()) + 1

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Write the next part: rows of `PART`."""
        with replacing(f"{self.folder}/{len(self._names()):06d}-{len(rows)}.parquet") as file:
            pq.write_table(pa.Table.from_pylist(rows, schema=PART), file)

    def end(self) -> None:
        """Say that no more parts will come."""
        with replacing(f"{self.folder}/{MARKER}") as file:
            file.touch()

    def _names(self) -> list[str]:
        return sorted(PurePath(name).stem for name in list_files(self.folder) if name.endswith(".parquet"))


class ScoreParts:
    """The folder of scorer and items."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = str(folder)

    def item(self, key: str) -> ItemParts:
        """Give the parts of an item."""
        return ItemParts(f"{self.folder}/{key}")

    def keep_only(self, names: set[str]) -> None:
        """Remove what other settings, files or models left."""
        with reached(self.folder) as (fs, place):
            fs.invalidate_cache()
            found = {PurePath(path).name for path in fs.ls(place, detail=False)}
        for name in found - names:
            remove(f"{self.folder}/{name}")

    def add_scorer(self, model_uri: str) -> str:
        """Copy the scorer of an MLflow model here.

        Returns:
            Its folder, named by its content: a version number comes again in another registry.
        """
        import mlflow
        from mlflow.models import Model

        with TemporaryDirectory(prefix="cygnet-") as download:
            model = Path(mlflow.artifacts.download_artifacts(artifact_uri=model_uri, dst_path=download))
            artifacts = Model.load(str(model)).flavors["python_function"]["artifacts"]
            scorer = model / artifacts["detector"]["path"]
            place = f"{self.folder}/model-{_digest_of_folder(scorer)}"
            if MARKER not in list_files(place):
                put_folder(scorer, place)
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
