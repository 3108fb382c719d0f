"""Serving: our endpoint against the server that everybody builds first, with the same weights and input size.

Both are MLflow scoring servers on this machine, asked by turns over one connection each. The plain one takes pixels as
nested lists of floats and runs float32 torch; ours takes an encoded image and runs what `serving.runtime` names. Both
get as many threads as there are cores. What is timed is a request from its first byte to the whole answer; bodies are
made before.

Where the time of a request goes is measured in this process, by turns with whole requests: the very functions that the
server runs. What they do not explain is HTTP: uvicorn, FastAPI, threads, and the client.
"""

import io
import json
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.scoring_server import predictions_to_json

from benchmarks.bodies import request_of
from benchmarks.measure import Figure, Result, Work, compare
from benchmarks.server import (
    BASE,
    CLIENTS,
    TINY,
    Server,
    limits,
    log_ours,
    log_plain,
    random_detector,
    served,
    small_image,
    tracker,
)
from cygnet.endpoints.versions import ModelVersion
from cygnet.model.network.detector import Detector
from cygnet.model.serving.request import COLUMN, JSON, encoded_image, read_body
from cygnet.model.serving.runtimes import RUNTIMES
from cygnet.parameters.serving import RuntimeName
from cygnet.parameters.training import SmallViT
from cygnet.vision.codec import encode_jpeg

REQUESTS = 40
TURNS, UNTIMED_TURNS = 60, 10


@dataclass(frozen=True)
class Bodies:
    """One image as a request to each server."""

    plain: bytes
    ours: bytes


@dataclass(frozen=True)
class Compared:
    """A network, the runtimes that serve it with their required speed-up, and the number of turns."""

    name: str
    vit: SmallViT
    targets: dict[RuntimeName, float]
    turns: int


def run() -> Iterator[Result | Figure]:
    """Measure size, latency by runtime, throughput at 8 clients, and what a request costs beside the network."""
    image = small_image()
    pixels = (image[None] / 255).round(13).tolist()  # as long as the reference's, 3.07 MB
    plain_body = json.dumps({"inputs": pixels}, separators=(",", ":")).encode()
    del pixels  # 200,000 objects that the garbage collector would look at within what is timed here
    body = request_of([encode_jpeg(image, 95)], cropped=True)
    yield Figure(
        "request for one 256 px image", f"{len(plain_body) / 1000:.0f} kB", f"{len(body) / 1000:.1f} kB", "60 kB"
    )
    with tracker() as folder:
        bodies = Bodies(plain_body, body)
        yield from _compare_servers(Compared("ViT-Tiny, 12 layers", TINY, {"onnx": 4.0}, turns=50), bodies, folder)
        targets: dict[RuntimeName, float] = {"onnx": 1.8, "torch_bf16": 3.0, "onnx_int8": 4.0}
        yield from _compare_servers(Compared("ViT-Base", BASE, targets, turns=7), bodies, folder)


def _compare_servers(side: Compared, bodies: Bodies, folder: Path) -> Iterator[Result | Figure]:
    detector = random_detector(side.vit)
    plain = log_plain(detector, folder / side.name)
    for runtime, ratio in side.targets.items():
        ours = log_ours(detector, runtime)
        with ExitStack() as servers:
            plain_server, server = (servers.enter_context(served(model)) for model in (plain, ours))
            ask_plain, ask = partial(plain_server.ask, bodies.plain), partial(server.ask, bodies.ours)
            yield compare(Work(f"{side.name}: one request, {runtime}", 1, "request", ratio), ask_plain, ask, side.turns)
            if side.vit is TINY:
                yield compare(
                    Work(f"{side.name}, {CLIENTS} clients, {runtime}", REQUESTS, "request", 3.0),
                    partial(_at_once, ask_plain),
                    partial(_at_once, ask),
                    repetitions=5,
                )
                yield from _overhead(detector, ours, ask_plain, server, bodies.ours)


def _at_once(ask: Callable[[], object]) -> None:
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(lambda _: ask(), range(REQUESTS)))


def _overhead(
    detector: Detector, model: ModelVersion, ask_plain: Callable[[], object], server: Server, body: bytes
) -> Iterator[Figure]:
    """Medians of whole requests without the bare forward pass, of both sides; and the parts of ours."""
    loaded = mlflow.pyfunc.load_model(model.uri)
    scorer = loaded.unwrap_python_model().scorer
    plain_forward = RUNTIMES["torch"].make(detector).run
    cells, params = read_body(body, JSON, limits())
    table = pd.DataFrame({COLUMN: pd.Series(cells, dtype=object)})
    answer = loaded.predict(table, params=params)

    def preprocess() -> np.ndarray:
        return scorer.runtime.preprocessing.resize(scorer.decode(encoded_image(cells[0])))

    batch = preprocess()[None]  # (1, S, S, 3)
    ms = _medians_ms(
        {
            "plain": ask_plain,
            "ours": lambda: server.ask(body),
            "forward": lambda: scorer.runtime.run(batch),
            "read": lambda: read_body(body, JSON, limits()),
            "preprocess": preprocess,
            "predict": lambda: loaded.predict(table, params=params),
            "write": lambda: predictions_to_json(answer, io.StringIO()),
            "plain forward": lambda: plain_forward(batch),  # last: its idle threads spin for a while
        }
    )
    yield Figure(
        "a request beside the bare forward pass",
        f"+{ms['plain'] - ms['plain forward']:.1f} ms",
        f"+{ms['ours'] - ms['forward']:.1f} ms",
        "10 ms",
    )
    parts = {
        "the body's JSON": ms["read"],
        "base64, decoding, resizing": ms["preprocess"],
        "pandas, MLflow's checks, scores": ms["predict"] - ms["preprocess"] - ms["forward"],
        "the answer's JSON": ms["write"],
        "HTTP: server, threads, client": ms["ours"] - ms["read"] - ms["predict"] - ms["write"],
    }
    for part, of_ours_ms in parts.items():
        yield Figure(f"  of that: {part}", "", f"{of_ours_ms:.2f} ms", "")


def _medians_ms(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Time calls by turns, the first ones untimed."""
    times_ms: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(UNTIMED_TURNS + TURNS):
        for name, call in calls.items():
            start_s = time.perf_counter()
            call()
            if turn >= UNTIMED_TURNS:
                times_ms[name].append((time.perf_counter() - start_s) * 1000)
    return {name: statistics.median(values) for name, values in times_ms.items()}
