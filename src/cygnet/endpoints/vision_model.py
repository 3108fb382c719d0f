"""Asks a vision model about images: OpenAI, Azure OpenAI, or any endpoint that speaks their chat API.

The `openai` client sends and reads. Retries are ours: each one counts against the budget, and a `Retry-After` holds for
all threads and at any length, where the client's own retries ignore one of over a minute.
"""

import base64
import json
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from cygnet.endpoints.answer_cache import Answer, AnswerCache
from cygnet.endpoints.client import EndpointError
from cygnet.errors import UserError
from cygnet.parameters.labelling import Labelling, LabellingBudget
from cygnet.progress import tracked
from cygnet.retry import LONGEST_RETRY_AFTER_S, backoff_s, is_passing, retry_after_s
from cygnet.tables import LABELS

logger = logging.getLogger(__name__)

FAILURES_IN_A_ROW = 20
"""After so many the rest is not asked: the endpoint is down, or can't do what it is asked for."""

NOT_ASKED = "not asked: "
"""How a reason begins by which nothing was sent about a frame."""

MOST_REASON_CHARACTERS = 200
SHORTEST_KEY_CHARACTERS = 8  # a shorter one is a stand-in for a server that wants none
SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": sorted(LABELS)},
        "confidence": {"type": "number", "description": "from 0, a guess, to 1, certain"},
        "notes": {"type": "string", "description": "what is seen, at most twenty words"},
    },
    "required": ["label", "confidence", "notes"],
    "additionalProperties": False,
}


class _Content(BaseModel, extra="forbid", strict=True):
    """The answer that `SCHEMA` asks for: not every endpoint keeps to it."""

    label: Literal["abnormal", "normal"]
    confidence: Annotated[float, Field(ge=0, le=1)]
    notes: str


@dataclass(frozen=True)
class Failure:
    """Why there is no answer about one image."""

    reason: str  # one line


class _FailedError(Exception):
    """There is no answer about this image; the message says why."""


class _StoppedError(_FailedError):
    """Nothing more is asked in this run."""

    def __init__(self, reason: str) -> None:
        super().__init__(NOT_ASKED + reason)


@dataclass(frozen=True)
class Usage:
    """What a run has asked for."""

    cached: int  # answers of runs before
    requests: int
    tokens: int  # as answers report them; the expected number where a request was lost
    seconds: float


@dataclass
class Budget:
    """Counts requests and tokens; safe to share among threads.

    Of a request that is under way, the tokens that it may take are set aside: as many as the largest so far.
    """

    limits: LabellingBudget
    requests: int = 0
    tokens: int = 0
    _expected: int = 0
    _under_way: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def take(self) -> None:
        """Count a request that is about to be sent. Raises _StoppedError if the budget does not allow it."""
        with self._lock:
            expected = self.expected
            if self.requests >= self.limits.requests:
                msg = f"the budget of {self.limits.requests:,} requests is spent"
                raise _StoppedError(msg)
            if self.tokens + (self._under_way + 1) * expected > self.limits.tokens:
                msg = f"the budget of {self.limits.tokens:,} tokens is spent"
                raise _StoppedError(msg)
            self.requests += 1
            self._under_way += 1

    def settle(self, tokens: int | None) -> None:
        """Count the tokens of a request that is over; None: unknown, as expected."""
        with self._lock:
            self._under_way -= 1
            self.tokens += self.expected if tokens is None else tokens
            self._expected = max(self._expected, tokens or 0)

    def learn(self, tokens: int) -> None:
        """Take the tokens of an answer of an earlier run as an example."""
        self._expected = max(self._expected, tokens)

    @property
    def expected(self) -> int:
        """Tokens that one request is expected to take at most."""
        return self._expected or self.limits.tokens_per_request


class VisionModel:
    """Asks one model one question about many images, several at a time; for one run.

    Args:
        client: An `openai.OpenAI`, which retries nothing by itself.
        key: What must not appear in any message.
        settings: `prompt`, `endpoint`, `budget`.
        cache: Answers of runs before; new ones are kept there at once.
    """

    def __init__(self, client: Any, key: str, settings: Labelling, cache: AnswerCache) -> None:
        self._client = client
        self._key = key
        self._prompt, self._endpoint = settings.prompt, settings.endpoint
        self._cache = cache
        self._budget = Budget(settings.budget)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._resume_s = 0.0  # on the monotonic clock: until then the endpoint wants to be left alone
        self._failures_in_a_row = 0

    @property
    def asked_with(self) -> str:
        """Everything but the image that decides about an answer; a model keeps its answers when it moves."""
        endpoint = self._endpoint
        return json.dumps([endpoint.model, endpoint.detail, self._prompt, SCHEMA])

    def ask_all(self, images: Sequence[bytes]) -> tuple[list[Answer | Failure], Usage]:
        """Ask about each image that the cache has no answer for.

        Args:
            images: JPEG.

        Returns:
            What came of each image, in their order, and what it took.

        Raises:
            EndpointError: The endpoint refuses the key, or knows no such model or address.
        """
        start_s = time.monotonic()
        threads = ThreadPoolExecutor(self._endpoint.in_flight)
        try:
            found = list(threads.map(lambda image: self._cache.get(image, self.asked_with), images))
            missing = [image for image, answer in zip(images, found, strict=True) if answer is None]
            self._tell_estimate([answer.tokens for answer in found if answer is not None], len(missing))
            asked = tracked(threads.map(self._ask, missing), "Asking about frames", "frames", len(missing))
            outcomes = iter(list(asked))
        finally:
            self._ended.set()
            threads.shutdown(cancel_futures=True)
        usage = Usage(
            len(images) - len(missing), self._budget.requests, self._budget.tokens, time.monotonic() - start_s
        )
        return [next(outcomes) if answer is None else answer for answer in found], usage

    def _tell_estimate(self, tokens_before: list[int], requests: int) -> None:
        """Log what is about to be asked, and whether the budget allows it."""
        for tokens in tokens_before:
            self._budget.learn(tokens)
        limits, tokens = self._budget.limits, requests * self._budget.expected
        logger.info(
            "%d answers are known from runs before. Estimate for the others: %s requests and about %s tokens to %s; "
            "the budget is %s requests and %s tokens.",
            len(tokens_before),
            f"{requests:,}",
            f"{tokens:,}",
            self._endpoint.model,
            f"{limits.requests:,}",
            f"{limits.tokens:,}",
        )
        if requests > limits.requests or tokens > limits.tokens:
            logger.warning("The budget may not last: what it leaves out, the next run asks.")

    def _ask(self, image: bytes) -> Answer | Failure:
        """Ask about an image, again where that can help, and keep the answer."""
        outcome: Answer | Failure
        try:
            outcome = self._try_often(image)
            self._cache.put(image, self.asked_with, outcome)
        except _FailedError as error:
            outcome = Failure(str(error))
            if not isinstance(error, _StoppedError):
                self._count(is_failure=True)
        else:
            self._count(is_failure=False)
        return outcome

    def _count(self, *, is_failure: bool) -> None:
        with self._lock:
            self._failures_in_a_row = self._failures_in_a_row + 1 if is_failure else 0

    def _try_often(self, image: bytes) -> Answer:
        import openai

        for attempt in range(self._endpoint.retries + 1):
            self._wait_for_turn()
            self._budget.take()
            try:
                completion = self._send(image)
            except openai.APIConnectionError as error:  # a time-out, too
                self._budget.settle(None)
                reason, wait_s = f"no answer: {error}", None
            except openai.APIStatusError as error:
                self._budget.settle(0)
                reason, wait_s = self._reason_of_status(error), retry_after_s(error.response.headers.get("retry-after"))
            except (openai.OpenAIError, ValueError) as error:  # what arrives is not the API's JSON
                self._budget.settle(None)
                raise _FailedError(self._clean(f"an answer that can't be read: {error}")) from error
            else:
                self._budget.settle(_tokens_of(completion))
                return self._read(completion)
            if attempt < self._endpoint.retries:
                self._back_off(attempt, wait_s)
        raise _FailedError(self._clean(reason))

    def _send(self, image: bytes) -> Any:
        url = f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
        shown = {"type": "image_url", "image_url": {"url": url, "detail": self._endpoint.detail}}
        return self._client.chat.completions.create(
            model=self._endpoint.model,
            messages=[{"role": "system", "content": self._prompt}, {"role": "user", "content": [shown]}],
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "label", "strict": True, "schema": SCHEMA},
            },
            max_completion_tokens=self._endpoint.max_output_tokens,
        )

    def _read(self, completion: Any) -> Answer:
        """Check an answer. Raises _FailedError if it is no label."""
        try:
            [choice, *_] = completion.choices
            refusal, content = choice.message.refusal, choice.message.content
        except (AttributeError, TypeError, ValueError) as error:
            raise _FailedError("an answer without content") from error
        if refusal or choice.finish_reason == "content_filter":
            raise _FailedError(self._clean(f"refused: {refusal or 'by the content filter'}"))
        if choice.finish_reason == "length":
            raise _FailedError("the answer is longer than labelling.endpoint.max_output_tokens")
        try:
            said = _Content.model_validate_json(content or "")
        except ValidationError as error:
            raise _FailedError(self._clean(f"the answer is not of the schema: {content}")) from error
        return Answer(said.label, said.confidence, self._clean(said.notes), _tokens_of(completion) or 0)

    def _reason_of_status(self, error: Any) -> str:
        """Say what a status means that can pass.

        Raises:
            EndpointError: No image can be asked about.
            _FailedError: Asking about this one again can't help.
        """
        status, endpoint = error.status_code, self._endpoint
        if status in {401, 403}:  # the text is left out, because it may repeat the key
            msg = (
                f"The endpoint {self._client.base_url} refused the key with status {status}: check that it is valid "
                f"and may use {endpoint.model}."
            )
            raise EndpointError(msg)
        if status == 404:
            msg = self._clean(f"The endpoint {self._client.base_url} has no {endpoint.model}: {error.message}")
            raise EndpointError(msg)
        is_filtered = error.code == "content_filter"  # Azure's, with status 400
        reason = self._clean(f"refused: {error.message}" if is_filtered else f"status {status}: {error.message}")
        if not is_passing(status):
            raise _FailedError(reason)
        return reason

    def _wait_for_turn(self) -> None:
        """Wait until the endpoint may be asked. Raises _StoppedError if nothing more is asked."""
        with self._lock:
            if self._failures_in_a_row >= FAILURES_IN_A_ROW:
                msg = f"{FAILURES_IN_A_ROW} frames before failed in a row"
                raise _StoppedError(msg)
            wait_s = self._resume_s - time.monotonic()
        if wait_s > LONGEST_RETRY_AFTER_S:
            raise _StoppedError("the endpoint wants to be left alone for over ten minutes")
        if self._ended.wait(max(wait_s, 0)):
            raise _StoppedError("the run was stopped")

    def _back_off(self, attempt: int, wait_s: float | None) -> None:
        """Wait before the next attempt: with all threads as long as the endpoint says, or by the attempts so far."""
        if wait_s is not None:
            with self._lock:
                self._resume_s = max(self._resume_s, time.monotonic() + wait_s)
        else:
            self._ended.wait(backoff_s(self._endpoint.backoff_s, attempt))

    def _clean(self, text: str) -> str:
        """Put a text into one short line without the key."""
        if len(self._key) >= SHORTEST_KEY_CHARACTERS:
            text = text.replace(self._key, "***")
        line = " ".join(text.split())
        return line if len(line) <= MOST_REASON_CHARACTERS else f"{line[: MOST_REASON_CHARACTERS - 3]}..."


@dataclass(frozen=True)
class VisionEndpoint:
    """A key, and how to ask with it."""

    key: str = field(repr=False)

    def open(self, settings: Labelling, cache: AnswerCache) -> VisionModel:
        """Prepare to ask a model; nothing is sent yet.

        Raises:
            UserError: See `check_labelling`, or the address is none.
        """
        import openai

        check_labelling(settings)
        endpoint = settings.endpoint
        common: dict[str, Any] = {"api_key": self.key, "timeout": endpoint.timeout_s, "max_retries": 0}
        client: Any
        if endpoint.azure_api_version is None:
            client = openai.OpenAI(base_url=endpoint.url, **common)
        else:
            client = openai.AzureOpenAI(
                azure_endpoint=endpoint.url or "", api_version=endpoint.azure_api_version, **common
            )
        for name in ("openai", "httpx2", "httpx", "httpcore2", "httpcore"):  # at lower levels they log every request
            logging.getLogger(name).setLevel(logging.WARNING)
        return VisionModel(client, self.key, settings, cache)


def check_labelling(labelling: Labelling) -> None:
    """Check that there is a model to ask.

    Raises:
        UserError: There is none, or the address is not one.
    """
    endpoint = labelling.endpoint
    if not endpoint.model:
        msg = (
            "Parameter 'labelling.endpoint.model' names no vision model to ask: pass "
            "--params=labelling.endpoint.model=NAME, and see docs/labelling.md."
        )
        raise UserError(msg)
    if endpoint.url is None and endpoint.azure_api_version is not None:
        msg = "Parameter 'labelling.endpoint.url' is null: Azure OpenAI needs https://NAME.openai.azure.com."
        raise UserError(msg)
    if endpoint.url is not None and not endpoint.url.startswith(("https://", "http://")):
        msg = f"Parameter 'labelling.endpoint.url' is '{endpoint.url}': it must start with https:// or http://."
        raise UserError(msg)


def _tokens_of(completion: Any) -> int | None:
    """Give the tokens that request and answer took; None: the endpoint does not say."""
    tokens = getattr(getattr(completion, "usage", None), "total_tokens", None)
    return tokens if isinstance(tokens, int) else None
