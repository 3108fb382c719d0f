"""What the table of sources promises: every usable file once, in natural order, under a name of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.io import DatasetError

from cygnet.datasets.videos import VideosDataset, list_sources
from cygnet.errors import UserError

SAMPLE = {"duration_s": 1, "frames_per_s": 5, "width_px": 64, "height_px": 48, "seed": 7}


@pytest.fixture
def touch(tmp_path: Path) -> Callable[..., Path]:
    """Give a maker of empty files below the test's folder."""

    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def rows(sources: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Each source's name, its file's name, media and place."""
    assert list(sources.columns) == ["source", "path", "media", "file_index", "label"]
    assert sources["label"].isna().all()
    return [(row.source, Path(row.path).name, row.media, row.file_index) for row in sources.itertuples()]


def test_file_is_one_source_named_after_it(touch: Callable[..., Path]) -> None:
    folder = touch("swan.mp4", "other.mp4")
    sources = list_sources(str(folder / "swan.mp4"))
    assert rows(sources) == [("swan", "swan.mp4", "video", 0)]
    assert sources["path"].tolist() == [str(folder / "swan.mp4")]


def test_folder_gives_its_videos_in_natural_order_and_nothing_else(touch: Callable[..., Path]) -> None:
    folder = touch("take10.mp4", "take2.AVI", "take1.mov", "notes.txt", ".hidden.mp4", "deeper/take3.mp4")
    assert rows(list_sources(str(folder))) == [
        ("take1", "take1.mov", "video", 0),
        ("take2", "take2.AVI", "video", 0),
        ("take10", "take10.mp4", "video", 0),
    ]


def test_glob_gives_the_files_that_match(touch: Callable[..., Path]) -> None:
    folder = touch("a/one.mp4", "b/two.mp4", "b/three.mkv")
    assert rows(list_sources(str(folder / "*/*.mp4"))) == [
        ("one", "one.mp4", "video", 0),
        ("two", "two.mp4", "video", 0),
    ]


def test_glob_of_any_depth_gives_every_file_once(touch: Callable[..., Path]) -> None:
    folder = touch("a/one.mp4", "a/b/two.mp4")
    assert [row[0] for row in rows(list_sources(str(folder / "**")))] == ["one", "two"]


def test_file_whose_name_looks_like_a_glob_is_that_file(touch: Callable[..., Path]) -> None:
    folder = touch("swan[1].mp4", "swan1.mp4")
    assert [row[1] for row in rows(list_sources(str(folder / "swan[1].mp4")))] == ["swan[1].mp4"]


def test_folder_of_images_is_one_source_in_natural_order(touch: Callable[..., Path]) -> None:
    folder = touch("lake/f_10.png", "lake/f_9.PNG", "lake/f_1.jpg", "lake/readme.md")
    assert rows(list_sources(str(folder / "lake"))) == [
        ("lake", "f_1.jpg", "image", 0),
        ("lake", "f_9.PNG", "image", 1),
        ("lake", "f_10.png", "image", 2),
    ]


def test_names_with_any_kind_of_digit_can_be_ordered(touch: Callable[..., Path]) -> None:
    folder = touch("lake/10\u00b25.png", "lake/9\u00b25.png")
    assert [row[1] for row in rows(list_sources(str(folder / "lake")))] == ["9\u00b25.png", "10\u00b25.png"]


@pytest.mark.parametrize("path", [".", "*.png", "f_1.png", "../lake"])
def test_folder_of_images_has_its_name_however_it_is_reached(
    path: str, touch: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(touch("lake/f_1.png") / "lake")
    assert rows(list_sources(path)) == [("lake", "f_1.png", "image", 0)]


def test_videos_and_images_of_one_folder_are_sources_of_their_own(touch: Callable[..., Path]) -> None:
    folder = touch("lake/swan.mp4", "lake/f_1.png")
    assert rows(list_sources(str(folder / "lake"))) == [
        ("swan", "swan.mp4", "video", 0),
        ("lake", "f_1.png", "image", 0),
    ]


@pytest.mark.parametrize("name", ["notes.txt", "video"])
def test_single_unusable_file_is_refused_with_what_is_usable(name: str, touch: Callable[..., Path]) -> None:
    path = touch(name) / name
    with pytest.raises(UserError, match=r"none of the 1 files there is .*; videos end in .*\.mp4.*images: .*\.png"):
        list_sources(str(path))


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"video={tmp_path}: none of the 0 files there is a video"):
        list_sources(str(tmp_path))


@pytest.mark.parametrize("name", ["missing.mp4", "missing/*.mp4"])
def test_missing_path_is_refused_with_its_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        list_sources(str(tmp_path / name))
    assert refused.value.message.startswith(f"video={tmp_path / name}: no such file or folder")


@pytest.mark.parametrize(
    ("names", "pattern", "twice"),
    [
        (["swan.mp4", "swan.avi"], "*", "swan"),
        (["a/swan.mp4", "b/swan.mp4"], "*/*.mp4", "swan"),
        (["a/lake/1.png", "b/lake/1.png"], "*/lake", "lake"),
        (["a/lake.mp4", "lake/1.png"], "**", "lake"),
    ],
    ids=["two-suffixes", "two-videos", "two-folders", "video-and-folder"],
)
def test_two_sources_with_one_name_are_refused(
    names: list[str], pattern: str, twice: str, touch: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match=f"two sources are named '{twice}'"):
        list_sources(str(touch(*names) / pattern))


def test_sample_is_drawn_when_it_is_asked_for_and_missing(tmp_path: Path) -> None:
    path = tmp_path / "raw" / "swan.mp4"
    sources = VideosDataset(filepath=str(path), sample={"filepath": str(path), **SAMPLE}).load()
    assert rows(sources) == [("swan", "swan.mp4", "video", 0)]
    assert path.stat().st_size > 1000


def test_sample_that_is_there_is_not_drawn_again(tmp_path: Path) -> None:
    path = tmp_path / "swan.mp4"
    path.write_bytes(b"mine")
    VideosDataset(filepath=str(path), sample={"filepath": str(path), **SAMPLE}).load()
    assert path.read_bytes() == b"mine"


def test_missing_path_that_is_not_the_sample_is_refused_and_nothing_is_drawn(tmp_path: Path) -> None:
    sample = tmp_path / "raw" / "swan.mp4"
    dataset = VideosDataset(filepath=str(tmp_path / "goose.mp4"), sample={"filepath": str(sample), **SAMPLE})
    with pytest.raises(DatasetError) as refused:
        dataset.load()
    assert isinstance(refused.value.__cause__, UserError)
    assert "goose.mp4: no such file" in refused.value.__cause__.message
    assert not list(tmp_path.iterdir())


def test_labelled_set_is_a_source_for_each_folder_with_its_label(touch: Callable[..., Path]) -> None:
    folder = touch("Good/1.png", "crack/1.png", "crack/2.png", "broken/9.png", ".cache/3.png", "readme.txt")
    sources = list_sources(str(folder))
    assert list(sources[["source", "media", "file_index", "label"]].itertuples(index=False, name=None)) == [
        ("Good", "image", 0, "normal"),
        ("broken", "image", 0, "abnormal"),
        ("crack", "image", 0, "abnormal"),
        ("crack", "image", 1, "abnormal"),
    ]


def test_folders_are_no_labelled_set_beside_media_without_a_normal_one_or_by_a_glob(
    touch: Callable[..., Path],
) -> None:
    folder = touch("a/good/1.png", "a/swan.mp4", "b/left/1.png", "c/good/1.png", "c/crack/1.png")
    assert rows(list_sources(str(folder / "a"))) == [("swan", "swan.mp4", "video", 0)]
    with pytest.raises(UserError, match="none of the 0 files"):
        list_sources(str(folder / "b"))
    assert [row[0] for row in rows(list_sources(str(folder / "c/*")))] == ["crack", "good"]
