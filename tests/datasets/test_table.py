"""What stored tables promise: the declared columns come back as they went in, or the load says what to run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kedro.io import DatasetError

from cygnet.datasets.table import MARKER, TableDataset
from cygnet.errors import UserError
from cygnet.tables import TABLES, WRITTEN_BY

PART = "part-00000.parquet"


def rows_of(table: str, count: int = 3, start: int = 0) -> pd.DataFrame:
    """Rows that fit a table; what need not have a value has none in the first row."""
    makers: dict[pa.DataType, Callable[[int], Any]] = {
        pa.string(): lambda i: f"row {i}",
        pa.int32(): lambda i: i - 1,
        pa.float64(): lambda i: i / 3,
        pa.float32(): lambda i: i / 4,
        pa.bool_(): lambda i: i % 2 == 0,
        pa.binary(): lambda i: bytes(range(256)) * (i + 1),
    }
    columns = {
        field.name: [
            None if field.nullable and i == start else makers[field.type](i) for i in range(start, start + count)
        ]
        for field in TABLES[table]
    }
    return pd.DataFrame(columns)


def dataset_at(folder: Path, table: str = "frames") -> TableDataset:
    """A dataset that needs no Spark."""
    return TableDataset(filepath=str(folder / table), table=table, load_as="arrow")


def refusal(dataset: TableDataset) -> str:
    """The message by which a load is refused; Kedro wraps what a dataset raises."""
    with pytest.raises(DatasetError) as refused:
        dataset.load()
    assert isinstance(refused.value.__cause__, UserError)
    return refused.value.__cause__.message


@pytest.mark.parametrize("make", [rows_of, lambda table: pa.Table.from_pandas(rows_of(table))], ids=["pandas", "arrow"])
@pytest.mark.parametrize("table", list(TABLES))
def test_table_comes_back_as_it_was_saved(table: str, make: Callable[[str], Any], tmp_path: Path) -> None:
    dataset = dataset_at(tmp_path, table)
    dataset.save(make(table))
    loaded = dataset.load().to_table()
    assert loaded.schema.equals(TABLES[table], check_metadata=True)
    assert loaded.to_pylist() == pa.Table.from_pandas(rows_of(table), schema=TABLES[table]).to_pylist()


@pytest.mark.parametrize("convert", [pd.DataFrame, pa.Table.from_pandas], ids=["pandas", "arrow"])
def test_order_of_the_columns_does_not_matter(convert: Callable[[pd.DataFrame], Any], tmp_path: Path) -> None:
    dataset = dataset_at(tmp_path)
    rows = rows_of("frames")
    dataset.save(convert(rows[rows.columns[::-1]]))
    assert dataset.load().to_table().schema.names == TABLES["frames"].names


def test_stored_image_column_says_that_it_is_an_image(tmp_path: Path) -> None:
    dataset_at(tmp_path).save(rows_of("frames"))
    metadata = pq.read_schema(tmp_path / "frames" / PART).field("image").metadata
    assert metadata[b"spark.contentAnnotation"] == b'{"mimeType": "image/jpeg"}'


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows.drop(columns="reason"),
        lambda rows: rows.assign(more=1),
        lambda rows: rows.rename(columns={"width": "breadth"}),
    ],
    ids=["missing", "too-many", "renamed"],
)
@pytest.mark.parametrize("convert", [pd.DataFrame, pa.Table.from_pandas], ids=["pandas", "arrow"])
def test_wrong_columns_are_refused(
    convert: Callable[[pd.DataFrame], Any], spoil: Callable[[pd.DataFrame], pd.DataFrame], tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="table 'frames' has the columns"):
        dataset_at(tmp_path).save(convert(spoil(rows_of("frames"))))


@pytest.mark.parametrize(
    "change",
    [
        {"frame_index": "first"},
        {"frame_index": 1.5},
        {"frame_index": 2**40},
        {"timestamp_s": "soon"},
        {"source": 7},
        {"source": None},
        {"timestamp_s": float("nan")},
        {"width": None},
    ],
    ids=str,
)
def test_wrong_type_and_missing_value_are_refused_and_the_table_before_is_kept(
    change: dict[str, Any], tmp_path: Path
) -> None:
    dataset = dataset_at(tmp_path)
    dataset.save(rows_of("frames"))
    with pytest.raises(DatasetError, match="table 'frames' can't be saved"):
        dataset.save(rows_of("frames").assign(**change))
    assert dataset.load().count_rows() == 3


@pytest.mark.parametrize("table", list(TABLES))
def test_missing_required_value_is_refused_in_every_table(table: str, tmp_path: Path) -> None:
    required = [field for field in TABLES[table] if not field.nullable]
    for field in required:
        rows = pa.Table.from_pandas(rows_of(table), schema=TABLES[table])
        empty = pa.nulls(3, field.type)
        holed = rows.set_column(rows.schema.get_field_index(field.name), pa.field(field.name, field.type), empty)
        with pytest.raises(DatasetError, match=field.name):
            dataset_at(tmp_path, table).save(holed)


@pytest.mark.parametrize("table", list(TABLES))
def test_table_that_was_never_written_names_the_pipeline_that_writes_it(table: str, tmp_path: Path) -> None:
    dataset = dataset_at(tmp_path, table)
    assert f"kedro run --pipeline={WRITTEN_BY[table]}`" in refusal(dataset)
    assert not dataset.exists()


def damage_part(folder: Path) -> None:
    """Cut the last byte off a part."""
    (folder / PART).write_bytes((folder / PART).read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: (folder / MARKER).unlink(), "no commit marker"),
        (lambda folder: (folder / MARKER).write_text(""), "no commit marker"),
        (lambda folder: (folder / MARKER).write_text('{"table": "frames", "size_'), "no commit marker"),
        (lambda folder: (folder / PART).unlink(), f"lacks its file {PART}"),
        (damage_part, f"lacks its file {PART}"),
    ],
    ids=["no-marker", "marker-of-spark", "marker-truncated", "no-part", "part-truncated"],
)
def test_table_that_is_not_whole_is_refused(damage: Callable[[Path], object], told: str, tmp_path: Path) -> None:
    dataset = dataset_at(tmp_path)
    dataset.save(rows_of("frames"))
    damage(tmp_path / "frames")
    message = refusal(dataset)
    assert told in message
    assert "kedro run --pipeline=ingestion`" in message
    with pytest.raises(UserError, match=told):
        dataset.preview()


def test_one_of_several_parts_is_missed(tmp_path: Path) -> None:
    dataset = dataset_at(tmp_path)
    dataset.save(rows_of("frames"))
    marker = tmp_path / "frames" / MARKER
    content = json.loads(marker.read_text())
    content["size_bytes"]["part-00001.parquet"] = 1234
    marker.write_text(json.dumps(content))
    assert "lacks its file part-00001.parquet" in refusal(dataset)


def test_overwriting_leaves_no_old_part(tmp_path: Path) -> None:
    dataset = dataset_at(tmp_path)
    dataset.save(rows_of("frames"))
    folder = tmp_path / "frames"
    (folder / "part-00001.parquet").write_bytes((folder / PART).read_bytes())
    dataset.save(rows_of("frames", count=2, start=7))
    assert sorted(path.name for path in folder.iterdir()) == sorted([MARKER, PART])
    assert dataset.load().to_table()["frame_id"].to_pylist() == ["row 7", "row 8"]


def test_part_that_the_marker_does_not_list_is_not_read(tmp_path: Path) -> None:
    dataset = dataset_at(tmp_path)
    dataset.save(rows_of("frames"))
    (tmp_path / "frames" / "part-00001.parquet").write_bytes((tmp_path / "frames" / PART).read_bytes())
    assert dataset.load().count_rows() == 3


def test_interrupted_save_leaves_a_table_that_is_refused_until_it_is_saved_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = dataset_at(tmp_path)
    dataset.save(rows_of("frames"))

    def write_half(_table: pa.Table, where: str, **_: object) -> None:
        Path(where).write_bytes(b"PAR1 half a file")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pq, "write_table", write_half)
        with pytest.raises(KeyboardInterrupt):
            dataset.save(rows_of("frames"))
    assert not dataset.exists()
    assert "no commit marker" in refusal(dataset)

    dataset.save(rows_of("frames", count=1))
    assert dataset.exists()
    assert dataset.load().count_rows() == 1


def test_table_without_rows_can_be_saved_and_loaded(tmp_path: Path) -> None:
    dataset = dataset_at(tmp_path)
    dataset.save(rows_of("frames", count=0))
    assert dataset.load().count_rows() == 0


@pytest.mark.parametrize("table", list(TABLES))
def test_preview_is_five_rows_of_json_with_sizes_for_images(table: str, tmp_path: Path) -> None:
    dataset = dataset_at(tmp_path, table)
    dataset.save(rows_of(table, count=9))
    preview = json.loads(json.dumps(dataset.preview()))
    assert preview["columns"] == TABLES[table].names
    assert len(preview["data"]) == 5
    last = dict(zip(preview["columns"], preview["data"][-1], strict=True))
    for field in TABLES[table]:
        if field.type == pa.binary():
            assert last[field.name] == "1.3 kB"
    assert last["frame_id"] == "row 4"


def test_preview_shows_a_missing_image_as_missing(tmp_path: Path) -> None:
    dataset = dataset_at(tmp_path)
    dataset.save(rows_of("frames"))
    first = dict(zip(dataset.preview()["columns"], dataset.preview()["data"][0], strict=True))
    assert first["image"] is None


@pytest.mark.parametrize("arguments", [{"table": "frame"}, {"table": "frames", "load_as": "pandas"}])
def test_unknown_table_and_unknown_form_are_refused(arguments: dict[str, str]) -> None:
    with pytest.raises(DatasetError, match="must be one of"):
        TableDataset(filepath="anywhere", **arguments)
