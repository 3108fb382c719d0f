"""What the endpoint promises: it answers as the scorer does, ends with its user, and says why it failed."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
import requests

from cygnet.datasets.endpoint import LocalEndpointDataset
from cygnet.datasets.registry import RegisteredModelDataset
from cygnet.endpoints.client import SCORE_COLUMNS, EndpointClient, EndpointError
from cygnet.endpoints.local import LocalEndpoint
from cygnet.endpoints.versions import Decision, ModelVersion
from cygnet.model.serving.packaging import PackagedDetector
from cygnet.parameters.serving import Client
from cygnet.tables import ABNORMAL, NORMAL
from cygnet.vision.codec import encode_jpeg, encode_png
from support.toys import toy_image, tracked

ENDPOINT = LocalEndpoint(start_timeout_s=120)
SETTINGS = Client(timeout_s=30, retries=0, backoff_s=0, max_request_bytes=15_000_000, in_flight=2)
IMAGES = [encode_png(toy_image(label, seed, 256)) for seed, label in enumerate((NORMAL, ABNORMAL, NORMAL))]
FRAME = encode_jpeg(np.hstack([toy_image(NORMAL, 7, 300), toy_image(ABNORMAL, 8, 300)]), 95)
PARENT = """
import time
from cygnet.endpoints.local import LocalEndpoint
from cygnet.endpoints.versions import ModelVersion
from cygnet.parameters.serving import Client

settings = Client(timeout_s=30, retries=0, backoff_s=0, max_request_bytes=15_000_000, in_flight=2)
with LocalEndpoint(120).serve(ModelVersion("endpoint", "1"), settings) as client:
    print(client.url, flush=True)
    time.sleep(600)
"""


@dataclass(frozen=True)
class Session:
    """What was seen of two servers: one whose block ended, one whose parent was killed."""

    client: EndpointClient
    images: pd.DataFrame
    frame: pd.DataFrame
    no_image: pd.DataFrame
    status_of_no_request: int
    is_served_after_block: bool
    was_served_by_parent: bool
    is_served_after_kill: bool


@pytest.fixture(scope="module")
def model(store: Path, detector: PackagedDetector) -> ModelVersion:
    """Give a registered version."""
    with tracked(store):
        dataset = RegisteredModelDataset(name="endpoint", alias="challenger")
        dataset.save(detector)
        return dataset.load()


@pytest.fixture(scope="module")
def session(store: Path, model: ModelVersion) -> Session:
    """Ask a server, then let it end; meanwhile another one starts, whose parent is killed. A start costs 10 s."""
    with (
        tracked(store),
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as parent,
    ):
        try:
            with ENDPOINT.serve(model, SETTINGS) as client:
                images = client.score(IMAGES, cropped=True, batch_size=2)
                frame = client.score([FRAME], cropped=False, batch_size=2)
                no_image = client.score([b"no image"], cropped=True, batch_size=2)
                no_request = requests.post(f"{client.url}/invocations", json=[], timeout=30)
            is_served_after_block = is_listening_after_s(3, client.url)
            url = parent.stdout.readline().strip()
            was_served_by_parent = is_listening(url)
        finally:
            os.kill(parent.pid, signal.SIGKILL)
    is_served_after_kill = is_listening_after_s(10, url)
    return Session(
        client,
        images,
        frame,
        no_image,
        no_request.status_code,
        is_served_after_block,
        was_served_by_parent,
        is_served_after_kill,
    )


def is_listening(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((urlsplit(url).hostname, urlsplit(url).port)) == 0


def is_listening_after_s(seconds: float, url: str) -> bool:
    """Whether somebody still listens then; returns as soon as nobody does."""
    deadline_s = time.monotonic() + seconds
    while is_listening(url) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    return is_listening(url)


def test_endpoint_answers_as_the_scorer(session: Session, detector: PackagedDetector) -> None:
    scorer = detector.scorer
    for answer, encoded, cropped in ((session.images, IMAGES, True), (session.frame, [FRAME], False)):
        expected = scorer.score([(scorer.decode(image) if cropped else scorer.see(image)[0]) for image in encoded])[0]
        np.testing.assert_allclose(
            answer[SCORE_COLUMNS].to_numpy(float), expected[SCORE_COLUMNS].to_numpy(float), rtol=0, atol=1e-5
        )
    assert session.images["anomaly_score"].std() > 0.01


def test_every_request_is_measured(session: Session) -> None:
    assert len(session.client.request_bytes) == len(session.client.latency_ms) == 4
    encoded_bytes = sum(4 * -(-len(image) // 3) for image in IMAGES[:2])
    assert encoded_bytes < session.client.request_bytes[0] < encoded_bytes + 300
    assert all(0 < latency_ms < 30_000 for latency_ms in session.client.latency_ms)


def test_what_is_no_image_has_no_score_and_what_is_no_request_is_refused(session: Session) -> None:
    assert session.no_image[SCORE_COLUMNS].isna().all(axis=None)
    assert "can't be used" in session.no_image["error"][0]
    assert session.status_of_no_request == 400


def test_server_ends_with_the_block(session: Session) -> None:
    assert not session.is_served_after_block


def test_server_dies_with_its_parent(session: Session) -> None:
    assert session.was_served_by_parent
    assert not session.is_served_after_kill


@pytest.mark.usefixtures("tracking")
def test_model_that_does_not_load_shows_the_end_of_the_log(model: ModelVersion) -> None:
    with (
        pytest.raises(EndpointError, match=r"(?s)did not start:\n.*version=999.* not found"),
        ENDPOINT.serve(ModelVersion(model.name, "999"), SETTINGS),
    ):
        pytest.fail("served")


@pytest.mark.usefixtures("tracking")
def test_server_that_is_not_ready_in_time_is_ended(model: ModelVersion) -> None:
    start_s = time.monotonic()
    with (
        pytest.raises(EndpointError, match=r"was not ready after 0\.3 s"),
        LocalEndpoint(start_timeout_s=0.3).serve(model, SETTINGS),
    ):
        pytest.fail("served")
    assert time.monotonic() - start_s < 5


def test_dataset_gives_the_endpoint_and_starts_nothing() -> None:
    dataset = LocalEndpointDataset(start_timeout_s=3)
    assert dataset.load() == LocalEndpoint(3)
    dataset.save(Decision(ModelVersion("endpoint", "1"), is_promoted=True))
