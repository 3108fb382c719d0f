"""Fixtures for all tests: small generated data, one Spark session, one MLflow store, and what marks a test as slow."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from kedro.config import OmegaConfigLoader
from pyspark.sql import SparkSession

from cygnet.parameters.base import Parameters
from cygnet.parameters.check import PIPELINE_PARAMETERS
from cygnet.settings import CONFIG_LOADER_ARGS
from cygnet.spark import start_session
from support.toys import base_parameters, tracked

PROJECT = Path(__file__).parents[1]
SLOW_FIXTURES = {"environment", "installed", "job", "port", "python312", "wheel", "whole_run"}
COPIED = ("src", "conf", "pyproject.toml", "setup.py", "README.md", "LICENSE")
BUILD = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "."]


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what needs a wheel, a fresh environment, another Python, Azurite or a whole run as a process."""
    for item in items:
        if SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="module")
def own_path() -> Iterator[None]:
    """Restore the import path: MLflow puts a loaded model's own `cygnet` first, and new processes inherit that."""
    path = list(sys.path)
    yield
    sys.path[:] = path


@pytest.fixture(scope="session")
def parameters() -> dict[str, Parameters]:
    """Give the parameters of conf/base, by pipeline."""
    base = base_parameters()
    return {name: model.model_validate(base[name]) for name, model in PIPELINE_PARAMETERS.items()}


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """Give the one session, with the settings of a run but on two cores."""
    config = OmegaConfigLoader(str(PROJECT / "conf"), "test", **CONFIG_LOADER_ARGS)["spark"]
    session = start_session({**config, "spark.master": "local[2]", "spark.sql.shuffle.partitions": "2"})
    yield session
    session.stop()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of the one MLflow store."""
    return tmp_path_factory.getbasetemp() / "mlflow"


@pytest.fixture
def tracking(store: Path) -> Iterator[Path]:
    """Track in the one store; give its folder."""
    with tracked(store):
        yield store


@pytest.fixture
def scene() -> Callable[..., np.ndarray]:
    """Give a maker of busy little scenes: `scene(seed)` is `(256, 256, 3)` uint8 without black or white areas."""

    def make(seed: int = 0, size_px: int = 256) -> np.ndarray:
        rng = np.random.default_rng(seed)
        coarse = rng.integers(60, 190, (8, 8, 3)).astype(np.uint8)
        smooth = cv2.resize(coarse, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
        return np.clip(smooth.astype(int) + rng.integers(-6, 7, smooth.shape), 12, 243).astype(np.uint8)

    return make


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    """Give a writer of little videos: frame i has about the grey level 40 + 2 i, by which it can be told."""

    def write(name: str = "video.mp4", frames: int = 30, frames_per_s: float = 10.0, codec: str = "mp4v") -> Path:
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), frames_per_s, (96, 64))
        assert writer.isOpened()
        for index in range(frames):
            writer.write(np.full((64, 96, 3), 40 + 2 * index, np.uint8))
        writer.release()
        return path

    return write


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the wheel of a copy of the project in which a user has settings and a secret of their own."""
    copy = tmp_path_factory.mktemp("project")
    for name in COPIED:
        place = PROJECT / name
        if place.is_dir():
            shutil.copytree(place, copy / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
        else:
            shutil.copy(place, copy)
    for private in ("credentials.yml", "parameters.yaml", "deep/globals.json"):
        (copy / "conf" / "local" / private).parent.mkdir(parents=True, exist_ok=True)
        (copy / "conf" / "local" / private).write_text("{}")
    subprocess.run([*BUILD, "--wheel-dir", "dist"], cwd=copy, check=True)
    return next((copy / "dist").glob("*.whl"))


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a fresh environment in which the wheel is installed; its dependencies are those of this one, by their path.

    A path in a `.pth` file is not searched for other `.pth` files: an editable install of a checkout stays behind.
    """
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-index", wheel], check=True)
    uvicorn = folder / "bin" / "uvicorn"  # the one program of a dependency that is run by its name
    uvicorn.write_text(f"#!{folder}/bin/python\nfrom uvicorn.main import main\nmain()\n")
    uvicorn.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder in which the wheel is installed, and nothing else: for the path of another Python."""
    folder = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, wheel]
    subprocess.run(install, check=True)
    return folder


@pytest.fixture(scope="session")
def python312() -> Path:
    """Give Python 3.12 with what Cygnet needs but torch; its folder has `shared`, pyspark's place on the path."""
    python = os.environ.get("CYGNET_PYTHON312")
    if python is None:
        pytest.skip("CYGNET_PYTHON312 names no environment with Python 3.12: `.ci/python312 FOLDER` makes one")
    return Path(python)
