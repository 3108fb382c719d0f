"""What answers promise: each is on disk at once, whole, changes its own frames alone, and can be undone."""

import time
from pathlib import Path

import pandas as pd
import pytest

from cygnet.datasets.labels import COLUMNS, LabelsDataset
from cygnet.errors import UserError
from cygnet.labelling_page.labels_file import FrameNames, LabelsFile
from cygnet.labels import match_labels
from cygnet.tables import ABNORMAL, SOURCES
from support.page_tables import frame_rows

HEADER = "image_name,label,confidence,notes,source\n"
NO_SOURCES = pd.DataFrame(columns=SOURCES.names)
SWAN = pd.DataFrame([("swan", "swan.mp4", "video", 0, None)], columns=SOURCES.names)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return tmp_path / "labels.csv"


def opened(csv: Path, frames: int = 6, sources: pd.DataFrame = NO_SOURCES) -> LabelsFile:
    """Open the labels of frames 0, 4, 8, ... of the video `swan`."""
    dataset = LabelsDataset(filepath=csv, default={"filepath": str(csv)})
    return LabelsFile(dataset, FrameNames(frame_rows({"swan": frames}), sources))


def test_an_answer_makes_the_file_that_ingestion_reads(csv: Path) -> None:
    labels = opened(csv)
    assert labels.said() == {}
    assert labels.answer(2, 2, "abnormal") == {2: {"label": "abnormal", "source": "human", "notes": ""}}
    assert csv.read_text() == HEADER + "swan_000008,abnormal,,,human\n"
    read = LabelsDataset(filepath=csv, default={"filepath": "another"}).load()
    _, frame_labels, _, rejects = match_labels(SWAN, read)
    assert frame_labels[["frame_id", "label", "label_source"]].to_numpy().tolist() == [
        ["swan/000008", ABNORMAL, "human"]
    ]
    assert not len(rejects)


def test_a_range_labels_every_frame_in_it_and_one_undo_takes_it_back(csv: Path) -> None:
    labels = opened(csv)
    labels.answer(3, 3, "normal")
    before = csv.read_bytes()
    labels.answer(1, 4, "abnormal")
    read = pd.read_csv(csv)
    assert sorted(read["image_name"]) == ["swan_000004", "swan_000008", "swan_000012", "swan_000016"]
    assert set(read["label"]) == {"abnormal"}
    assert labels.undo() == {1: None, 2: None, 3: {"label": "normal", "source": "human", "notes": ""}, 4: None}
    assert csv.read_bytes() == before


def test_undo_goes_back_to_the_start_and_no_further(csv: Path) -> None:
    csv.write_text(HEADER + "swan_000000,normal,0.9,a swan,llm\nduck_000001,abnormal,1,,human\n")
    before = csv.read_bytes()
    labels = opened(csv)
    labels.answer(0, 0, "abnormal")
    labels.answer(0, 0, "normal")
    labels.answer(5, 5, "normal")
    assert [list(labels.undo()) for _ in range(4)] == [[5], [0], [0], []]
    assert csv.read_bytes() == before


def test_everything_else_in_the_file_stays(csv: Path) -> None:
    csv.write_text(
        "image_name,label,confidence,notes,reviewer\n"
        'duck_000004,normal,0.70,"a, ""quoted"" note",Ana\n'
        "swan_000004,normal,,old,Ana\n"
        "duck_000008,abnormal,007,,\n"
    )
    opened(csv).answer(1, 1, "abnormal")
    assert csv.read_text() == (
        "image_name,label,confidence,notes,reviewer,source\n"
        'duck_000004,normal,0.70,"a, ""quoted"" note",Ana,\n'
        "swan_000004,abnormal,,,,human\n"
        "duck_000008,abnormal,007,,,\n"
    )


def test_what_another_program_writes_meanwhile_is_kept(csv: Path) -> None:
    labels = opened(csv)
    labels.answer(0, 0, "normal")
    with csv.open("a") as file:
        file.write("swan_000004,abnormal,0.8,a duck,llm\n")
    labels.answer(2, 2, "normal")
    assert labels.said()[1] == {"label": "abnormal", "source": "llm", "notes": "a duck"}


def test_a_write_that_breaks_off_leaves_the_file_as_it_was(csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = opened(csv)
    labels.answer(0, 0, "normal")
    before = csv.read_bytes()

    def half(table: pd.DataFrame, file: Path, **_: object) -> None:
        file.write_text("image_na")
        raise OSError("no space left")

    monkeypatch.setattr(pd.DataFrame, "to_csv", half)
    with pytest.raises(UserError, match=r"no space left.*nothing was changed"):
        labels.answer(1, 1, "normal")
    monkeypatch.undo()
    assert csv.read_bytes() == before
    assert [path.name for path in csv.parent.iterdir()] == ["labels.csv"]
    assert list(labels.undo()) == [0]


def test_a_file_of_ranges_is_refused_in_a_sentence(csv: Path) -> None:
    csv.write_text("source,start_s,end_s,label\nswan,1,2,abnormal\n")
    labels = opened(csv)
    for act in (labels.said, lambda: labels.answer(0, 0, "normal")):
        with pytest.raises(UserError, match="labels ranges of time") as caught:
            act()
        assert all(column in str(caught.value) for column in COLUMNS)
    assert csv.read_text().startswith("source,start_s")


def images(*names: str, label: str | None = None) -> pd.DataFrame:
    """Give a folder `swan` of image files, at the frame indices that are multiples of four."""
    rows = [("swan", f"/p/{name}", "image", 4 * number, label) for number, name in enumerate(names)]
    return pd.DataFrame(rows, columns=SOURCES.names)


def test_an_image_is_named_by_its_file_because_that_is_how_ingestion_reads_it(csv: Path) -> None:
    """`swan_000004.png` is the first image here, not that with the index 4."""
    sources = images("swan_000004.png", "swan_000005.png")
    csv.write_text(HEADER + "swan_000005,normal,0.9,,llm\n")
    labels = opened(csv, 2, sources)
    assert labels.said() == {1: {"label": "normal", "source": "llm", "notes": ""}}
    labels.answer(0, 1, "abnormal")
    assert pd.read_csv(csv)["image_name"].tolist() == ["swan_000005.png", "swan_000004.png"]
    read = LabelsDataset(filepath=csv, default={"filepath": "another"}).load()
    _, frame_labels, _, _ = match_labels(sources, read)
    assert sorted(frame_labels["frame_id"]) == ["swan/000000", "swan/000004"]


def test_folders_say_what_their_images_are_until_a_person_does(csv: Path) -> None:
    labels = opened(csv, 2, images("a.png", "b.png", label="normal"))
    assert {said["source"] for said in labels.said().values()} == {"folder"}
    labels.answer(1, 1, "abnormal")
    assert labels.said()[1] == {"label": "abnormal", "source": "human", "notes": ""}
    assert labels.undo() == {1: {"label": "normal", "source": "folder", "notes": ""}}


def test_an_answer_among_thousands_is_quick(csv: Path) -> None:
    count = 10_000
    labels = opened(csv, count)
    labels.answer(0, count - 1, "normal")
    start_s = time.perf_counter()
    for number in range(5):
        labels.answer(number, number, "abnormal")
    assert (time.perf_counter() - start_s) / 5 < 1
