"""What the served model promises over HTTP: good requests are answered, anything else gets 400 and one sentence."""

import base64
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import cv2
import numpy as np
import pandas as pd
import pytest
import requests
from benchmarks.bodies import SORTS, hostile_request, request_of, status_of_endless

from cygnet.endpoints.local import LocalEndpoint
from cygnet.endpoints.versions import ModelVersion
from cygnet.model.serving.packaging import PackagedDetector, log_detector
from cygnet.model.serving.request import JSON, PARQUET
from cygnet.model.serving.scorer import Scorer
from cygnet.parameters.base import Parameters
from cygnet.parameters.serving import Client
from cygnet.tables import NORMAL
from cygnet.vision.codec import encode_jpeg
from support.toys import LIMITS, toy_image, toy_scorer, tracked

SETTINGS = Client(timeout_s=30, retries=0, backoff_s=0, max_request_bytes=15_000_000, in_flight=1)
IMAGE = encode_jpeg(toy_image(NORMAL, 1, 256), 90)
TEXT = base64.b64encode(IMAGE).decode()
GOOD = json.dumps({"dataframe_split": {"columns": ["image"], "data": [[TEXT]]}, "params": {"cropped": True}}).encode()


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
    (expected,) = scorer.score([scorer.see(IMAGE)[0]])[0]["anomaly_score"]
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


def test_many_clients_at_once_are_answered_as_one(ask: Callable[..., requests.Response]) -> None:
    images = [encode_jpeg(toy_image(NORMAL, seed, 256), 90) for seed in range(8)]
    bodies = [request_of([image], cropped=True) for image in images] * 5
    alone = [ask(body).json() for body in bodies[:8]]
    assert len({answer["predictions"][0]["anomaly_score"] for answer in alone}) == 8
    with ThreadPoolExecutor(8) as clients:
        assert [answer.json() for answer in clients.map(ask, bodies)] == alone * 5


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


@pytest.mark.parametrize("sort", SORTS)
def test_nothing_that_is_sent_fails_the_server_and_good_requests_are_answered_after(
    ask: Callable[..., requests.Response], sort: str
) -> None:
    numbers = range(list(SORTS).index(sort), 40 * len(SORTS), len(SORTS))
    statuses = {ask(*hostile_request(number, LIMITS)).status_code for number in numbers}
    assert statuses <= {200, 400}
    assert 400 in statuses or sort == "garbage base64"
    (row,) = ask(GOOD).json()["predictions"]
    assert row["error"] is None


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_without_an_end_is_refused_before_it(
    url: str, ask: Callable[..., requests.Response], chunked: bool
) -> None:
    assert status_of_endless(url, chunked=chunked) == 400
    assert ask(GOOD).status_code == 200


def test_a_connection_lost_within_a_body_costs_only_itself(url: str, ask: Callable[..., requests.Response]) -> None:
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(f"POST {address.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{{".encode())
    assert ask(GOOD).status_code == 200
