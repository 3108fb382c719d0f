"""What the hooks promise: the reports that a run wrote are listed, pages first."""

import logging
from pathlib import Path

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node
from kedro_datasets.json import JSONDataset
from kedro_datasets.partitions import PartitionedDataset

from cygnet.datasets.report import ReportDataset
from cygnet.hooks import ReportHooks

JSON = {"type": "json.JSONDataset"}


@pytest.mark.parametrize("is_written", [True, False])
def test_reports_are_listed_wherever_they_are_and_no_other_file(
    is_written: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    many = PartitionedDataset(
        path=str(tmp_path / "many"), dataset=JSON, filename_suffix=".json", metadata={"reports": "many/*.json"}
    )
    if is_written:
        many.save({"a": {"auroc": 0.5}})
    datasets = {
        "evaluation": ReportDataset(filepath="anywhere/e.json", dataset=JSON),
        "report": ReportDataset(filepath="anywhere/report.html", dataset={"type": "text.TextDataset"}),
        "timelines": many,
        "table": JSONDataset(filepath="08_reporting/t.json"),
        "fitted": MemoryDataset(),
    }
    pipeline = Pipeline([node(lambda: None, None, list(datasets), name="report")])
    with caplog.at_level(logging.INFO, "cygnet"):
        ReportHooks().after_pipeline_run(pipeline, DataCatalog(datasets))
    listed = [record.getMessage() for record in caplog.records if record.name == "cygnet.hooks"]
    first = ["Report report: anywhere/report.html", "Report evaluation: anywhere/e.json"]
    assert listed == first + ["Report timelines: many/*.json"] * is_written
