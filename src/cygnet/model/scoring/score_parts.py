"""Stores the scores of a run as they are computed, so that a run that was killed can resume.

The folder must be visible to the driver and all workers, like the videos: on disk, mounted, or on ADLS. It holds the
scorer, which reaches the workers of any Spark this way, and one folder of parts per item (a video, or some images of a
folder), written while the item is scored. Spark would return results only when a task ends, after hours for a long
video.

A part holds the rows of `PART_ROWS` frames in order; only the last one of an item may hold fewer. It is written
atomically. Its content depends on the item alone, so a task that Spark runs twice writes the same parts. The marker
`_SUCCESS` says that an item is complete.
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
"""`scores` without the decision, and not smoothed: another threshold or smoothing needs no new scoring."""

PART_ROWS = 128


class ItemParts:
    """The parts of one item: `<number>-<rows>.parquet` in a folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def is_whole(self) -> bool:
        """Tell whether the item has been scored completely."""
        return MARKER in list_files(self.folder)

    def count_rows(self) -> int:
        """Count the rows of all parts, from the names of the files."""
        return sum(int(name.partition("-")[2]) for name in self._names())

    def next_index(self) -> int:
        """Return the frame index to resume from: the one after the last row, or 0 without a part."""
        names = self._names()
        if not names:
            return 0
        with on_disk(f"{self.folder}/{names[-1]}.parquet") as file:
            return int(pq.read_table(file, columns=["frame_index"])["frame_index"][-1].as_py()) + 1

    def index_before_end(self, seconds: float) -> int:
        """Return the index of the earliest frame at most so many seconds before the last row; 0 without a part."""
        first, last_s = 0, None
        for name in reversed(self._names()):
            with on_disk(f"{self.folder}/{name}.parquet") as file:
                rows = pq.read_table(file, columns=["frame_index", "timestamp_s"]).to_pandas()
            last_s = rows["timestamp_s"].iloc[-1] if last_s is None else last_s
            late = rows[rows["timestamp_s"] >= last_s - seconds]
            first = int(late["frame_index"].iloc[0]) if len(late) else first
            if len(late) < len(rows):
                break
        return first

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Write the next part, from rows of `PART`."""
        with replacing(f"{self.folder}/{len(self._names()):06d}-{len(rows)}.parquet") as file:
            pq.write_table(pa.Table.from_pylist(rows, schema=PART), file)

    def end(self) -> None:
        """Mark the item as complete."""
        with replacing(f"{self.folder}/{MARKER}") as file:
            file.touch()

    def _names(self) -> list[str]:
        return [PurePath(name).stem for name in list_files(self.folder, ".parquet")]


class ScoreParts:
    """The folder of scorer and items."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = str(folder)

    def item(self, key: str) -> ItemParts:
        """Return the parts of an item."""
        return ItemParts(f"{self.folder}/{key}")

    def keep_only(self, names: set[str]) -> None:
        """Remove everything but these names: what other settings, files or models have left."""
        with reached(self.folder) as (fs, path):
            fs.invalidate_cache()
            found = {PurePath(child).name for child in fs.ls(path, detail=False)}
        for name in found - names:
            remove(f"{self.folder}/{name}")

    def add_scorer(self, model_uri: str) -> str:
        """Copy the scorer of an MLflow model here, unless it is here already.

        Returns:
            Its folder, named by a digest of its content: registries reuse version numbers.
        """
        import mlflow
        from mlflow.models import Model

        from cygnet.model.serving.packaging import stored_scorer

        with TemporaryDirectory(prefix="cygnet-") as download:
            model = Path(mlflow.artifacts.download_artifacts(artifact_uri=model_uri, dst_path=download))
            scorer = stored_scorer(model, Model.load(str(model)))
            folder = f"{self.folder}/model-{_digest_of_folder(scorer)}"
            if MARKER not in list_files(folder):
                put_folder(scorer, folder)
        return folder


def digest(value: Any) -> str:
    """Compute a short digest of a value that JSON can represent."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def _digest_of_folder(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest([(str(path.relative_to(folder)), _digest_of_file(path)) for path in files])


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
