"""MLflow scoring servers on this machine for the benchmarks of serving: ours, and the plain one.

Weights are random: they cost the same. Each server gets as many threads as there are cores.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import mlflow
import numpy as np
import psutil
import torch
import urllib3

from benchmarks.inputs import ROOT, full_hd_frames
from benchmarks.session import parameters_of, training_scene
from cygnet.endpoints.local import LocalEndpoint
from cygnet.endpoints.versions import ModelVersion
from cygnet.model.network.backbone import initial_vit
from cygnet.model.network.detector import Detector
from cygnet.model.network.preprocessing import Preprocessing
from cygnet.model.serving.packaging import PackagedDetector, log_detector
from cygnet.model.serving.request import JSON
from cygnet.model.serving.runtimes import RUNTIMES
from cygnet.model.serving.scorer import Calibration, Limits, Scorer
from cygnet.parameters.serving import RuntimeName, Serving
from cygnet.parameters.training import SmallViT
from cygnet.vision.codec import encode_jpeg

SIZE_PX = 224
TINY = SmallViT(image_size_px=SIZE_PX, patch_size_px=16, hidden_size=192, layers=12, heads=3)
BASE = SmallViT(image_size_px=SIZE_PX, patch_size_px=16, hidden_size=768, layers=12, heads=12)
CLIENTS = 8


@dataclass(frozen=True)
class Server:
    """A server that is ready, and its process."""

    url: str
    pool: urllib3.PoolManager
    process: psutil.Process

    def send(self, body: bytes, content_type: str = JSON) -> urllib3.BaseHTTPResponse:
        """Send a body once and wait for the whole answer, a minute at most."""
        headers = {"Content-Type": content_type}
        return self.pool.request("POST", self.url, body=body, headers=headers, retries=False, timeout=60)

    def ask(self, body: bytes) -> list[Any]:
        """Send a good request; give its predictions."""
        answer = self.send(body)
        assert answer.status == 200, answer.data[:500]
        predictions: list[Any] = answer.json()["predictions"]
        return predictions

    def memory_mb(self) -> float:
        """Give what the process has in memory."""
        return self.process.memory_info().rss / 1e6


@contextmanager
def served(model: ModelVersion) -> Iterator[Server]:
    """Serve a model to `CLIENTS` clients."""
    settings = Serving.model_validate(parameters_of("serving")).client
    others = _scoring_processes()
    with (
        LocalEndpoint(start_timeout_s=120).serve(model, settings) as client,
        urllib3.PoolManager(maxsize=CLIENTS) as pool,
    ):
        (process,) = _scoring_processes() - others
        yield Server(f"{client.url}/invocations", pool, process)


def _scoring_processes() -> set[psutil.Process]:
    """Find the servers below this process, without the shells and guards that started them."""
    below = psutil.Process().children(recursive=True)
    return {each for each in below if any(part.endswith("/uvicorn") for part in each.cmdline()[:2])}


@contextmanager
def tracker() -> Iterator[Path]:
    """Register in a store of this benchmark's own, and say nothing about it."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    with TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        number = mlflow.create_experiment("serving", Path(folder, "artifacts").as_uri())
        with mlflow.start_run(experiment_id=number):
            yield Path(folder)


def random_detector(vit: SmallViT) -> Detector:
    """Make a detector that was never fitted."""
    torch.manual_seed(0)
    return Detector(initial_vit(vit), Preprocessing(vit.image_size_px)).eval()


def limits() -> Limits:
    """Give the limits of requests in `conf/base`."""
    return Limits(**parameters_of("serving")["limits"])


def log_ours(detector: Detector, runtime: RuntimeName) -> ModelVersion:
    """Register the detector as training does."""
    scorer = Scorer(RUNTIMES[runtime].make(detector), Calibration(1.0, 0.5), training_scene(), limits())
    return ModelVersion("ours", log_detector(PackagedDetector(scorer, encode_jpeg(small_image(), 95), {}), "ours"))


def log_plain(detector: Detector, folder: Path) -> ModelVersion:
    """Register the same weights as `benchmarks.plain_model`."""
    folder.mkdir()
    detector.save(folder)
    info = mlflow.pyfunc.log_model(
        name="plain",
        python_model=str(ROOT / "benchmarks" / "plain_model.py"),
        artifacts={"detector": str(folder)},
        pip_requirements=["torch", "transformers"],
        registered_model_name="plain",
    )
    return ModelVersion("plain", str(info.registered_model_version))


def small_image() -> np.ndarray:
    """Give a 256x256 image of the scene."""
    return cv2.resize(full_hd_frames()[0][:, 420:1500], (256, 256), interpolation=cv2.INTER_AREA)
