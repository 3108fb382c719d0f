"""Runs of the project: in a process of their own, as a user types them, or in this one, which is a minute quicker."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mlflow
import pandas as pd
import pyarrow.parquet as pq
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

PROJECT = Path(__file__).parents[2]
KEDRO_RUN = (sys.executable, "-m", "kedro", "run")
PLACES = {
    "frames": "02_intermediate/frames",
    "images": "03_primary/images",
    "anomalies": "04_feature/anomalies",
    "training_set": "05_model_input/training_set",
    "predictions": "07_model_output/predictions",
    "baselines": "07_model_output/baselines",
    "scores": "07_model_output/scores",
}


def kedro_run(
    data: Path | str, *arguments: str, command: tuple[str, ...] = KEDRO_RUN, cwd: Path = PROJECT, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `kedro run --env test`, with its data in this place, in a process of its own."""
    environment = {**os.environ, "CYGNET_DATA": str(data), "DO_NOT_TRACK": "1", "KEDRO_DISABLE_TELEMETRY": "1"}
    return subprocess.run(
        [*command, "--env=test", *arguments],
        cwd=cwd,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


@contextmanager
def here(data: Path) -> Iterator[None]:
    """Let this process be a run's, with its data in this place; afterwards environment and MLflow are as before."""
    with patch.dict(os.environ, {"CYGNET_DATA": str(data)}):
        bootstrap_project(PROJECT)
        try:
            yield
        finally:
            while mlflow.active_run():  # kedro-mlflow starts the run again for each node, and ends it once
                mlflow.end_run()
            mlflow.set_tracking_uri(None)
            mlflow.set_registry_uri(None)


def run_here(data: Path, *pipelines: str, **parameters: Any) -> None:
    """Run pipelines of `--env test` in this process, by the tests' own Spark session; without names, all five."""
    with here(data), KedroSession.create(PROJECT, env="test", runtime_params=parameters) as session:
        session.run(pipeline_names=list(pipelines) or None)


def read(data: Path, table: str) -> pd.DataFrame:
    """Give the rows of a table that a run wrote."""
    return pq.read_table(data / PLACES[table]).to_pandas()
