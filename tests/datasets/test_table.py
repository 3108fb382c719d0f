"""What stored tables promise: the declared columns come back as they went in, or the load says what to run."""

import base64
import io
import json
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from kedro.io import DatasetError

from cygnet.datasets.table import MARKER, TableDataset
from cygnet.errors import UserError
from cygnet.tables import TABLES, WRITTEN_BY
from cygnet.vision.codec import decode_image, encode_png

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


IMAGE_TABLES = [name for name, schema in TABLES.items() if "image" in schema.names]


@pytest.mark.parametrize("table", sorted(set(TABLES) - set(IMAGE_TABLES)))
def test_preview_of_a_table_without_images_is_some_rows_of_json_with_sizes_for_maps(table: str, tmp_path: Path) -> None:
    dataset = dataset_at(tmp_path, table)
    dataset.save(rows_of(table, count=9))
    preview = json.loads(json.dumps(dataset.preview(nrows=5)))
    assert signature(dataset.preview).return_annotation.__name__ == "TablePreview"
    assert preview["columns"] == TABLES[table].names
    assert len(preview["data"]) == 5
    last = dict(zip(preview["columns"], preview["data"][-1], strict=True))
    for field in TABLES[table]:
        if field.type == pa.binary():
            assert last[field.name] == "1.3 kB"
    assert last["frame_id"] == "row 4"


def with_images(rows: pd.DataFrame, size_px: int = 16) -> pd.DataFrame:
    """Give rows images that decode, and that PNG can't make smaller."""
    noise = np.random.default_rng(0).integers(0, 256, (len(rows), size_px, size_px, 3), np.uint8)
    images = [encode_png(image) for image in noise]
    masks = [encode_png(image[:, :, 0]) for image in noise]
    return rows.assign(image=images, **{"mask": masks} if "mask" in rows else {})


@pytest.mark.parametrize("table", IMAGE_TABLES)
def test_preview_of_a_table_of_images_is_a_picture(table: str, tmp_path: Path) -> None:
    dataset = dataset_at(tmp_path, table)
    dataset.save(with_images(rows_of(table)))
    assert signature(dataset.preview).return_annotation.__name__ == "ImagePreview"
    one, three = (decode_image(base64.b64decode(dataset.preview(nrows=count))) for count in (1, 3))
    assert one.shape == three.shape
    assert (one < 255).sum() < (three < 255).sum()


@pytest.mark.parametrize("count", [0, 2])
def test_preview_of_rows_without_an_image_is_an_empty_sheet(count: int, tmp_path: Path) -> None:
    dataset = dataset_at(tmp_path)
    dataset.save(rows_of("frames", count=count).assign(image=None))
    assert decode_image(base64.b64decode(dataset.preview())).min() == 255


def test_preview_takes_rows_from_as_many_parts_as_it_needs(tmp_path: Path) -> None:
    dataset = dataset_at(tmp_path, "scores")
    dataset.save(rows_of("scores", count=3))
    folder = tmp_path / "scores"
    pq.write_table(pq.read_table(folder / PART), folder / "part-00001.parquet")
    dataset._commit()
    preview = dataset.preview(nrows=5)
    rows = [dict(zip(preview["columns"], row, strict=True))["frame_id"] for row in preview["data"]]
    assert rows == ["row 0", "row 1", "row 2", "row 0", "row 1"]


@pytest.mark.parametrize("table", ["training_set", "scores"])
def test_preview_reads_a_small_part_of_a_large_table(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, noise = pd.concat([rows_of(table)] * 800, ignore_index=True), np.random.default_rng(1).bytes
    dataset = dataset_at(tmp_path, table)
    dataset.save(with_images(rows) if "image" in rows else rows.assign(anomaly_map=[noise(1000) for _ in rows.index]))
    read_bytes: list[int] = []

    class Counting(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            content = super().read(size)
            read_bytes.append(len(content))
            return content

    monkeypatch.setattr(LocalFileSystem, "open", lambda _self, path: Counting(path))
    dataset.preview()
    assert 0 < sum(read_bytes) < (tmp_path / table / PART).stat().st_size / 4


@pytest.mark.parametrize("arguments", [{"table": "frame"}, {"table": "frames", "load_as": "pandas"}])
def test_unknown_table_and_unknown_form_are_refused(arguments: dict[str, str]) -> None:
    with pytest.raises(DatasetError, match="must be one of"):
        TableDataset(filepath="anywhere", **arguments)
