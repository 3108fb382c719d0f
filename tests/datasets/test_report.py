"""What a report promises: it is written and read as its kind is, whole or not at all, and copied to MLflow."""

from inspect import signature
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from kedro.io import DatasetError
from kedro_datasets.json import JSONDataset
from matplotlib.figure import Figure

from cygnet.datasets.report import ReportDataset
from cygnet.datasets.video_file import VideoFileDataset

JSON = {"type": "json.JSONDataset", "save_args": {"indent": 2}}


def test_a_report_is_written_and_read_as_its_kind_is(tmp_path: Path) -> None:
    path = tmp_path / "new" / "e.json"
    report = ReportDataset(filepath=str(path), dataset=JSON)
    assert not report.exists()
    report.save({"auroc": 0.5})
    assert report.exists()
    assert path.read_text() == '{\n  "auroc": 0.5\n}'
    assert report.load() == {"auroc": 0.5}
    csv = {"type": "pandas.CSVDataset", "save_args": {"index": False}, "load_args": {"dtype": {"source": str}}}
    rejects = ReportDataset(filepath=str(tmp_path / "r.csv"), dataset=csv)
    rejects.save(pd.DataFrame({"source": ["007"]}))
    assert rejects.load()["source"].tolist() == ["007"]


def test_a_report_that_breaks_off_leaves_what_was_there(tmp_path: Path) -> None:
    report = ReportDataset(filepath=str(tmp_path / "e.json"), dataset=JSON)
    report.save({"auroc": 0.5})
    with pytest.raises(DatasetError, match="not JSON serializable"):
        report.save({"auroc": 0.6, "then": object()})
    assert report.load() == {"auroc": 0.5}
    assert [path.name for path in tmp_path.iterdir()] == ["e.json"]


@pytest.mark.usefixtures("tracking")
def test_a_copy_is_in_mlflow_under_the_name_of_the_file(tmp_path: Path) -> None:
    settings = {"type": "matplotlib.MatplotlibDataset", "save_args": {"format": "png"}}
    figure = ReportDataset(filepath=str(tmp_path / "f.png"), dataset=settings, artifact_path="figures")
    figure.save(Figure())
    run = mlflow.active_run().info.run_id
    logged = mlflow.artifacts.download_artifacts(run_id=run, artifact_path="figures/f.png", dst_path=tmp_path / "copy")
    assert Path(logged).read_bytes() == (tmp_path / "f.png").read_bytes()


def test_kedro_viz_finds_the_preview_of_the_kind_and_none_where_it_has_none(tmp_path: Path) -> None:
    report = ReportDataset(filepath=str(tmp_path / "e.json"), dataset=JSON)
    report.save({"auroc": 0.5})
    assert signature(report.preview).return_annotation == signature(JSONDataset.preview).return_annotation
    assert report.preview() == '{"auroc": 0.5}'
    kind = f"{VideoFileDataset.__module__}.{VideoFileDataset.__name__}"
    assert not hasattr(ReportDataset(filepath="a.mp4", dataset={"type": kind}), "preview")
