"""What asking a vision model promises, with the real client: patience within a budget, and no key anywhere."""

import logging
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openai", reason="needs `pip install 'cygnet[llm]'`")

from cygnet.endpoints import vision_model
from cygnet.endpoints.answer_cache import Answer, AnswerCache
from cygnet.endpoints.client import EndpointError
from cygnet.endpoints.vision_model import FAILURES_IN_A_ROW, Failure, Usage, VisionEndpoint, check_labelling
from cygnet.errors import UserError
from cygnet.parameters.base import Parameters
from cygnet.parameters.labelling import Labelling
from cygnet.vision.codec import encode_jpeg
from support.stub_server import CUT, Reply, Request, serving
from support.stub_vision import KEY, TOKENS, Eye, by_level, completion, refused, said, sent_image

IMAGES = [encode_jpeg(np.full((16, 24, 3), 40 + 4 * place, np.uint8), 90) for place in range(12)]
LABELS = ["normal"] * 9 + ["abnormal"] * 3
Ask = Callable[..., tuple[list[Answer | Failure], Usage]]


@pytest.fixture
def settings(parameters: dict[str, Parameters]) -> Callable[..., Labelling]:
    """Give a maker of settings: changes of `endpoint`, or as `budget={...}`."""

    def make(budget: dict[str, int] | None = None, prompt: str = "Is it normal?", **endpoint: Any) -> Labelling:
        values = parameters["labelling"].model_dump()
        quick = {"model": "gpt-eye", "timeout_s": 10.0, "retries": 3, "backoff_s": 0.0, "in_flight": 3}
        values["endpoint"] |= {**quick, **endpoint}
        values["budget"] |= budget or {}
        return Labelling.model_validate({**values, "prompt": prompt})

    return make


@pytest.fixture
def ask(settings: Callable[..., Labelling], tmp_path: Path) -> Ask:
    """Give a function that asks a stub about images, with one cache for the whole test."""

    def about(eye: Callable[[Request], Reply], images: list[bytes], **changes: Any) -> Any:
        with serving(eye) as url:
            cache = AnswerCache(str(tmp_path / "answers"))
            return VisionEndpoint(KEY).open(settings(**{"url": f"{url}/v1", **changes}), cache).ask_all(images)

    return about


def labels_of(outcomes: list[Answer | Failure]) -> list[str]:
    return [outcome.label if isinstance(outcome, Answer) else outcome.reason for outcome in outcomes]


def test_answers_come_in_the_order_of_the_images_whichever_arrives_first(ask: Ask) -> None:
    def late_first(request: Request) -> Reply:
        time.sleep(0.2 if sent_image(request) == IMAGES[0] else 0)
        return by_level(request)

    outcomes, usage = ask(late_first, IMAGES)
    assert labels_of(outcomes) == LABELS
    assert (usage.cached, usage.requests, usage.tokens) == (0, len(IMAGES), TOKENS * len(IMAGES))
    assert outcomes[0] == Answer("normal", 0.95, "a pond", TOKENS)


def test_a_request_has_prompt_image_schema_and_key(ask: Ask) -> None:
    eye = Eye()
    ask(eye, IMAGES[:1], prompt="Look closely.", detail="low", max_output_tokens=77)
    [request], [body] = eye.requests, eye.bodies
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert {name.lower(): value for name, value in request.headers.items()}["authorization"] == f"Bearer {KEY}"
    assert body["model"] == "gpt-eye"
    assert body["max_completion_tokens"] == 77
    assert body["messages"][0] == {"role": "system", "content": "Look closely."}
    assert body["messages"][1]["content"][0]["image_url"]["detail"] == "low"
    assert sent_image(request) == IMAGES[0]
    schema = body["response_format"]["json_schema"]
    assert (body["response_format"]["type"], schema["strict"]) == ("json_schema", True)
    assert schema["schema"]["required"] == ["label", "confidence", "notes"]
    assert schema["schema"]["properties"]["label"]["enum"] == ["abnormal", "normal"]
    assert schema["schema"]["additionalProperties"] is False


def test_azure_is_asked_by_deployment_version_and_its_own_header(
    settings: Callable[..., Labelling], tmp_path: Path
) -> None:
    eye = Eye()
    with serving(eye) as url:
        azure = settings(url=url, azure_api_version="2025-04-01-preview")
        outcomes, _ = VisionEndpoint(KEY).open(azure, AnswerCache(str(tmp_path))).ask_all(IMAGES[:1])
    assert labels_of(outcomes) == ["normal"]
    [request] = eye.requests
    assert request.path == "/openai/deployments/gpt-eye/chat/completions?api-version=2025-04-01-preview"
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert headers["api-key"] == KEY


def test_as_many_requests_are_in_flight_as_asked_for_and_no_more(ask: Ask) -> None:
    at_once = threading.Barrier(3, timeout=10)  # opens only when three requests are in it
    under_way, most, lock = 0, 0, threading.Lock()

    def together(request: Request) -> Reply:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        at_once.wait()
        with lock:
            under_way -= 1
        return by_level(request)

    assert labels_of(ask(together, IMAGES, in_flight=3)[0]) == LABELS
    assert most == 3


@pytest.mark.parametrize(
    "failures",
    [
        [refused(429, "slow down", **{"Retry-After": "0"})],
        [refused(503, "busy"), refused(500, "oops"), refused(504, "late")],
        [CUT],
        [CUT, refused(429, "slow down")],
    ],
    ids=["429", "5xx", "cut", "cut and 429"],
)
def test_what_can_pass_is_asked_again(failures: list[Reply], ask: Ask) -> None:
    eye = Eye(*failures)
    outcomes, usage = ask(eye, IMAGES[:1])
    assert labels_of(outcomes) == ["normal"]
    assert usage.requests == len(eye.requests) == len(failures) + 1  # the client itself repeats nothing
    assert {request.body for request in eye.requests} == {eye.requests[0].body}


def test_no_answer_in_time_is_asked_again(ask: Ask) -> None:
    seen = Eye()

    def slow_once(request: Request) -> Reply:
        reply = seen(request)
        time.sleep(1.0 if len(seen.requests) == 1 else 0)
        return reply

    outcomes, usage = ask(slow_once, IMAGES[:1], timeout_s=0.3)
    assert labels_of(outcomes) == ["normal"]
    assert usage.requests == 2


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_all_threads_wait_as_long_as_retry_after_says(as_date: bool, ask: Ask) -> None:
    arrived: list[float] = []
    until_s = 0.0

    def limited(request: Request) -> Reply:
        nonlocal until_s
        arrived.append(time.time())
        if len(arrived) == 1:
            until_s = int(time.time()) + 2 if as_date else time.time() + 1
            return refused(429, "slow", **{"Retry-After": formatdate(until_s, usegmt=True) if as_date else "1"})
        time.sleep(0.05)
        return by_level(request)

    outcomes, _ = ask(limited, IMAGES[:6], in_flight=1, backoff_s=0.0)
    assert labels_of(outcomes) == LABELS[:6]
    assert min(arrived[1:]) >= until_s - 0.05


def test_an_endpoint_that_wants_to_be_left_alone_for_long_is(ask: Ask) -> None:
    eye = Eye(answer=lambda _: refused(429, "quota of today", **{"Retry-After": "86400"}))
    outcomes, usage = ask(eye, IMAGES, in_flight=1)
    assert usage.requests == 1
    assert set(labels_of(outcomes)) == {"not asked: the endpoint wants to be left alone for over ten minutes"}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (completion("not json"), "the answer is not of the schema: not json"),
        (completion('{"label": "normal", "confidence": 0.9'), "the answer is not of the schema: "),
        (completion('{"label": "odd", "confidence": 0.9, "notes": ""}'), "the answer is not of the schema: "),
        (said("normal", 95), "the answer is not of the schema: "),
        (completion('{"label": "normal"}'), "the answer is not of the schema: "),
        (completion(None), "the answer is not of the schema: None"),
        (completion(None, refusal="I can't help with that."), "refused: I can't help with that."),
        (completion("", finish_reason="content_filter"), "refused: by the content filter"),
        (completion('{"label": "nor', finish_reason="length"), "longer than labelling.endpoint.max_output_tokens"),
        (refused(400, "filtered", code="content_filter"), "refused: "),
        (refused(400, "no such response_format"), "status 400: "),
        (Reply(200, {"object": "chat.completion"}), "an answer without content"),
        (Reply(200, {"choices": [{}]}), "an answer without content"),
        (Reply(200, {"choices": "many", "usage": "much"}), "an answer without content"),
        (Reply(200, b"<html>", {"Content-Type": "text/html"}), "an answer without content"),
        (Reply(200, b"{broken"), "an answer that can't be read"),
    ],
)  # fmt: skip
def test_what_is_no_answer_fails_this_frame_at_once_and_no_other(reply: Reply, reason: str, ask: Ask) -> None:
    eye = Eye(reply)
    outcomes, usage = ask(eye, IMAGES[:3], in_flight=1)
    assert reason in labels_of(outcomes)[0]
    assert "\n" not in labels_of(outcomes)[0]
    assert labels_of(outcomes)[1:] == LABELS[1:3]
    assert usage.requests == 3
    ask(again := Eye(), IMAGES[:3])
    assert len(again.requests) == 1  # a failure is not kept


def test_status_5xx_for_good_fails_the_frame_after_all_retries(ask: Ask) -> None:
    outcomes, usage = ask(Eye(answer=lambda _: refused(500, "oops")), IMAGES[:1], retries=2)
    assert labels_of(outcomes)[0].startswith("status 500: ")
    assert usage.requests == 3


def test_an_endpoint_that_fails_again_and_again_is_left_alone(ask: Ask) -> None:
    images = [encode_jpeg(np.full((8, 8, 3), level, np.uint8), 90) for level in range(0, 250, 5)]
    eye = Eye(answer=lambda _: refused(500, "down"))
    outcomes, usage = ask(eye, images, retries=0, in_flight=1)
    assert usage.requests == FAILURES_IN_A_ROW
    assert labels_of(outcomes)[FAILURES_IN_A_ROW:] == [
        f"not asked: {FAILURES_IN_A_ROW} frames before failed in a row"
    ] * (len(images) - FAILURES_IN_A_ROW)


def test_nothing_is_asked_twice_and_everything_again_with_another_prompt(ask: Ask) -> None:
    first, _ = ask(Eye(), IMAGES)
    second, usage = ask(eye := Eye(), [*IMAGES[6:], *IMAGES[:6]])
    assert [*second[6:], *second[:6]] == first
    assert (usage.cached, usage.requests, usage.tokens, eye.requests) == (12, 0, 0, [])


@pytest.mark.parametrize("change", [{"prompt": "Other?"}, {"model": "other"}, {"detail": "high"}])
def test_another_question_is_another_answer(
    change: dict[str, str], settings: Callable[..., Labelling], tmp_path: Path
) -> None:
    eye = Eye()
    with serving(eye) as url:
        for changes in ({}, change, {}):
            model = VisionEndpoint(KEY).open(settings(url=url, **changes), AnswerCache(str(tmp_path)))
            model.ask_all(IMAGES[:1])
    assert len(eye.requests) == 2


def test_the_budget_of_requests_holds_and_the_next_run_goes_on(ask: Ask) -> None:
    outcomes, usage = ask(Eye(refused(500, "oops")), IMAGES, budget={"requests": 5}, in_flight=1)
    assert usage.requests == 5  # one of them a retry
    assert labels_of(outcomes) == LABELS[:4] + ["not asked: the budget of 5 requests is spent"] * 8
    outcomes, usage = ask(Eye(), IMAGES)
    assert labels_of(outcomes) == LABELS
    assert (usage.cached, usage.requests) == (4, 8)


@pytest.mark.parametrize("in_flight", [1, 4])
def test_the_budget_of_tokens_is_never_exceeded(in_flight: int, ask: Ask) -> None:
    budget = {"tokens": 5 * TOKENS + 50, "tokens_per_request": TOKENS}
    outcomes, usage = ask(Eye(), IMAGES, budget=budget, in_flight=in_flight)
    assert usage.tokens <= budget["tokens"]
    assert 1 <= sum(isinstance(outcome, Answer) for outcome in outcomes) <= 5
    assert "not asked: the budget of 550 tokens is spent" in labels_of(outcomes)


def test_a_lost_request_counts_as_many_tokens_as_expected(ask: Ask) -> None:
    _, usage = ask(Eye(CUT), IMAGES[:1], budget={"tokens_per_request": 700})
    assert usage.tokens == 700 + TOKENS


def test_an_estimate_is_told_before_anything_is_asked(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    eye = Eye()
    outcomes, usage = ask(eye, IMAGES, budget={"requests": 0, "tokens_per_request": 900})
    assert (usage.requests, eye.requests) == (0, [])
    assert set(labels_of(outcomes)) == {"not asked: the budget of 0 requests is spent"}
    assert "12 requests and about 10,800 tokens to gpt-eye; the budget is 0 requests" in caplog.text
    assert "The budget may not last" in caplog.text
    ask(Eye(), IMAGES[:4])
    caplog.clear()
    ask(Eye(), IMAGES)
    assert "4 answers are known from runs before" in caplog.text
    assert f"8 requests and about {8 * TOKENS:,} tokens" in caplog.text  # by what answers took


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_or_unknown_model_ends_the_run_with_one_sentence(status: int, ask: Ask) -> None:
    eye = Eye(answer=lambda _: refused(status, f"not with {KEY}"))
    with pytest.raises(EndpointError) as error:
        ask(eye, IMAGES, in_flight=2)
    assert "gpt-eye" in error.value.message
    assert KEY not in error.value.message
    assert len(eye.requests) <= 4  # what was under way


def test_the_key_is_in_no_log_reason_answer_or_repr(
    ask: Ask, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_LOG", "debug")
    caplog.set_level(logging.DEBUG)
    replies = [refused(400, f"bad key {KEY}"), refused(429, KEY), completion(f"{KEY} is not JSON"), CUT]
    outcomes, _ = ask(Eye(*replies, answer=lambda _: said("normal", notes=f"I saw {KEY}")), IMAGES, in_flight=1)
    kept = "".join(file.read_text() for file in (tmp_path / "answers").iterdir())
    assert len(outcomes) == 12
    assert "I saw ***" in kept
    assert "***" in labels_of(outcomes)[0]
    for text in (caplog.text, repr(outcomes), kept, repr(VisionEndpoint(KEY))):
        assert KEY not in text


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": None}, "'labelling.endpoint.model' names no vision model"),
        ({"url": "localhost:8000"}, "'localhost:8000': it must start with https:// or http://"),
        ({"azure_api_version": "2025-04-01-preview"}, "Azure OpenAI needs https://NAME.openai.azure.com"),
    ],
)
def test_settings_that_name_no_endpoint_are_refused(
    changes: dict[str, Any], told: str, settings: Callable[..., Labelling]
) -> None:
    with pytest.raises(UserError, match=told):
        check_labelling(settings(**changes))


def test_backoff_doubles_up_to_a_minute(settings: Callable[..., Labelling], monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    class Clock(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0.0)
            return self.is_set()

    monkeypatch.setattr(vision_model.threading, "Event", Clock)
    model = vision_model.VisionModel(None, KEY, settings(backoff_s=4.0), AnswerCache("/nowhere"))
    for attempt in range(6):
        model._back_off(attempt, None)
    assert waited == [4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
