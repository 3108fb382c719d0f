"""What the client promises: answers in the order of the images, patience with what can pass, no request too large."""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import urllib3

from cygnet.endpoints.client import EndpointClient, EndpointError
from cygnet.parameters.serving import Client
from support.stub_server import CUT, Reply, Request, detector_answer, scores_of, serving

SETTINGS = Client(timeout_s=10, retries=3, backoff_s=0, max_request_bytes=15_000_000, in_flight=3)
IMAGES = [bytes(range(200)) * (place + 1) for place in range(10)]


class Seen:
    """Keeps what a server was asked, and answers with what is in `replies` before it answers by `answer`."""

    def __init__(self, *replies: Reply, answer: Callable[[Request], Reply] = detector_answer) -> None:
        self.replies = list(replies)
        self.requests: list[Request] = []
        self.answer = answer

    def __call__(self, request: Request) -> Reply:
        """Answer a request."""
        self.requests.append(request)
        return self.replies.pop(0) if self.replies else self.answer(request)


def client_of(url: str, **changes: float) -> EndpointClient:
    settings = SETTINGS.model_copy(update=changes)
    return EndpointClient(url, settings, urllib3.PoolManager(maxsize=settings.in_flight, block=True))


def test_answers_come_in_the_order_of_the_images_whichever_request_is_answered_first() -> None:
    def late_first(request: Request) -> Reply:
        time.sleep(0.1 if request.images[0] == IMAGES[0] else 0)
        return detector_answer(request)

    seen = Seen(answer=late_first)
    with serving(seen) as url:
        client = client_of(url)
        answer = client.score(IMAGES, cropped=True, batch_size=3)
    assert answer["logit_abnormal"].tolist() == [len(image) / 1000 for image in IMAGES]
    assert sorted(len(request.images) for request in seen.requests) == [1, 3, 3, 3]
    assert client.request_bytes == [len(r.body) for r in sorted(seen.requests, key=lambda r: len(r.images[0]))]
    assert len(client.latency_ms) == 4
    assert client.retries == [0, 0, 0, 0]


def test_several_requests_are_in_flight_and_no_more_than_asked_for() -> None:
    at_once = threading.Barrier(3, timeout=10)  # opens only when three requests are in it

    def together(request: Request) -> Reply:
        at_once.wait()
        return detector_answer(request)

    seen = Seen(answer=together)
    with serving(seen) as url:
        client_of(url).score(IMAGES[:9], cropped=True, batch_size=1)
    assert len({request.peer for request in seen.requests}) == 3  # connections are kept


@pytest.mark.parametrize(
    "failures",
    [[Reply(429, {}, {"Retry-After": "0"})], [Reply(503), Reply(500), Reply(504)], [CUT], [CUT, Reply(429)]],
    ids=["429", "5xx", "cut", "cut and 429"],
)
def test_what_can_pass_is_asked_again(failures: list[Reply]) -> None:
    seen = Seen(*failures)
    with serving(seen) as url:
        client = client_of(url)
        answer = client.score(IMAGES[:2], cropped=True, batch_size=2)
    assert answer["logit_abnormal"].tolist() == [0.2, 0.4]
    assert client.retries == [len(failures)]
    assert [request.body for request in seen.requests] == [seen.requests[0].body] * (len(failures) + 1)


def test_the_wait_that_an_answer_asks_for_is_kept_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time", SimpleNamespace(sleep=waits.append, time=time.time))
    with serving(Seen(Reply(429, {}, {"Retry-After": "7"}), Reply(503, {}, {"Retry-After": "86400"}))) as url:
        client_of(url).score(IMAGES[:1], cropped=True, batch_size=1)
    assert waits == [7, 60]


def test_waits_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time", SimpleNamespace(sleep=waits.append, time=time.time))
    with serving(Seen(Reply(500), Reply(500), Reply(500))) as url:
        client_of(url, backoff_s=0.5).score(IMAGES[:1], cropped=True, batch_size=1)
    assert waits == [1, 2]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(500, "too busy"), 'answered 500: "too busy"'),
        (Reply(429, "later"), 'answered 429: "later"'),
        (CUT, "did not answer"),
    ],
)
def test_what_does_not_pass_is_an_error_after_the_last_attempt(reply: Reply, said: str) -> None:
    seen = Seen(answer=lambda _: reply)
    with serving(seen) as url, pytest.raises(EndpointError, match=said):
        client_of(url, retries=2).score(IMAGES[:1], cropped=True, batch_size=1)
    assert len(seen.requests) == 3


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(400, "no request"), 'answered 400: "no request"'),
        (Reply(302, {}, {"Location": "http://127.0.0.1:9/"}), "answered 302"),
        (Reply(401, "who is secret-word?"), "refused the credentials with status 401"),
        (Reply(403, "what is secret-word?"), "refused the credentials with status 403"),
        (Reply(200, "hello"), "gave an unexpected response"),
        (Reply(200, {"predictions": [{"score": 1}]}), "gave an unexpected response"),
        (Reply(200, {"predictions": scores_of([b"one", b"two"])}), "answered 2 rows for 1 images"),
    ],
)
def test_what_can_not_pass_is_asked_once(reply: Reply, said: str) -> None:
    seen = Seen(answer=lambda _: reply)
    with serving(seen) as url, pytest.raises(EndpointError, match=said) as refused:
        client_of(url).score(IMAGES[:1], cropped=True, batch_size=1)
    assert len(seen.requests) == 1
    assert "secret-word" not in str(refused.value)


def test_after_a_failure_the_requests_that_wait_are_not_sent() -> None:
    seen = Seen(answer=lambda _: Reply(400))
    with serving(seen) as url, pytest.raises(EndpointError):
        client_of(url, in_flight=1).score(IMAGES * 10, cropped=True, batch_size=1)
    assert len(seen.requests) < 10


def test_no_request_is_above_the_limit_and_every_image_is_in_one() -> None:
    seen = Seen()
    with serving(seen) as url:
        client_of(url, max_request_bytes=3000).score(IMAGES, cropped=True, batch_size=100)
    assert len(seen.requests) > 3
    assert all(len(request.body) <= 3000 for request in seen.requests)
    assert sorted(image for request in seen.requests for image in request.images) == sorted(IMAGES)


def test_an_image_that_fits_no_request_is_refused_with_the_setting_that_says_so() -> None:
    with serving(Seen()) as url:
        client = client_of(url)
        client.score(IMAGES[9:], cropped=True, batch_size=1)
        (fitting_bytes,) = client.request_bytes
        client_of(url, max_request_bytes=fitting_bytes + 2).score(IMAGES[9:], cropped=True, batch_size=1)
        with pytest.raises(EndpointError, match=r"2000 bytes makes a request of .*serving\.client\.max_request_bytes"):
            client_of(url, max_request_bytes=fitting_bytes - 1).score(IMAGES[9:], cropped=True, batch_size=1)


def test_images_of_more_than_16_mb_go_in_several_requests() -> None:
    seen = Seen()
    with serving(seen) as url:
        client_of(url).score([bytes(4_000_000)] * 4, cropped=True, batch_size=100)
    assert len(seen.requests) == 2
    assert max(len(request.body) for request in seen.requests) <= 15_000_000


def test_an_image_that_has_an_error_has_no_score() -> None:
    unscored = dict.fromkeys(["logit_abnormal", "logit_normal", "anomaly_score", "is_anomalous"])
    rows = [{**scores_of([b"x"])[0], "error": None}, {**unscored, "error": "no image"}]
    with serving(Seen(Reply(200, {"predictions": rows}), Reply(200, {"predictions": rows[1:]}))) as url:
        client = client_of(url)
        mixed = client.score(IMAGES[:2], cropped=True, batch_size=2)
        alone = client.score(IMAGES[:1], cropped=True, batch_size=2)
    assert mixed["error"].tolist() == [None, "no image"]
    assert np.isnan(mixed["anomaly_score"]).tolist() == [False, True]
    assert alone["anomaly_score"].dtype == np.float64


def test_credentials_are_sent_and_shown_nowhere() -> None:
    seen = Seen(answer=lambda _: Reply(400))
    with serving(seen) as url, urllib3.PoolManager() as pool:
        client = EndpointClient(url, SETTINGS, pool, lambda: {"Authorization": "Bearer secret-word"})
        with pytest.raises(EndpointError) as refused:
            client.score(IMAGES[:1], cropped=True, batch_size=1)
    assert seen.requests[0].headers["Authorization"] == "Bearer secret-word"
    assert "secret-word" not in f"{client!r} {refused.value}"


def test_silence_and_nobody_are_errors() -> None:
    release = threading.Event()

    def silent(request: Request) -> Reply:
        release.wait(10)
        return detector_answer(request)

    with serving(silent) as url:
        client = client_of(url, timeout_s=0.2, retries=1)
        with pytest.raises(EndpointError, match="did not answer"):
            client.score(IMAGES[:1], cropped=True, batch_size=1)
        release.set()
    with pytest.raises(EndpointError, match="did not answer"):
        client.score(IMAGES[:1], cropped=True, batch_size=1)
