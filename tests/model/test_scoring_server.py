"""What the served model promises over HTTP: good requests are answered, anything else gets 400 and one sentence."""

import base64
import io
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import requests

from cygnet.datasets.endpoint import LocalEndpoint
from cygnet.datasets.registry import ModelVersion
from cygnet.model.packaging import PackagedDetector, log_detector
from cygnet.model.scorer import Scorer
from cygnet.parameters import Client, Parameters
from cygnet.tables import NORMAL
from cygnet.vision.codec import encode_jpeg, encode_png
from toys import LIMITS, toy_image, toy_scorer, tracked

SETTINGS = Client(timeout_s=30, retries=0, backoff_s=0, max_request_bytes=15_000_000, in_flight=1)
IMAGE = encode_jpeg(toy_image(NORMAL, 1, 256), 90)
TEXT = base64.b64encode(IMAGE).decode()
GOOD = json.dumps({"dataframe_split": {"columns": ["image"], "data": [[TEXT]]}, "params": {"cropped": True}}).encode()
JSON, PARQUET = "application/json", "application/vnd.apache.parquet"


@pytest.fixture(scope="module")
def scorer(parameters: dict[str, Parameters]) -> Scorer:
    """Give the scorer that is served."""
    return toy_scorer(parameters["training"], runtime="onnx")


@pytest.fixture(scope="module")
def url(scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the model by MLflow's scoring server; give its address. A start costs 10 s."""
    with tracked(tmp_path_factory.getbasetemp() / "mlflow"):
        version = log_detector(PackagedDetector(scorer, IMAGE, {}), "scoring-server")
        with LocalEndpoint(120).serve(ModelVersion("scoring-server", version), SETTINGS) as client:
            yield f"{client.url}/invocations"


@pytest.fixture
def ask(url: str) -> Callable[..., requests.Response]:
    """Give a sender of bodies."""

    def send(body: bytes, content_type: str | None = JSON) -> requests.Response:
        headers = {"Content-Type": content_type} if content_type is not None else {}
        return requests.post(url, data=body, headers=headers, timeout=30)

    return send


def test_every_format_is_answered_as_the_scorer_does(ask: Callable[..., requests.Response], scorer: Scorer) -> None:
    (expected,) = scorer.score([scorer.decode(IMAGE, cropped=False)])["anomaly_score"]
    records = [{"image": TEXT}]
    tables = {"dataframe_split": {"columns": ["image"], "data": [[TEXT]]}, "dataframe_records": records}
    bodies = [json.dumps({name: table}).encode() for name, table in tables.items()]
    bodies += [
        json.dumps({name: table}).encode()
        for name in ("inputs", "instances")
        for table in (records, {"image": [TEXT]}, [TEXT])
    ]
    answers = [ask(body) for body in bodies] + [ask(pd.DataFrame({"image": [IMAGE]}).to_parquet(), PARQUET)]
    for answer in answers:
        (row,) = answer.json()["predictions"]
        assert row["anomaly_score"] == pytest.approx(expected, abs=1e-6)
        assert (row["threshold"], row["model_version"], row["error"]) == (0.5, "1", None)


def test_bad_images_have_errors_and_nulls_among_good_ones(ask: Callable[..., requests.Response]) -> None:
    images = [TEXT, None, "!", "AAAA", 7, {"b64": TEXT}, [TEXT]]
    body = {"dataframe_split": {"columns": ["image"], "data": [[image] for image in images]}}
    rows = ask(json.dumps(body).encode()).json()["predictions"]
    assert [row["error"] is None for row in rows] == [True] + [False] * 6
    for row in rows[1:]:
        assert (row["logit_abnormal"], row["logit_normal"], row["anomaly_score"], row["is_anomalous"]) == (None,) * 4


def test_parameters_are_taken(ask: Callable[..., requests.Response]) -> None:
    body = {"inputs": [TEXT], "params": {"threshold": 1, "heatmap": True, "cropped": True}}
    (row,) = ask(json.dumps(body).encode()).json()["predictions"]
    assert (row["threshold"], row["is_anomalous"]) == (1.0, False)
    heatmap = np.frombuffer(base64.b64decode(row["heatmap"]), np.uint8)
    assert cv2.imdecode(heatmap, cv2.IMREAD_UNCHANGED).shape == (256, 256)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", JSON),
        (GOOD[:-20], JSON),
        (b'{"inputs": ' + b"[" * 200_000, JSON),
        (b'{"inputs": [' + b"9" * 5000 + b"]}", JSON),
        (b'{"inputs": 1e999}', JSON),
        (b'{"dataframe_split": {"columns": [["image"], {}], "data": [[1, 2]]}}', JSON),
        (b'{"messages": [{"role": "user", "content": "hello"}]}', JSON),
        (b'{"inputs": [], "params": {"threshold": "high"}}', JSON),
        (b'{"inputs": [], "params": {"threshold": 1e999}}', JSON),
        (b'{"inputs": [], "params": {"cropped": []}}', JSON),
        (b'{"inputs": [], "params": {"thresh": 0.5}}', JSON),
        (json.dumps({"inputs": [""] * 51}).encode(), JSON),
        (GOOD + b" " * LIMITS.request_bytes, JSON),
        (GOOD, None),
        (GOOD, ""),
        (GOOD, "text/csv"),
        (GOOD, "text/plain; charset=latin-1"),
        (GOOD, PARQUET),
        (b"PAR1" + bytes(50) + b"PAR1", PARQUET),
    ],
    ids=lambda part: None if part is None else str(part[:30]),
)
def test_what_is_no_request_gets_400_and_one_sentence(
    ask: Callable[..., requests.Response], body: bytes, content_type: str | None
) -> None:
    answer = ask(body, content_type)
    assert answer.status_code == 400
    message = answer.json()["message"]
    assert 10 < len(message) < 400
    assert "\n" not in message
    assert TEXT not in message


def mutated(rng: random.Random, body: bytes) -> bytes:
    """Change, remove or insert some bytes."""
    changed = bytearray(body)
    for _ in range(rng.randint(1, 5)):
        place = rng.randrange(len(changed) + 1)
        changed[place : place + rng.choice((0, 1, 1, 50))] = rng.randbytes(rng.choice((0, 1, 1, 20)))
    return bytes(changed)


def random_json(rng: random.Random, depth: int = 0) -> Any:
    """Draw values of any type, with the keys that mean something here."""
    leaves = [None, True, -1, 1e308, float("nan"), "", "image", TEXT, TEXT[:100], "\ud800", "AAAA", 2**70]
    keys = ["dataframe_split", "dataframe_records", "inputs", "instances", "params", "image", "columns", "data"]
    keys += ["index", "threshold", "cropped", "heatmap", ""]
    if depth > 4 or rng.random() < 0.25:
        return rng.choice(leaves)
    if rng.random() < 0.5:
        return [random_json(rng, depth + 1) for _ in range(rng.randrange(3))]
    return {rng.choice(keys): random_json(rng, depth + 1) for _ in range(rng.randrange(4))}


def test_nothing_that_is_sent_fails_the_server_and_good_requests_are_answered_after(
    ask: Callable[..., requests.Response],
) -> None:
    rng, statuses = random.Random(4), []  # noqa: S311 - no secret
    packed = io.BytesIO()
    pd.DataFrame({"image": [IMAGE, None]}).to_parquet(packed)
    bombs = [encode_png(np.zeros((2001, 2000), np.uint8)), encode_png(np.zeros((8, 8), np.uint8))[:20]]
    for number in range(300):
        kind = number % 5
        if kind == 0:
            body, content_type = mutated(rng, GOOD), JSON
        elif kind == 1:
            body, content_type = mutated(rng, packed.getvalue()), PARQUET
        elif kind == 2:
            body, content_type = json.dumps(random_json(rng)).encode(), JSON
        elif kind == 3:
            body, content_type = GOOD, "".join(rng.choices("application/jsonvdcptxml;= ", k=rng.randrange(40))).strip()
        else:
            sent = base64.b64encode(mutated(rng, rng.choice([IMAGE, *bombs]))).decode()
            body, content_type = json.dumps({"inputs": [sent, TEXT]}).encode(), JSON
        statuses.append(ask(body, content_type).status_code)
    assert set(statuses) == {200, 400}
    (row,) = ask(GOOD).json()["predictions"]
    assert row["error"] is None
