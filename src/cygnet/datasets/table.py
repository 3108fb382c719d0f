"""One dataset for every Parquet table, in every environment.

A table is a folder of Parquet files and a commit marker, `_SUCCESS`, written last: a JSON list of the table's files
with their sizes. A table loads only if every listed file is there with its size. Spark writes an empty file of that
name and never reads it: with a part missing, it loaded 74 of 100 rows without complaint. A write that is killed leaves
a folder without a marker, and the next write removes what it left.

Columns are checked against `cygnet.tables` when a table is saved. A table loads as a Spark DataFrame, or as a lazy
Arrow dataset where Spark is not needed: training and serving read it that way, batch by batch.
"""

import base64
import io
import json
from collections.abc import Callable
from typing import Any, NewType

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad
import pyarrow.parquet as pq
from kedro.io import AbstractDataset, DatasetError

from cygnet.errors import UserError
from cygnet.scene import read_scene
from cygnet.storage import MARKER, exists, list_files, reached, read_bytes, remove, replacing
from cygnet.tables import TABLES, WRITTEN_BY

TablePreview = NewType("TablePreview", dict[str, Any])
ImagePreview = NewType("ImagePreview", str)
"""kedro-viz shows a preview as a table, or as an image (base64), if what it returns is annotated by this name."""

PREVIEW_ROWS = 10
ROW_GROUP_ROWS = 256
"""A row group is the least that is read of a file; Spark bounds its own by their size, see `conf/base/spark.yml`."""


class TableDataset(AbstractDataset[Any, Any]):
    """A table of `cygnet.tables`, stored as Parquet.

    Saves Spark DataFrames, pandas DataFrames and Arrow tables.
    """

    def __init__(
        self,
        *,
        filepath: str,
        table: str,
        load_as: str = "spark",
        scene: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Describe the table; nothing is opened yet.

        Args:
            filepath: Its folder: local, `/Volumes/...`, or `abfss://...` with container and account, as Spark needs it.
            table: Its name in `cygnet.tables.TABLES`.
            load_as: `spark` or `arrow`.
            scene: File of the scene that the table is made with (`cygnet.datasets.scene`), to be copied into the commit
                marker; None for a table without pixels of its own.
            metadata: For kedro-viz.
        """
        if table not in TABLES or load_as not in {"spark", "arrow"}:
            msg = f"table {table!r} must be one of {sorted(TABLES)}, load_as {load_as!r} 'spark' or 'arrow'"
            raise DatasetError(msg)
        self._path = filepath.rstrip("/")
        self._table = table
        self._schema = TABLES[table]
        self.load_as = load_as
        self._scene = scene
        self.metadata = metadata

    @property
    def folder(self) -> str:
        """Where the table is. Two entries of the catalog may name the same folder."""
        return self._path

    def save(self, data: Any) -> None:
        """Write the table, then the commit marker.

        Raises:
            DatasetError: The columns or their types are not those of the table, or a required value is missing.
            UserError: ADLS can't be reached.
        """
        if isinstance(data, pd.DataFrame | pa.Table):
            table = self._conform(data)
            self._remove()
            with replacing(f"{self._path}/part-00000.parquet") as file:
                pq.write_table(table, file, row_group_size=ROW_GROUP_ROWS)
        else:
            from cygnet.spark import shown_work

            rows = self._conform_spark(data)
            self._remove()
            with shown_work(f"Writing {self._table}", data):
                rows.write.mode("overwrite").parquet(self._path)
        self._commit()

    def check(self) -> None:
        """Check that the table is complete.

        Raises:
            UserError: It is missing or incomplete, or ADLS can't be reached.
        """
        self._committed_files()

    def made_with(self) -> dict[str, Any]:
        """Give what the marker records of the scene, by parameter; empty for a table that records none."""
        scene = json.loads(read_bytes(f"{self._path}/{MARKER}")).get("scene")
        return read_scene(scene).by_parameter() if scene else {}

    def check_settings(self) -> None:
        """Check that Spark can find the table, if Spark reads it.

        Raises:
            UserError: The path is on ADLS and lacks the account, which Spark takes from the path alone.
        """
        if self.load_as == "spark" and self._path.startswith("abfs://"):
            msg = (
                f"{self._path}: Spark needs the account's name: abfss://<container>@<account>.dfs.core.windows.net/..."
            )
            raise UserError(msg)

    def load(self) -> Any:
        """Open the table lazily, as a Spark DataFrame or a `pyarrow.dataset.Dataset`.

        Raises:
            UserError: The table is missing or incomplete.
        """
        if self.load_as == "arrow":
            return self._open()
        self._committed_files()
        from cygnet.spark import read_parquet

        return read_parquet(self._schema, self._path)

    @property
    def preview(self) -> Callable[..., Any]:
        """What kedro-viz shows: the first rows, as pictures if the table has images; the annotation tells which."""
        return self._preview_images if "image" in self._schema.names else self._preview_rows

    def _preview_rows(self, nrows: int = PREVIEW_ROWS) -> TablePreview:
        """Give the first rows, with the size in place of each encoded map."""
        rows = self._first_rows(nrows)
        for field in self._schema:
            if pa.types.is_binary(field.type):
                rows[field.name] = rows[field.name].map(lambda cell: f"{len(cell) / 1000:.1f} kB", na_action="ignore")
        return TablePreview(json.loads(rows.to_json(orient="split")))

    def _preview_images(self, nrows: int = PREVIEW_ROWS) -> ImagePreview:
        """Draw the images of the first rows, with their masks outlined, as PNG."""
        from cygnet.model.evaluation.gallery import draw_rows

        rows, png = self._first_rows(nrows), io.BytesIO()
        draw_rows(rows[rows["image"].notna()], columns=5).savefig(png, format="png", dpi=90)
        return ImagePreview(base64.b64encode(png.getvalue()).decode())

    def _first_rows(self, count: int) -> pd.DataFrame:
        """Read the first rows, and of the files as few row groups as hold them: a table of images is large."""
        rows = self._schema.empty_table()
        files = self._committed_files()
        with reached(self._path) as (fs, folder):
            for name in files:
                if len(rows) >= count:
                    break
                with fs.open(f"{folder}/{name}") as file:
                    part = pq.ParquetFile(file)
                    for group in range(part.num_row_groups):
                        rows = pa.concat_tables([rows, part.read_row_group(group)], promote_options="default")
                        if len(rows) >= count:
                            break
        return rows[:count].to_pandas()

    def _open(self) -> pad.Dataset:
        files = self._committed_files()
        with reached(self._path) as (fs, folder):
            return pad.dataset([f"{folder}/{name}" for name in files], schema=self._schema, filesystem=fs)

    def _remove(self) -> None:
        remove(f"{self._path}/{MARKER}")  # first: a half-removed table must not look complete
        remove(self._path)

    def _commit(self) -> None:
        sizes = list_files(self._path, ".parquet")
        scene = None if self._scene is None else json.loads(read_bytes(self._scene))
        with replacing(f"{self._path}/{MARKER}") as marker:
            marker.write_text(json.dumps({"table": self._table, "size_bytes": sizes, "scene": scene}, indent=1))

    def _committed_files(self) -> list[str]:
        again = f"run `kedro run --pipeline={WRITTEN_BY[self._table]}` (again)"
        stored = list_files(self._path)
        if not stored and not exists(self._path):
            msg = f"There is no table '{self._table}' at {self._path}: {again}."
            raise UserError(msg)
        try:
            sizes = json.loads(read_bytes(f"{self._path}/{MARKER}"))["size_bytes"]
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            msg = f"The table '{self._table}' at {self._path} has no commit marker, a write to it broke off: {again}."
            raise UserError(msg) from error
        for name, size_bytes in sizes.items():
            if stored.get(name) != size_bytes:
                msg = f"The table '{self._table}' at {self._path} lacks its file {name}, or that was changed: {again}."
                raise UserError(msg)
        return list(sizes)

    def _conform(self, data: pd.DataFrame | pa.Table) -> pa.Table:
        names = list(data.columns) if isinstance(data, pd.DataFrame) else data.column_names
        self._check_names(names)
        try:
            if isinstance(data, pd.DataFrame):
                return pa.Table.from_pandas(data, schema=self._schema, preserve_index=False)
            return data.select(self._schema.names).cast(self._schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
            msg = f"The table '{self._table}' can't be saved: {error}"
            raise DatasetError(msg) from error

    def _check_names(self, names: list[str]) -> None:
        if set(names) != set(self._schema.names):
            msg = f"The table '{self._table}' has the columns {self._schema.names}, got {names}"
            raise DatasetError(msg)

    def _conform_spark(self, data: Any) -> Any:
        from cygnet.spark import spark_schema

        self._check_names(data.columns)
        fields = spark_schema(self._schema).fields
        wrong = [
            f"{field.name} is {data.schema[field.name].dataType.simpleString()}, not {field.dataType.simpleString()}"
            for field in fields
            if data.schema[field.name].dataType != field.dataType
        ]
        if wrong:
            msg = f"The table '{self._table}' can't be saved: {', '.join(wrong)}"
            raise DatasetError(msg)
        return data.select([data[field.name].alias(field.name, metadata=field.metadata) for field in fields])

    def _exists(self) -> bool:
        return exists(f"{self._path}/{MARKER}")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._path, "table": self._table, "load_as": self.load_as}
