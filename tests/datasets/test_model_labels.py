"""What the entries for labelling promise: a person's labels stay, and the key is never shown."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from cygnet.datasets import vision_model
from cygnet.datasets.labels import LabelsDataset
from cygnet.datasets.vision_model import AnswerCacheDataset, ModelLabelsDataset, VisionEndpointDataset
from cygnet.endpoints.answer_cache import Answer
from cygnet.errors import UserError
from support.stub_server import Workspace
from support.stub_vision import KEY

HEADER = "image_name,label,confidence,notes,source"


def answers(*rows: tuple[str, str, float]) -> pd.DataFrame:
    """Give answers: name, label and confidence of each image."""
    return pd.DataFrame(rows, columns=["image_name", "label", "confidence"]).assign(notes="seen, so")


def saved(path: Path, before: str | None, *rows: tuple[str, str, float]) -> list[str]:
    """Give the lines of a file of labels after answers were added to it."""
    if before is not None:
        path.write_text(before)
    ModelLabelsDataset(filepath=str(path)).save(answers(*rows))
    return path.read_text().splitlines()


def test_labels_are_written_as_ingestion_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "01_raw" / "labels.csv"
    assert saved(path, None, ("a", "normal", 0.9), ("b", "", np.nan), ("c", "abnormal", 1.0)) == [
        HEADER,
        'a,normal,0.9,"seen, so",llm',
        'c,abnormal,1,"seen, so",llm',
    ]
    loaded = LabelsDataset(filepath=str(path), default={"filepath": "else"}).load()
    assert loaded.to_numpy().tolist() == [["a", "normal", "llm"], ["c", "abnormal", "llm"]]
    assert [file.name for file in path.parent.iterdir()] == ["labels.csv"]


@pytest.mark.parametrize("source", ["human", "", "Human"])
def test_a_row_of_a_person_stays_whatever_the_model_says(source: str, tmp_path: Path) -> None:
    before = f"{HEADER},colour\na,normal,0.4,mine,{source},red\n"
    lines = saved(tmp_path / "labels.csv", before, ("a", "abnormal", 1.0), ("b", "normal", 1.0))
    assert lines == [*before.splitlines(), 'b,normal,1,"seen, so",llm,']


def test_a_file_without_sources_is_a_persons(tmp_path: Path) -> None:
    lines = saved(tmp_path / "labels.csv", "image_name,label,confidence,notes\na,normal,,\n", ("a", "abnormal", 1.0))
    assert lines == [HEADER, "a,normal,,,"]


def test_a_person_may_name_an_image_without_its_extension(tmp_path: Path) -> None:
    lines = saved(tmp_path / "labels.csv", f"{HEADER}\nshot,normal,,,human\n", ("shot.png", "abnormal", 1.0))
    assert lines == [HEADER, "shot,normal,,,human"]


def test_the_models_own_labels_are_replaced_and_those_of_other_images_stay(tmp_path: Path) -> None:
    before = f"{HEADER}\na,normal,0.9,old,llm\nb,normal,0.9,old,llm\nc,normal,0.9,old,LLM\nd,normal,0.9,old,llm\n"
    rows = ("a", "abnormal", 0.8), ("b", "", 0.3)
    assert saved(tmp_path / "labels.csv", before + "d,abnormal,1,,human\n", *rows) == [
        HEADER,
        "c,normal,0.9,old,LLM",
        "d,abnormal,1,,human",
        'a,abnormal,0.8,"seen, so",llm',
    ]


def test_a_label_that_came_while_the_model_was_asked_counts(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    dataset = ModelLabelsDataset(filepath=str(path))
    path.write_text(f"{HEADER}\na,normal,,,human\n")  # after the run had begun
    dataset.save(answers(("a", "abnormal", 1.0)))
    assert path.read_text().splitlines() == [HEADER, "a,normal,,,human"]


def test_a_file_of_ranges_stays_as_it_is_and_labels_go_beside_it(tmp_path: Path) -> None:
    path, ranges = tmp_path / "labels.csv", "source,start_s,end_s,label\nswan,1,2,normal\n"
    for _ in range(2):
        assert saved(path, ranges, ("swan_000001", "normal", 0.9)) == ranges.splitlines()
    beside = (tmp_path / "labels_llm.csv").read_text().splitlines()
    assert beside == [HEADER, 'swan_000001,normal,0.9,"seen, so",llm']


def test_a_write_that_breaks_off_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"{HEADER}\na,normal,,,human\n")
    monkeypatch.setattr(pd.DataFrame, "to_csv", lambda self, file, **_: Path(file).write_text("half") and 1 / 0)
    with pytest.raises(DatasetError):
        ModelLabelsDataset(filepath=str(path)).save(answers(("b", "normal", 1.0)))
    assert path.read_text() == f"{HEADER}\na,normal,,,human\n"


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", f" {KEY}\n")
    dataset = VisionEndpointDataset(key_variable="SOME_KEY")
    assert dataset.load().key == KEY
    assert KEY not in f"{dataset} {dataset!r} {dataset.load()!r}"


def test_the_key_comes_from_a_secret_scope_if_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "from the environment")
    dataset = VisionEndpointDataset(key_variable="SOME_KEY", secret="scope/name")  # noqa: S106 - a reference
    with Workspace().open() as workspace:
        workspace.secrets["scope", "name"] = KEY
        monkeypatch.setenv("DATABRICKS_HOST", workspace.url)
        monkeypatch.setenv("DATABRICKS_TOKEN", workspace.token)
        assert dataset.load().key == KEY
        workspace.secrets.clear()
        with pytest.raises(DatasetError, match="The secret 'scope/name' can't be read"):
            dataset.load()
    assert KEY not in f"{dataset} {dataset!r}"


@pytest.mark.parametrize("value", [None, "", " "])
def test_no_key_gets_one_sentence_before_the_run(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision_model.importlib.util, "find_spec", lambda _: object())
    monkeypatch.delenv("SOME_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SOME_KEY", value)
    with pytest.raises(UserError, match="There is no key for the vision model: export SOME_KEY=KEY"):
        VisionEndpointDataset(key_variable="SOME_KEY").check_settings()


def test_no_client_gets_one_sentence_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    monkeypatch.setattr(vision_model.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"needs `pip install 'cygnet\[llm\]'`"):
        VisionEndpointDataset(key_variable="SOME_KEY").check_settings()


def test_the_cache_is_the_folder_whether_it_exists_or_not(tmp_path: Path) -> None:
    answer = Answer("normal", 0.5, "", 1)
    AnswerCacheDataset(filepath=str(tmp_path / "answers")).load().put(b"image", "question", answer)
    assert AnswerCacheDataset(filepath=str(tmp_path / "answers")).load().get(b"image", "question") == answer
