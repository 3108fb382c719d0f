"""A task of the job as a workspace runs it: `--env databricks`, with tracker, registry and endpoint behind one address.

The workspace is a local server (`stub_server`): runs are kept by MLflow's own server, models by a stand-in for Unity
Catalog, and what Model Serving answers comes from the version that was registered. The service principal signs in as in
a workspace. Not proved by this: that a real workspace answers as these do.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pyarrow as pa
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from cygnet.datasets.registry import RegisteredModelDataset
from cygnet.datasets.table import TableDataset
from cygnet.endpoints.versions import ModelVersion
from cygnet.job_runs import TAG
from cygnet.labels import REJECT_COLUMNS
from cygnet.model.serving.packaging import PackagedDetector
from cygnet.parameters.base import Parameters
from cygnet.tables import IMAGES, NORMAL, SUSPICIOUS_FRAMES_COLUMNS
from cygnet.vision.codec import encode_jpeg, encode_map
from support.evaluations import toy_evaluation
from support.stub_server import Reply, Request, Workspace
from support.toys import toy_image, toy_rows, toy_scorer

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).parents[1]
JOB = str(Path(sys.executable).parent / "cygnet-job")
ENDPOINT = "dev_jane_cygnet-detector"
MODEL, EXPERIMENT = "ml.dev_jane_cygnet.detector", "/Shared/[dev jane] cygnet-dev"
CLIENT_SECRET = "word-of-the-principal"  # noqa: S105  # pragma: allowlist secret
NAMES = {
    "CYGNET_CATALOG": "ml",
    "CYGNET_SCHEMA": "dev_jane_cygnet",
    "CYGNET_VOLUME": "data",
    "CYGNET_MODEL": "detector",
    "CYGNET_EXPERIMENT": EXPERIMENT,
}


@dataclass
class Place:
    """A workspace, the folder that stands for its volume, and the environment of a task."""

    workspace: Workspace
    data: Path
    environment: dict[str, str]

    def task(self, pipeline: str, *parameters: str) -> subprocess.CompletedProcess[str]:
        """Run a task of the job with number 7."""
        given = ",".join(["job_run_id=7", *parameters])
        return subprocess.run(
            [JOB, "--env=databricks", f"--pipelines={pipeline}", f"--params={given}"],
            cwd=PROJECT,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def runs(self) -> list[Run]:
        """The experiment's runs, the oldest first."""
        client = MlflowClient()
        experiment = client.get_experiment_by_name(EXPERIMENT)
        return list(client.search_runs([experiment.experiment_id], order_by=["start_time ASC"]))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, parameters: dict[str, Parameters]) -> Iterator[Place]:
    """Give a workspace that serves version 1, the champion, and has test images for version 2, the challenger."""
    folder = tmp_path_factory.mktemp("workspace")
    detector = PackagedDetector(toy_scorer(parameters["training"]), encode_jpeg(toy_image(NORMAL), 95), {})
    with Workspace().open() as workspace, pytest.MonkeyPatch.context() as patch:
        principal = {
            "DATABRICKS_CONFIG_FILE": str(folder / "none"),
            "DATABRICKS_HOST": workspace.url,
            "DATABRICKS_CLIENT_ID": "principal",
            "DATABRICKS_CLIENT_SECRET": CLIENT_SECRET,
        }
        for name, value in principal.items():
            patch.setenv(name, value)
        workspace.track(folder)
        workspace.answer = served
        workspace.configure(ENDPOINT, {"detector-1": 100}, of=MODEL)
        with tracked_there():
            for alias in ("champion", "challenger"):
                RegisteredModelDataset(name=MODEL, alias=alias).save(detector)
            write_tables(folder / "data", ModelVersion(MODEL, "2"))
            yield Place(workspace, folder / "data", {**principal, **NAMES, "CYGNET_DATA": str(folder / "data")})


@contextmanager
def tracked_there() -> Iterator[None]:
    """Let this process track and register in the workspace too, in another experiment.

    MLflow sets the variable of its registry and never unsets it: later tests would inherit it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "databricks")
        patch.setenv("MLFLOW_REGISTRY_URI", "databricks-uc")
        mlflow.set_tracking_uri("databricks")
        mlflow.set_registry_uri("databricks-uc")
        try:
            with mlflow.start_run(experiment_id=mlflow.create_experiment("/Shared/before")):
                yield
        finally:
            mlflow.set_tracking_uri(None)
            mlflow.set_registry_uri(None)


def write_tables(data: Path, model: ModelVersion) -> None:
    """Write what serving reads: test images, and what the model says about them."""
    rows = toy_rows(splits=("test",))
    TableDataset(filepath=str(data / "05_model_input/training_set"), table="training_set").save(rows)
    said = model.predict(rows["image"].to_pylist(), cropped=True)
    keys = rows.select(["image_id", "frame_id", "split", "label", "kind", "severity"]).to_pandas()
    scores = said[["logit_abnormal", "logit_normal", "anomaly_score", "is_anomalous"]]
    grids = [encode_map(pd.DataFrame([[score]]).to_numpy("float32")) for score in said["anomaly_score"]]
    margin = said["logit_abnormal"] - said["logit_normal"]
    parts = {"classifier_margin": margin, "normality_distance": 0.0, "anomaly_map": grids, "classifier_map": grids}
    predictions = pd.concat([keys, scores], axis=1).assign(**parts)
    TableDataset(filepath=str(data / "07_model_output/predictions"), table="predictions").save(predictions)
    write_what_the_report_tells(data, rows.to_pylist(), predictions)


def write_what_the_report_tells(data: Path, rows: list[dict[str, Any]], predictions: pd.DataFrame) -> None:
    """Write what serving reads for its report alone: images, rejects, suspicious frames and evaluation."""
    seen = {"tile": 0, "tiles": 1, "label_source": "default"}
    images = pa.Table.from_pylist([{**row, **seen} for row in rows], schema=IMAGES)
    TableDataset(filepath=str(data / "03_primary/images"), table="images", load_as="arrow").save(images)
    reports = data / "08_reporting"
    reports.mkdir(parents=True)
    pd.DataFrame(columns=REJECT_COLUMNS).to_csv(reports / "rejects.csv", index=False)
    pd.DataFrame(columns=SUSPICIOUS_FRAMES_COLUMNS).to_csv(reports / "suspicious_frames.csv", index=False)
    (reports / "evaluation.json").write_text(json.dumps(toy_evaluation(predictions)))


def served(request: Request) -> Reply:
    """Answer with the version that is asked."""
    version = re.search(r"served-models/detector-(\d+)/", request.path)[1]
    answer = ModelVersion(MODEL, version).predict(request.images, cropped=True).drop(columns="heatmap", errors="ignore")
    return Reply(200, {"predictions": json.loads(answer.to_json(orient="records"))})


def test_serving_promotes_and_a_rollback_goes_back_in_registry_endpoint_and_tracker(place: Place) -> None:
    catalog = place.workspace.catalog
    gate = "serving.gate.min_auroc=0"
    done = place.task("serving", gate)
    assert done.returncode == 0, done.stderr
    report = json.loads((place.data / "08_reporting/serving_report.json").read_text())
    assert (report["passed"], report["champion"]["version"]) == (True, "1")
    assert report["max_abs_score_difference"] < 1e-5
    assert catalog.models[MODEL].aliases == {"champion": "2", "challenger": "2"}
    assert catalog.models[MODEL].tags["2"]["cygnet_previous_champion"] == "1"
    assert place.workspace.traffic(ENDPOINT) == {"detector-1": 0, "detector-2": 100}

    done = place.task("rollback")
    assert done.returncode == 0, done.stderr
    assert catalog.models[MODEL].aliases == {"champion": "1", "challenger": "2"}
    assert place.workspace.traffic(ENDPOINT) == {"detector-1": 100, "detector-2": 0}

    runs = place.runs()
    (parent,) = [run for run in runs if TAG in run.data.tags]
    children = [run for run in runs if run.data.tags.get(MLFLOW_PARENT_RUN_ID) == parent.info.run_id]
    assert [(run.info.status, run.data.params.get("serving.gate.min_auroc")) for run in children] == [
        ("FINISHED", "0.0"),
        ("FINISHED", None),
    ]
    written = [file.read_bytes() for file in place.data.parent.rglob("*") if file.is_file()]
    for secret in (CLIENT_SECRET, place.workspace.token):
        assert not any(secret.encode() in content for content in written)
        assert secret not in done.stdout + done.stderr
