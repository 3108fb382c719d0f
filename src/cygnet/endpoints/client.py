"""REST client of an endpoint, on this machine or at Databricks.

It uses urllib3 directly, not requests: a urllib3 pool may be shared by threads and keeps a connection for each. It also
reads the whole response before it returns, which means that a truncated response is retried as well.
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
"""Columns of every answer; null for an image that the column `error` gives a reason for."""

RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
MAX_RETRY_AFTER_S = 60.0


class EndpointError(UserError):
    """The endpoint does not start, or answers with an error; printed as one sentence unless caught."""


class Endpoint(Protocol):
    """Where a model version is served."""

    def serve(self, model: ModelVersion, settings: Client) -> AbstractContextManager["EndpointClient"]:
        """Serve a version until the block ends, without taking traffic from other versions.

        Raises:
            EndpointError: The version can't be served.
        """


@dataclass
class EndpointClient:
    """Sends images to an endpoint; records size, latency and retries of every request that was answered."""

    url: str
    settings: Client
    pool: urllib3.PoolManager = field(repr=False)
    headers: Callable[[], dict[str, str]] = field(default=dict, repr=False)  # that authenticate a request
    request_bytes: list[int] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)  # including the waits between attempts
    retries: list[int] = field(default_factory=list)

    def score(self, images: list[bytes], *, cropped: bool, batch_size: int) -> pd.DataFrame:
        """Send images in requests that are bounded in rows and bytes, several at a time.

        Args:
            images: Encoded images.
            cropped: Whether they are 256x256 images of the scene, or whole frames.
            batch_size: Most images per request.

        Returns:
            The answers, a row per image in the same order: SCORE_COLUMNS and any further columns of the model. Scores
            are NaN for an image that has an `error`.

        Raises:
            EndpointError: No connection, a time-out or a status other than 200, after up to `settings.retries` retries
                where those can help; or an image is too large for any request.
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
        """Divide images such that no request's body exceeds `settings.max_request_bytes`."""
        limit_bytes = self.settings.max_request_bytes
        envelope_bytes = len(_body([], cropped=False))
        batch: list[bytes] = []
        batch_bytes = envelope_bytes
        for image in images:
            row_bytes = 4 * -(-len(image) // 3) + len('[""],')
            if envelope_bytes + row_bytes > limit_bytes:
                msg = (
                    f"An image of {len(image)} bytes makes a request of {envelope_bytes + row_bytes} bytes, at most "
                    f"{limit_bytes} are allowed (serving.client.max_request_bytes): send a smaller image."
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
        """Send one request; give the answer, the bytes of the body, milliseconds, and the number of retries."""
        body = _body(images, cropped=cropped)
        start_s = time.perf_counter()
        response = self._post(body)
        latency_ms = (time.perf_counter() - start_s) * 1000
        self._check_status(response)
        retries = len(response.retries.history) if response.retries else 0
        return self._table(response.data, len(images)), len(body), latency_ms, retries

    def _post(self, body: bytes) -> urllib3.BaseHTTPResponse:
        try:
            return self.pool.request(
                "POST",
                f"{self.url}/invocations",
                body=body,
                headers={"Content-Type": "application/json", **self.headers()},
                timeout=self.settings.timeout_s,
                redirect=False,
                retries=_Retries(
                    self.settings.retries,
                    allowed_methods=None,  # POST too: a request changes nothing at the endpoint
                    status_forcelist=RETRIED_STATUSES,
                    backoff_factor=self.settings.backoff_s,
                    raise_on_status=False,
                ),
            )
        except urllib3.exceptions.HTTPError as error:
            msg = f"The endpoint {self.url} did not answer: {error}"
            raise EndpointError(msg) from error

    def _check_status(self, response: urllib3.BaseHTTPResponse) -> None:
        if response.status in {401, 403}:  # the text is left out, because it may repeat the credentials
            msg = (
                f"The endpoint {self.url} refused the credentials with status {response.status}: "
                "check that they are valid and may query this endpoint."
            )
            raise EndpointError(msg)
        if response.status != 200:
            msg = f"The endpoint {self.url} answered {response.status}: {_start_of(response.data)}"
            raise EndpointError(msg)

    def _table(self, data: bytes, images: int) -> pd.DataFrame:
        try:
            answer = pd.DataFrame(json.loads(data)["predictions"])
            answer = answer.astype(dict.fromkeys(SCORE_COLUMNS[:3], "float64"))
            answer["is_anomalous"]
        except (ValueError, KeyError, TypeError) as error:
            msg = f"The endpoint {self.url} gave an unexpected response: {_start_of(data)}"
            raise EndpointError(msg) from error
        if len(answer) != images:
            msg = f"The endpoint {self.url} answered {len(answer)} rows for {images} images"
            raise EndpointError(msg)
        return answer


class _Retries(urllib3.Retry):
    """urllib3's retries, with an upper bound on the wait that a `Retry-After` header can ask for."""

    def parse_retry_after(self, retry_after: str) -> float:
        return min(super().parse_retry_after(retry_after), MAX_RETRY_AFTER_S)


def _body(images: list[bytes], *, cropped: bool) -> bytes:
    rows = [[base64.b64encode(image).decode()] for image in images]
    request = {"dataframe_split": {"columns": ["image"], "data": rows}, "params": {"cropped": cropped}}
    return json.dumps(request, separators=(",", ":")).encode()


def _start_of(data: bytes) -> str:
    return data[:500].decode(errors="replace")
