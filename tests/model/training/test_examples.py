"""What loading promises: the same examples, however Spark laid the table out."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pad
import pyarrow.parquet as pq
import pytest
import torch

from cygnet.datasets.table import TableDataset
from cygnet.errors import UserError
from cygnet.model.network.preprocessing import Preprocessing
from cygnet.model.training.examples import STOPPING_FRAC, choose_stopping_rows, load_examples
from cygnet.model.training_set import iterate_rows, read_keys
from cygnet.tables import ABNORMAL, KIND_NULL, NORMAL, TRAINING_SET
from cygnet.vision.codec import decode_image
from support.toys import toy_row, toy_rows

PREPROCESSING = Preprocessing(32)


def stored(rows: pa.Table, folder: Path) -> pad.Dataset:
    dataset = TableDataset(filepath=str(folder / "training_set"), table="training_set", load_as="arrow")
    dataset.save(rows)
    return dataset.load()


def scattered(rows: pa.Table, folder: Path, files: int = 5) -> pad.Dataset:
    """The same rows in another order, over several files."""
    shuffled = rows.take(np.random.default_rng(0).permutation(len(rows)))
    folder.mkdir()
    for number in range(files):
        part = shuffled.take(list(range(number, len(rows), files)))
        pq.write_table(part, folder / f"part-{number}.parquet")
    return pad.dataset(folder, schema=TRAINING_SET)


def test_examples_do_not_depend_on_how_the_table_is_laid_out(tmp_path: Path) -> None:
    rows = toy_rows(per_class=7)
    one = load_examples(stored(rows, tmp_path), "train", PREPROCESSING, 2, tmp_path)
    other = load_examples(scattered(rows, tmp_path / "scattered"), "train", PREPROCESSING, 2, tmp_path)
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.labels, other.labels)
    assert torch.equal(one.coverage.isnan(), other.coverage.isnan())
    assert torch.equal(one.coverage.nan_to_num(), other.coverage.nan_to_num())


def test_a_sample_of_both_classes_decides_when_to_stop_and_the_thresholds_half_has_no_part_in_it() -> None:
    rows = [toy_row(f"pond/{place:06}/{label}", label, "train") for label in (NORMAL, ABNORMAL) for place in range(24)]
    for place in range(60):
        frame_id = f"pond/{100 + place:06}"
        rows += [{**toy_row(f"{frame_id}/0", NORMAL, "validation"), "frame_id": frame_id}]
        rows += [{**toy_row(f"{frame_id}/{n}", ABNORMAL, "validation"), "frame_id": frame_id} for n in (1, 2)]
    chosen = read_keys(choose_stopping_rows(pad.dataset(pa.Table.from_pylist(rows, schema=TRAINING_SET))))
    assert chosen["label"].value_counts().to_dict() == {NORMAL: 6, ABNORMAL: 6}
    assert len(chosen) == STOPPING_FRAC * 48
    frames = chosen.loc[chosen["label"] == NORMAL, "frame_id"].str[-6:].astype(int)
    assert (frames.min(), frames.max()) == (100, 129)


def test_examples_are_the_split_in_the_order_of_its_keys(tmp_path: Path) -> None:
    examples = load_examples(scattered(toy_rows(per_class=3), tmp_path / "s"), "validation", PREPROCESSING, 2, tmp_path)
    rows = sorted(toy_rows(per_class=3).to_pylist(), key=lambda row: row["image_id"])
    rows = [row for row in rows if row["split"] == "validation"]
    images = np.stack([PREPROCESSING.resize(decode_image(row["image"])) for row in rows])
    taken, labels, _ = examples.take(torch.arange(len(rows)))
    assert taken.dtype == examples.images.dtype == torch.uint8
    assert np.array_equal(taken.numpy(), images)
    assert torch.equal(labels, examples.labels)
    assert examples.labels.tolist() == [row["label"] for row in rows] == [ABNORMAL] * 3 + [NORMAL] * 3


def test_control_rows_are_left_out(tmp_path: Path) -> None:
    rows = toy_rows(splits=("test",))
    control = pa.Table.from_pylist([toy_row("test/0/null", ABNORMAL, "test", kind=KIND_NULL)], schema=TRAINING_SET)
    plain = load_examples(stored(rows, tmp_path), "test", PREPROCESSING, 2, tmp_path)
    mixed = load_examples(stored(pa.concat_tables([control, rows]), tmp_path), "test", PREPROCESSING, 2, tmp_path)
    assert torch.equal(mixed.images, plain.images)
    assert torch.equal(mixed.labels, plain.labels)


def test_coverage_is_the_share_of_each_patch_under_the_mask(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:32, :32] = 255
    mask[32:, 32:48] = 255
    rows = [
        toy_row("a", ABNORMAL, kind="polygon", mask=mask),
        toy_row("b", ABNORMAL),  # labelled by hand: where is unknown
        toy_row("c", NORMAL),
    ]
    table = pa.Table.from_pylist(rows, schema=TRAINING_SET)
    examples = load_examples(stored(table, tmp_path), "train", PREPROCESSING, 2, tmp_path)
    np.testing.assert_allclose(examples.coverage[0], [[1.0, 0.0], [0.0, 0.5]], rtol=0, atol=1 / 255)
    assert examples.coverage[1].isnan().all()
    assert examples.coverage[2].tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        ([toy_row("a", NORMAL)], "abnormal"),
        ([toy_row("a", ABNORMAL)], "normal"),
        ([toy_row("a", NORMAL), toy_row("b", ABNORMAL, kind=KIND_NULL)], "abnormal"),
        ([toy_row("a", NORMAL), toy_row("b", ABNORMAL, "test")], "abnormal"),
        ([], "abnormal"),
    ],
)
def test_split_without_a_class_is_refused(rows: list[dict[str, object]], missing: str, tmp_path: Path) -> None:
    table = stored(pa.Table.from_pylist(rows, schema=TRAINING_SET), tmp_path)
    with pytest.raises(UserError, match=f"split train of training_set has no {missing} image"):
        load_examples(table, "train", PREPROCESSING, 2, tmp_path)


def test_keys_are_sorted_and_of_the_asked_splits(tmp_path: Path) -> None:
    table = scattered(toy_rows(per_class=2), tmp_path / "s")
    every, some = read_keys(table), read_keys(table, "test", "train")
    assert list(every["image_id"]) == sorted(toy_rows(per_class=2)["image_id"].to_pylist())
    assert list(some["image_id"]) == [name for name in every["image_id"] if not name.startswith("validation")]


def test_rows_come_in_full_batches_and_each_once(tmp_path: Path) -> None:
    table = scattered(toy_rows(per_class=5), tmp_path / "s")
    batches = list(iterate_rows(table, ["train", "test"], 6))
    assert [len(batch) for batch in batches] == [6, 6, 6, 2]
    names = [name for batch in batches for name in batch["image_id"]]
    assert sorted(names) == list(read_keys(table, "train", "test")["image_id"])


def test_split_without_rows_gives_no_batch(tmp_path: Path) -> None:
    assert list(iterate_rows(stored(toy_rows(splits=("train",)), tmp_path), ["test"])) == []
