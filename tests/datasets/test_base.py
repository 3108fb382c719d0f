"""What every dataset promises: the direction that it does not have is refused by its name, and checks are found."""

from pathlib import Path
from typing import Any

import pytest
from kedro.io import AbstractDataset, DatasetError

from cygnet.datasets.base import Checked, SettingsChecked
from cygnet.datasets.endpoint import LocalEndpointDataset
from cygnet.datasets.labels import LabelsDataset
from cygnet.datasets.lineage import LineageDataset
from cygnet.datasets.metrics import MetricsDataset
from cygnet.datasets.registry import PreviousVersionDataset, RegisteredModelDataset, VersionTagsDataset
from cygnet.datasets.report import ReportDataset
from cygnet.datasets.score_parts import ScorePartsDataset
from cygnet.datasets.table import TableDataset
from cygnet.datasets.training_state import TrainingStateDataset
from cygnet.datasets.video_file import VideoFileDataset
from cygnet.datasets.videos import VideosDataset

READ_ONLY = [
    TrainingStateDataset(filepath="state"),
    LabelsDataset(filepath="labels.csv", default={"filepath": "labels.csv"}),
    PreviousVersionDataset(name="swan", alias="champion"),
    ScorePartsDataset(filepath="parts"),
    VideosDataset(filepath="swan.mp4", sample={"filepath": "swan.mp4"}),
]
WRITE_ONLY = [
    LineageDataset(name="rows", source="table", context="training"),
    MetricsDataset(),
    VersionTagsDataset(),
    VideoFileDataset(filepath="clip.mp4"),
]


def name_of(dataset: AbstractDataset[Any, Any]) -> str:
    return type(dataset).__name__


@pytest.mark.parametrize("dataset", READ_ONLY, ids=name_of)
def test_what_is_only_loaded_refuses_to_save(dataset: AbstractDataset[Any, Any]) -> None:
    with pytest.raises(DatasetError, match=rf"{name_of(dataset)}\(.*\) is read-only: remove it from the outputs"):
        dataset.save("anything")


@pytest.mark.parametrize("dataset", WRITE_ONLY, ids=name_of)
def test_what_is_only_saved_refuses_to_load(dataset: AbstractDataset[Any, Any]) -> None:
    with pytest.raises(DatasetError, match=rf"{name_of(dataset)}\(.*\) is write-only: remove it from the inputs"):
        dataset.load()


def test_checks_are_found_by_what_a_dataset_has(tmp_path: Path) -> None:
    table = TableDataset(filepath=str(tmp_path), table="images")
    champion = RegisteredModelDataset(name="swan", alias="champion")
    report = ReportDataset(filepath="e.json", dataset={"type": "json.JSONDataset"})
    checked = [dataset for dataset in (*READ_ONLY, table, champion, report) if isinstance(dataset, Checked)]
    assert checked == [READ_ONLY[1], READ_ONLY[2], READ_ONLY[4], table, champion]
    assert isinstance(table, SettingsChecked)
    assert isinstance(champion, SettingsChecked)
    assert not isinstance(LocalEndpointDataset(start_timeout_s=1), Checked | SettingsChecked)
