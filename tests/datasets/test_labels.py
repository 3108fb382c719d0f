"""What labels promise: one label for each image, or one sentence about the file."""

from collections.abc import Callable
from pathlib import Path

import pytest
from kedro.io import DatasetError

from cygnet.datasets.labels import LabelsDataset
from cygnet.errors import UserError

HEADER = "image_name,label,confidence,notes\n"
DEFAULT = {"filepath": "data/01_raw/labels.csv"}


@pytest.fixture
def labels(tmp_path: Path) -> Callable[[str | bytes], LabelsDataset]:
    """Give a maker of labels: `labels(content)` is the dataset of a CSV with that content."""

    def make(content: str | bytes) -> LabelsDataset:
        path = tmp_path / "labels.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return LabelsDataset(filepath=str(path), default=DEFAULT)

    return make


def loaded(dataset: LabelsDataset) -> list[tuple[str, str, str]]:
    """The rows of the labels: image, label, source."""
    table = dataset.load()
    assert list(table.columns) == ["image_name", "label", "source"]
    return [tuple(row) for row in table.itertuples(index=False)]


def refusal(dataset: LabelsDataset) -> str:
    """The one-line message by which the labels are refused; Kedro wraps what a dataset raises."""
    with pytest.raises(DatasetError) as refused:
        dataset.load()
    assert isinstance(refused.value.__cause__, UserError)
    message = refused.value.__cause__.message
    assert message.startswith("labels=")
    assert "\n" not in message
    return message


CSV = Callable[[str | bytes], LabelsDataset]


def test_labels_come_with_their_image_and_are_human_if_nothing_else_is_said(labels: CSV) -> None:
    dataset = labels(HEADER + "swan/000001,abnormal,0.9,a duck\nswan/000002,normal,,\n")
    assert loaded(dataset) == [("swan/000001", "abnormal", "human"), ("swan/000002", "normal", "human")]


def test_source_is_taken_from_its_column_and_human_where_it_is_empty(labels: CSV) -> None:
    dataset = labels("source,image_name,label,confidence,notes\nllm,a,normal,1,\n,b,normal,1,\nHuman,c,normal,1,\n")
    assert loaded(dataset) == [("a", "normal", "llm"), ("b", "normal", "human"), ("c", "normal", "human")]


def test_header_alone_gives_no_labels(labels: CSV) -> None:
    assert loaded(labels(HEADER)) == []


def test_spaces_capital_letters_and_a_byte_order_mark_do_not_matter(labels: CSV) -> None:
    assert loaded(labels("\ufeff" + HEADER + "  swan/000001 , AbNormal ,0.9,\n")) == [
        ("swan/000001", "abnormal", "human")
    ]


def test_name_of_an_image_is_text_whatever_it_looks_like(labels: CSV) -> None:
    assert [row[0] for row in loaded(labels(HEADER + "0001,normal,,\nNA,normal,,\nnull,normal,,\n"))] == [
        "0001",
        "NA",
        "null",
    ]


def test_comma_at_the_end_of_the_rows_does_not_shift_the_columns(labels: CSV) -> None:
    assert loaded(labels(HEADER + "a,normal,1,sharp,\nb,abnormal,1,a duck, two\n")) == [
        ("a", "normal", "human"),
        ("b", "abnormal", "human"),
    ]


def test_duplicates_that_agree_are_one_label(labels: CSV) -> None:
    dataset = labels(HEADER + "a,normal,0.9,\nb,abnormal,1,\na, Normal,0.4,again\n")
    assert loaded(dataset) == [("a", "normal", "human"), ("b", "abnormal", "human")]


def test_duplicates_that_differ_are_refused_with_the_image(labels: CSV) -> None:
    assert "swan/000007 is labelled normal and abnormal" in refusal(
        labels(HEADER + "swan/000007,normal,,\nb,normal,,\nswan/000007,abnormal,,\n")
    )


NEEDED = "it needs the columns image_name, label, confidence, notes, or source, start_s, end_s, label"


@pytest.mark.parametrize(
    ("first_line", "told"),
    [
        ("image_name,confidence", f"'image_name,confidence'; {NEEDED}."),
        ("source,start_s,end_s", f"'source,start_s,end_s'; {NEEDED}."),
        ("image_name;label;confidence;notes", f"; {NEEDED}, separated by commas instead of semicolons."),
        ("source;start_s;end_s;label", f"; {NEEDED}, separated by commas instead of semicolons."),
        ("source\tstart_s\tend_s\tlabel", f"; {NEEDED}, separated by commas instead of tabs."),
    ],
)
def test_columns_that_are_not_those_of_labels_are_told_with_those_that_are(
    first_line: str, told: str, labels: CSV
) -> None:
    message = refusal(labels(f"{first_line}\na\n"))
    assert ": its first line is '" in message
    assert message.endswith(told)


def test_a_column_that_is_there_twice_is_refused(labels: CSV) -> None:
    assert "the column label is there twice; keep one." in refusal(labels(HEADER.strip() + ",Label\na,normal,,,\n"))


@pytest.mark.parametrize("label", ["odd", "", "0"])
def test_unknown_label_is_refused_with_its_image_and_what_is_allowed(label: str, labels: CSV) -> None:
    message = refusal(labels(HEADER + f"a,normal,,\nb,{label},,\n"))
    assert f": line 3 (b) has the label '{label}', allowed are abnormal and normal" in message


def test_unknown_source_is_refused_with_its_image_and_what_is_allowed(labels: CSV) -> None:
    message = refusal(labels(HEADER.strip() + ",source\na,normal,,,oracle\n"))
    assert "line 2 (a) has the source 'oracle', allowed are human and llm" in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty;"),
        (HEADER.encode() + "\u00e9,normal,,\n".encode("latin-1"), "its encoding is not UTF-8;"),
        (HEADER.encode("utf-16"), "its encoding is not UTF-8;"),
        (HEADER + "a,normal,,\na,normal,,,,\n", ""),
        (HEADER + '"a,', ""),
    ],
    ids=["empty", "latin-1", "utf-16", "ragged", "open-quote"],
)
def test_unreadable_file_is_refused_in_one_line(content: str | bytes, reason: str, labels: CSV) -> None:
    message = refusal(labels(content))
    assert f": not a readable CSV: {reason}" in message
    assert message.endswith(f"; {NEEDED}.")


def test_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    assert "not a readable CSV" in refusal(LabelsDataset(filepath=str(tmp_path), default=DEFAULT))


def test_default_file_need_not_exist(tmp_path: Path) -> None:
    path = str(tmp_path / "labels.csv")
    assert loaded(LabelsDataset(filepath=path, default={"filepath": path})) == []


def test_default_file_that_exists_is_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(HEADER + "a,abnormal,,\n")
    assert loaded(LabelsDataset(filepath=str(path), default={"filepath": str(path)})) == [("a", "abnormal", "human")]


def test_missing_file_that_was_asked_for_is_refused_with_its_name(tmp_path: Path) -> None:
    path = str(tmp_path / "mine.csv")
    assert refusal(LabelsDataset(filepath=path, default=DEFAULT)) == f"labels={path}: no such file."


RANGES = "source,start_s,end_s,label\n"


def test_ranges_of_time_are_numbers_and_text_however_they_are_written(labels: CSV) -> None:
    table = labels(RANGES + " swan , 3 ,4.5, Abnormal\nswan,0,3,normal\nswan,0,3,normal\n").load()
    assert list(table.itertuples(index=False, name=None)) == [
        ("swan", 3.0, 4.5, "abnormal"),
        ("swan", 0.0, 3.0, "normal"),
    ]
    assert labels(RANGES).load().empty


@pytest.mark.parametrize("written", ["5,3", "3,3", "-1,2", "x,2", "1,", "0,inf", "nan,3"])
def test_range_that_is_none_is_refused_as_it_was_written(written: str, labels: CSV) -> None:
    told = refusal(labels(RANGES + f"swan,0,1,normal\nswan,{written},normal\n"))
    start_s, end_s = written.split(",")
    named = f"line 3 (from {start_s} s to {end_s or '?'} s of swan)"
    assert told.endswith(f": {named} is not a range: give seconds, 0 <= start_s < end_s.")


def test_ranges_that_overlap_and_disagree_are_refused_with_both(labels: CSV) -> None:
    told = refusal(labels(RANGES + "a,8,9,abnormal\na,0,10,normal\nb,0,99,abnormal\n"))
    one, other = "line 3 (from 0 s to 10 s of a) is normal", "line 2 (from 8 s to 9 s of a) is abnormal"
    assert told.endswith(f": {one}, {other}, and they overlap; keep one.")
    touching = labels(RANGES + "a,0,5,normal\na,5,6,abnormal\na,5.5,8,abnormal\nb,0,9,abnormal\n").load()
    assert len(touching) == 4


def test_ranges_name_unknown_labels(labels: CSV) -> None:
    assert "line 2 (from 0 s to 1 s of a) has the label 'odd', allowed are abnormal and normal." in refusal(
        labels(RANGES + "a,0,1,odd\n")
    )


def test_empty_rows_are_left_out_and_count_as_lines(labels: CSV) -> None:
    assert loaded(labels(HEADER + "\na,normal,,\n,,,\n , , ,\n")) == [("a", "normal", "human")]
    assert labels(RANGES + ",,,\n\nswan,20,21,abnormal\n").load().to_numpy().tolist() == [
        ["swan", 20.0, 21.0, "abnormal"]
    ]
    assert "line 5 (from 20 s to 21 s of swan) has the label ''" in refusal(
        labels(RANGES + ",,,\n\n,,,\nswan,20,21,\n")
    )


def test_capital_letters_in_the_first_line_do_not_matter(labels: CSV) -> None:
    assert len(labels(" Source,Start_s,END_S,Label\nswan,20,21,abnormal\n").load()) == 1
    assert loaded(labels(HEADER.upper() + "A,normal,,\n")) == [("A", "normal", "human")]


def test_the_label_of_a_person_counts_where_a_model_says_otherwise(labels: CSV) -> None:
    dataset = labels("image_name,label,confidence,notes,source\na,abnormal,1,,llm\na,normal,,,human\nb,normal,1,,llm\n")
    assert loaded(dataset) == [("a", "normal", "human"), ("b", "normal", "llm")]
