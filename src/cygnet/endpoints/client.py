"""Asks an endpoint about images over REST, on this machine or at Databricks.

This is urllib3 itself and not requests on top of it: its pool may be shared by threads, keeps a connection for each,
and reads the whole answer before it returns, so that also an answer that was cut off is asked for again.
"""

import base64
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import pandas as pd
import urllib3

from cygnet.endpoints.versions import ModelVersion
from cygnet.errors import UserError
from cygnet.parameters.serving import Client

SCORE_COLUMNS = ["logit_abnormal", "logit_normal", "anomaly_score", "is_anomalous"]
"""Columns of every answer. Where the answer's column `error` says why an image has no score, they are null."""

RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
LONGEST_RETRY_AFTER_S = 60.0


class EndpointError(UserError):
    """The endpoint does not start, or does not answer as it should; one sentence where nobody catches it."""


class Endpoint(Protocol):
    """Where a model version is served."""

    def serve(self, model: ModelVersion, settings: Client) -> AbstractContextManager["EndpointClient"]:
        """Serve a version until the block ends, without taking traffic from another one.

        Raises:
            EndpointError: The version can't be served.
        """


@dataclass
class EndpointClient:
    """Asks an endpoint about images; of every request that was answered it keeps the size and the time."""

    url: str
    settings: Client
    pool: urllib3.PoolManager = field(repr=False)
    headers: Callable[[], dict[str, str]] = field(default=dict, repr=False)  # what authenticates a request
    request_bytes: list[int] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)  # with the waits between attempts
    retries: list[int] = field(default_factory=list)

    def score(self, images: list[bytes], *, cropped: bool, batch_size: int) -> pd.DataFrame:
        """Send images in requests that are bounded in rows and bytes, several at a time.

        Args:
            images: Encoded images.
            cropped: Whether they are 256x256 images of the scene, or whole frames.
            batch_size: Images in one request at most.

        Returns:
            What was answered, a row per image in their order: SCORE_COLUMNS and what else the model answers. Scores are
            NaN for an image that the model has an `error` for.

        Raises:
            EndpointError: No connection, a time-out or a status other than 200, after `settings.retries` more attempts
                where those can help; or an image that is too large for any request.
        """
        threads = ThreadPoolExecutor(self.settings.in_flight)
        answers = []
        try:
            for answer, request_bytes, latency_ms, retries in threads.map(
                partial(self._ask, cropped=cropped), self._batches(images, batch_size)
            ):
                answers.append(answer)
                self.request_bytes.append(request_bytes)
                self.latency_ms.append(latency_ms)
                self.retries.append(retries)
        finally:
            threads.shutdown(cancel_futures=True)
        return pd.concat(answers, ignore_index=True)

    def _batches(self, images: list[bytes], batch_size: int) -> Iterator[list[bytes]]:
        """Divide images so that no request's body is above `settings.max_request_bytes`."""
        limit_bytes = self.settings.max_request_bytes
        envelope_bytes = len(_body([], cropped=False))
        batch: list[bytes] = []
        batch_bytes = envelope_bytes
        for image in images:
            row_bytes = 4 * -(-len(image) // 3) + len('[""],')
            if envelope_bytes + row_bytes > limit_bytes:
                msg = (
                    f"An image of {len(image)} bytes makes a request of {envelope_bytes + row_bytes}, at most "
                    f"{limit_bytes} are allowed (serving.client.max_request_bytes): send it smaller."
                )
                raise EndpointError(msg)
            if len(batch) == batch_size or batch_bytes + row_bytes > limit_bytes:
                yield batch
                batch, batch_bytes = [], envelope_bytes
            batch.append(image)
            batch_bytes += row_bytes
        if batch:
            yield batch

    def _ask(self, images: list[bytes], *, cropped: bool) -> tuple[pd.DataFrame, int, float, int]:
        """Send one request; gives the answer, the body's bytes, milliseconds, and how many attempts came before."""
        body = _body(images, cropped=cropped)
        start_s = time.perf_counter()
        try:
            response = self.pool.request(
                "POST",
                f"{self.url}/invocations",
                body=body,
                headers={"Content-Type": "application/json", **self.headers()},
                timeout=self.settings.timeout_s,
                redirect=False,
                retries=_Retries(
                    self.settings.retries,
                    allowed_methods=None,  # a request changes nothing at the endpoint: POST as well
                    status_forcelist=RETRIED_STATUSES,
                    backoff_factor=self.settings.backoff_s,
                    raise_on_status=False,
                ),
            )
        except urllib3.exceptions.HTTPError as error:
            msg = f"The endpoint {self.url} did not answer: {error}"
            raise EndpointError(msg) from error
        latency_ms = (time.perf_counter() - start_s) * 1000
        if response.status in {401, 403}:  # without the answer's text, which may repeat what was sent
            msg = (
                f"The endpoint {self.url} refused the credentials with status {response.status}: "
                "check that they are valid and may query this endpoint."
            )
            raise EndpointError(msg)
        if response.status != 200:
            msg = f"The endpoint {self.url} answered {response.status}: {_start_of(response.data)}"
            raise EndpointError(msg)
        retries = len(response.retries.history) if response.retries else 0
        return self._table(response.data, len(images)), len(body), latency_ms, retries

    def _table(self, data: bytes, images: int) -> pd.DataFrame:
        try:
            answer = pd.DataFrame(json.loads(data)["predictions"])
            answer = answer.astype(dict.fromkeys(SCORE_COLUMNS[:3], "float64"))
            answer["is_anomalous"]
        except (ValueError, KeyError, TypeError) as error:
            msg = f"The endpoint {self.url} answered what is no answer of a detector: {_start_of(data)}"
            raise EndpointError(msg) from error
        if len(answer) != images:
            msg = f"The endpoint {self.url} answered {len(answer)} rows for {images} images"
            raise EndpointError(msg)
        return answer


class _Retries(urllib3.Retry):
    """urllib3's own, but no answer makes us wait for longer than a minute."""

    def parse_retry_after(self, retry_after: str) -> float:
        return min(super().parse_retry_after(retry_after), LONGEST_RETRY_AFTER_S)


def _body(images: list[bytes], *, cropped: bool) -> bytes:
    rows = [[base64.b64encode(image).decode()] for image in images]
    request = {"dataframe_split": {"columns": ["image"], "data": rows}, "params": {"cropped": cropped}}
    return json.dumps(request, separators=(",", ":")).encode()


def _start_of(data: bytes) -> str:
    return data[:500].decode(errors="replace")
