"""Any path works: what reads or writes files takes a name for a name, whatever characters it has."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import cv2
import mlflow
import numpy as np
import pyarrow as pa
import pytest
from kedro.config import OmegaConfigLoader

import cygnet
from cygnet.datasets.table import TableDataset
from cygnet.datasets.video_file import VideoFileDataset
from cygnet.endpoints.versions import ModelVersion
from cygnet.settings import CONFIG_LOADER_ARGS
from cygnet.tables import TABLES
from cygnet.vision.clip import Clip
from cygnet.vision.video import sample_video
from support.project import ODD_CLONE, ODD_DATA, ODD_VIDEO, copy_project, fresh_shell, link_environment

PROJECT = Path(__file__).parents[1]
MODEL = """
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

class Echo(PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input

set_model(Echo())
"""
PACKAGE = Path(cygnet.__file__).parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with an odd name that is not there yet."""
    return tmp_path / ODD_DATA / "data"


@pytest.mark.parametrize(("env", "data"), [("base", "data"), ("test", "data/test")])
def test_no_path_of_the_catalog_depends_on_the_working_directory(
    env: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CYGNET_DATA", raising=False)
    monkeypatch.chdir(PROJECT / "notebooks")  # where Jupyter starts a kernel
    loader = OmegaConfigLoader(str(PROJECT / "conf"), env, **CONFIG_LOADER_ARGS)
    places = [loader["catalog"]["images"]["scene"], loader["catalog"]["training_rows"]["source"]]
    assert places == [f"{PROJECT}/{data}/03_primary/scene.json", f"{PROJECT}/{data}/05_model_input/training_set"]


def test_a_url_of_the_data_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYGNET_DATA", "abfss://container@account.dfs.core.windows.net/cygnet")
    loader = OmegaConfigLoader(str(PROJECT / "conf"), "base", **CONFIG_LOADER_ARGS)
    assert loader["globals"]["data"] == "abfss://container@account.dfs.core.windows.net/cygnet"


@pytest.fixture
def globals_of_test(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Give conf/test/globals.yml for data in an odd folder."""
    monkeypatch.setenv("CYGNET_DATA", str(folder))
    return dict(OmegaConfigLoader(str(PROJECT / "conf"), "test", **CONFIG_LOADER_ARGS)["globals"])


def test_mlflow_keeps_runs_and_artifacts_in_the_folder_and_nowhere_else(
    folder: Path, globals_of_test: dict[str, str], tmp_path: Path
) -> None:
    tracking_uri, artifacts = globals_of_test["tracking_uri"], globals_of_test["artifacts"]
    client = mlflow.MlflowClient(tracking_uri)
    run = client.create_run(client.create_experiment("odd", artifact_location=artifacts))
    client.log_text(run.info.run_id, "text", "reports/a.txt")
    assert (folder / "mlflow.db").is_file()
    assert (folder / "mlruns" / run.info.run_id / "artifacts/reports/a.txt").read_text() == "text"
    assert [item.path for item in client.list_artifacts(run.info.run_id, "reports")] == ["reports/a.txt"]
    assert [path.name for path in tmp_path.iterdir()] == [ODD_DATA]


def test_a_registered_model_is_loaded_from_the_folder(globals_of_test: dict[str, str], tmp_path: Path) -> None:
    code = tmp_path / "model.py"
    code.write_text(MODEL)
    mlflow.set_tracking_uri(globals_of_test["tracking_uri"])
    try:
        mlflow.create_experiment("odd", globals_of_test["artifacts"])
        mlflow.set_experiment("odd")
        mlflow.pyfunc.log_model(name="model", python_model=str(code), registered_model_name="odd")
        mlflow.end_run()
        assert mlflow.pyfunc.load_model(ModelVersion("odd", "1").loadable_uri).predict(["answer"]) == ["answer"]
    finally:
        mlflow.set_tracking_uri(None)


def test_spark_is_given_its_log_settings_by_a_url_that_no_option_parser_splits() -> None:
    options = OmegaConfigLoader(str(PROJECT / "conf"), "base", **CONFIG_LOADER_ARGS)["spark"]
    *_, option = options["spark.driver.extraJavaOptions"].split()
    assert option == f"-Dlog4j2.configurationFile={(PACKAGE / 'log4j2.properties').as_uri()}"
    url = CONFIG_LOADER_ARGS["custom_resolvers"]["file_url"](f"/clones/{ODD_VIDEO}")
    assert url2pathname(urlsplit(url).path) == f"/clones/{ODD_VIDEO}"
    assert not set(url) & set(" '\"\\#$`,")


def test_java_opens_names_beyond_ascii_in_every_locale() -> None:
    environment = {**os.environ, "LC_ALL": "C", "CYGNET_JAVA": os.environ.get("CYGNET_JAVA") or "java"}
    command = [PACKAGE / "java/bin/java", "-XshowSettings:properties", "-version"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert "sun.jnu.encoding = UTF-8" in shown.stderr


def test_a_table_is_read_where_it_was_written(folder: Path) -> None:
    schema = TABLES["predictions"]
    table = TableDataset(filepath=str(folder / "predictions"), table="predictions", load_as="arrow")
    table.save(schema.empty_table())
    assert table.load().to_table() == schema.empty_table()
    assert pa.types.is_string(table.load().schema.field("image_id").type)
    table.save(schema.empty_table())
    assert [path.name for path in folder.iterdir()] == ["predictions"]


def test_a_video_is_read_where_it_was_written(folder: Path) -> None:
    path = folder / f"{ODD_VIDEO}.mp4"
    frames = [np.full((48, 64, 3), level, np.uint8) for level in (40, 120, 200)]
    VideoFileDataset(filepath=str(path)).save(Clip(iter(frames), 10.0))
    assert [file.name for file in folder.iterdir()] == [path.name]
    assert [round(float(cv2.mean(sample.image)[0]) / 40) for sample in sample_video(path, None)] == [1, 3, 5]


@pytest.mark.parametrize(("clone", "data"), [("my [clone]", "data"), ("what?", "data"), ("a{b", "data"), ("a", "d}")])
def test_make_refuses_in_a_sentence_what_kedro_takes_for_a_pattern(clone: str, data: str, tmp_path: Path) -> None:
    folder = tmp_path / clone
    folder.mkdir()
    shutil.copy(PROJECT / "Makefile", folder)
    environment = {**os.environ, "CYGNET_DATA": data}
    make = subprocess.run(["make", "help"], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert make.returncode == 2
    assert "rename the folder" in make.stderr


@pytest.mark.slow
def test_a_clone_its_data_and_a_video_may_have_odd_names_in_any_locale(tmp_path: Path) -> None:
    project, home = copy_project(tmp_path / ODD_CLONE), tmp_path / ODD_DATA
    data, video = home / "data", home / f"{ODD_VIDEO}.mp4"
    link_environment(project / ".venv")

    def make_run(*arguments: str) -> None:
        make = subprocess.run(
            ["make", "run", f"ARGS={shlex.join(arguments)}"],
            cwd=project,
            env=fresh_shell(home, LC_ALL="C"),
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
        assert make.returncode == 0, make.stderr
        assert "Traceback" not in make.stderr

    make_run()
    assert json.loads((data / "08_reporting/serving_report.json").read_text())["passed"]
    (data / "01_raw/swan.mp4").rename(video)
    make_run("--pipeline=scoring", f"--params=video={video}")
    assert json.loads((data / "08_reporting/scoring_report.json").read_text())["frames"] == 80
    for name in (f"{ODD_VIDEO}_timeline.png", f"{ODD_VIDEO}.mp4"):
        assert (data / "08_reporting/scoring" / name).stat().st_size > 0
    assert {path.name for path in tmp_path.iterdir()} == {ODD_CLONE, ODD_DATA}
