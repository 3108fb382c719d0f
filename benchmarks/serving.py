"""Serving: our endpoint against the server that everybody builds first, with the same weights and input size.

Both are MLflow scoring servers on this machine, asked by turns over one connection each. The plain one takes pixels as
nested lists of floats and runs float32 torch; ours takes an encoded image and runs what `serving.runtime` names. Both
get as many threads as there are cores. What is timed is a request from its first byte to the whole answer; bodies are
made before. Weights are random: they cost the same.
"""

import base64
import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import mlflow
import numpy as np
import torch
import urllib3

from benchmarks.inputs import ROOT, full_hd_frames
from benchmarks.measure import Figure, Result, compare
from benchmarks.session import parameters_of
from cygnet.datasets.endpoint import LocalEndpoint
from cygnet.datasets.registry import ModelVersion
from cygnet.model.backbone import initial_vit
from cygnet.model.detector import Detector
from cygnet.model.export import make_runtime
from cygnet.model.packaging import PackagedDetector, log_detector
from cygnet.model.preprocessing import Preprocessing
from cygnet.model.scorer import Calibration, Limits, Scorer
from cygnet.parameters import RuntimeName, Serving, SmallViT
from cygnet.vision.codec import encode_jpeg

SIZE_PX = 224
TINY = SmallViT(image_size_px=SIZE_PX, patch_size_px=16, hidden_size=192, layers=12, heads=3)
BASE = SmallViT(image_size_px=SIZE_PX, patch_size_px=16, hidden_size=768, layers=12, heads=12)
CLIENTS = 8
REQUESTS = 40
Ask = Callable[[], bytes]


def run() -> Iterator[Result | Figure]:
    """Measure size, latency by runtime, throughput at 8 clients, and what a request costs beside the network."""
    image = cv2.resize(full_hd_frames()[0][:, 420:1500], (256, 256), interpolation=cv2.INTER_AREA)
    pixels = (image[None] / 255).round(13).tolist()  # as long as the reference's, 3.07 MB
    plain_body = json.dumps({"inputs": pixels}, separators=(",", ":")).encode()
    encoded = base64.b64encode(encode_jpeg(image, 95)).decode()
    request = {"dataframe_split": {"columns": ["image"], "data": [[encoded]]}, "params": {"cropped": True}}
    body = json.dumps(request).encode()
    yield Figure(
        "request for one 256 px image", f"{len(plain_body) / 1000:.0f} kB", f"{len(body) / 1000:.1f} kB", "60 kB"
    )
    with _tracker() as folder:
        yield from _latencies(
            "ViT-Tiny, 12 layers", TINY, {"onnx": 4.0}, folder, plain_body, body, image, repetitions=50
        )
        asked: dict[RuntimeName, float] = {"onnx": 1.8, "torch_bf16": 3.0, "onnx_int8": 4.0}
        yield from _latencies("ViT-Base", BASE, asked, folder, plain_body, body, image, repetitions=7)


def _latencies(
    name: str,
    vit: SmallViT,
    asked: dict[RuntimeName, float],
    folder: Path,
    plain_body: bytes,
    body: bytes,
    image: np.ndarray,
    repetitions: int,
) -> Iterator[Result | Figure]:
    torch.manual_seed(0)
    detector = Detector(initial_vit(vit), Preprocessing(SIZE_PX)).eval()
    plain = _log_plain(detector, folder / name)
    for runtime, ratio in asked.items():
        with ExitStack() as servers:
            ask_plain, ask = (
                servers.enter_context(_served(model, sent))
                for model, sent in ((plain, plain_body), (_log_ours(detector, runtime, image), body))
            )
            yield compare(
                f"{name}: one request, {runtime}", ask_plain, ask,
                items=1, item="request", asked=ratio, repetitions=repetitions,
            )  # fmt: skip
            if vit is TINY:
                yield compare(
                    f"{name}, {CLIENTS} clients, {runtime}", partial(_at_once, ask_plain), partial(_at_once, ask),
                    items=REQUESTS, item="request", asked=3.0, repetitions=5,
                )  # fmt: skip
                yield _overhead(make_runtime(detector, runtime).run, ask)


def _overhead(forward: Callable[[np.ndarray], object], ask: Ask) -> Figure:
    """Medians of bare forward passes in this process and of requests; the difference is all the rest.

    One after the other and not by turns: idle threads of one session spin for a while, and slow the other down.
    """
    pixels = np.zeros((1, SIZE_PX, SIZE_PX, 3), np.uint8)
    bare_ms, whole_ms = _median_ms(lambda: forward(pixels)), _median_ms(ask)
    return Figure(
        "all of a request but the network", f"{bare_ms:.1f} ms bare", f"+{whole_ms - bare_ms:.1f} ms", "10 ms"
    )


def _median_ms(call: Callable[[], object]) -> float:
    times_ms = []
    for _ in range(60):
        start_s = time.perf_counter()
        call()
        times_ms.append((time.perf_counter() - start_s) * 1000)
    return statistics.median(times_ms[10:])


def _at_once(ask: Ask) -> None:
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(lambda _: ask(), range(REQUESTS)))


@contextmanager
def _served(model: ModelVersion, body: bytes) -> Iterator[Ask]:
    """Serve a model; give what sends it the body once."""
    settings = Serving.model_validate(parameters_of("serving")).client.model_copy(update={"in_flight": CLIENTS})
    with (
        LocalEndpoint(start_timeout_s=120).serve(model, settings) as client,
        urllib3.PoolManager(maxsize=CLIENTS) as pool,
    ):

        def ask() -> bytes:
            headers = {"Content-Type": "application/json"}
            answer = pool.request("POST", f"{client.url}/invocations", body=body, headers=headers, retries=False)
            assert answer.status == 200, answer.data[:500]
            return answer.data

        yield ask


@contextmanager
def _tracker() -> Iterator[Path]:
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


def _log_ours(detector: Detector, runtime: RuntimeName, image: np.ndarray) -> ModelVersion:
    limits = Limits(**parameters_of("serving")["limits"])
    scorer = Scorer(make_runtime(detector, runtime), Calibration(1.0, 0.5), 0.5, limits)
    return ModelVersion("ours", log_detector(PackagedDetector(scorer, encode_jpeg(image, 95), {}), "ours"))


def _log_plain(detector: Detector, folder: Path) -> ModelVersion:
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
