"""Where the model is served: `with endpoint.serve(model) as client`, and the client asks over REST.

Here the endpoint is MLflow's own scoring server on a free port of this machine. It lives as long as the `with` block:
Kedro releases no dataset after a node that failed, and after no interrupted run at all.
"""

import base64
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import IO, Any

import mlflow
import pandas as pd
import requests
from kedro.io import AbstractDataset

from cygnet.datasets.registry import ModelVersion

POLL_S = 0.2
SCORE_COLUMNS = ["logit_abnormal", "logit_normal", "anomaly_score", "is_anomalous"]


class EndpointError(RuntimeError):
    """The endpoint does not start, or does not answer as it should."""


@dataclass
class EndpointClient:
    """Asks an endpoint about images, and keeps the size and the time of every request."""

    url: str
    timeout_s: float
    request_bytes: list[int] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)

    def score(self, images: list[bytes], *, cropped: bool) -> pd.DataFrame:
        """Send one request.

        Args:
            images: Encoded images.
            cropped: Whether they are 256x256 images of the scene, or whole frames.

        Returns:
            The answer's columns, a row per image.

        Raises:
            EndpointError: No connection, a time-out, or a status other than 200.
        """
        rows = [[base64.b64encode(image).decode()] for image in images]
        body: Any = {"dataframe_split": {"columns": ["image"], "data": rows}, "params": {"cropped": cropped}}
        start_s = time.perf_counter()
        try:
            with _direct_session() as session:
                response = session.post(f"{self.url}/invocations", json=body, timeout=self.timeout_s)
        except requests.RequestException as error:
            msg = f"The endpoint {self.url} did not answer: {error}"
            raise EndpointError(msg) from error
        self.latency_ms.append((time.perf_counter() - start_s) * 1000)
        self.request_bytes.append(int(response.request.headers["Content-Length"]))
        if response.status_code != requests.codes.ok:
            msg = f"The endpoint {self.url} answered {response.status_code}: {response.text[:500]}"
            raise EndpointError(msg)
        try:
            answer = pd.DataFrame(response.json()["predictions"])[SCORE_COLUMNS]
        except (ValueError, KeyError, TypeError) as error:
            msg = f"The endpoint {self.url} answered what is no answer of a detector: {response.text[:500]}"
            raise EndpointError(msg) from error
        if len(answer) != len(images):
            msg = f"The endpoint {self.url} answered {len(answer)} rows for {len(images)} images"
            raise EndpointError(msg)
        return answer


def _direct_session() -> requests.Session:
    """Open a session that asks this machine itself, whatever proxy the environment names."""
    session = requests.Session()
    session.trust_env = False
    return session


@dataclass(frozen=True)
class LocalEndpoint:
    """MLflow's scoring server on this machine."""

    start_timeout_s: float
    request_timeout_s: float

    @contextmanager
    def serve(self, model: ModelVersion) -> Iterator[EndpointClient]:
        """Serve a model version on a free port until the block ends.

        Raises:
            EndpointError: The server ended or was not ready in time; the message has the end of its log.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server_command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
        command = [*server_command, "--host", "127.0.0.1", "--port", str(port), "--model-uri", model.uri]
        environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
            "MLFLOW_REGISTRY_URI": mlflow.get_registry_uri(),
            "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ.get('PATH', '')}",  # noqa: PTH120
        }
        with TemporaryFile() as log:
            server = subprocess.Popen(  # noqa: S603 - our own program and arguments
                [sys.executable, "-m", "cygnet.datasets.guard", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # a signal to our group must not end the guard before the server
            )
            try:
                url = f"http://127.0.0.1:{port}"
                self._wait(url, server, log)
                yield EndpointClient(url, self.request_timeout_s)
            finally:
                server.communicate()  # closes its standard input, which ends the server

    def _wait(self, url: str, server: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        deadline_s = time.monotonic() + self.start_timeout_s
        while time.monotonic() < deadline_s and server.poll() is None:
            try:
                with _direct_session() as session:
                    if session.get(f"{url}/health", timeout=POLL_S * 5).status_code == requests.codes.ok:
                        return
            except requests.RequestException:
                time.sleep(POLL_S)
        state = "did not start" if server.poll() is not None else f"was not ready after {self.start_timeout_s:g} s"
        log.seek(0)
        end_of_log = log.read().decode(errors="replace")[-2000:]
        msg = f"The local scoring server {state}:\n{end_of_log}"
        raise EndpointError(msg)


class LocalEndpointDataset(AbstractDataset[None, LocalEndpoint]):
    """Gives the endpoint of this machine; nothing runs until `serve`."""

    def __init__(
        self, *, start_timeout_s: float, request_timeout_s: float, metadata: dict[str, Any] | None = None
    ) -> None:
        """Describe the endpoint: seconds to wait for it to be ready, and for an answer."""
        self._endpoint = LocalEndpoint(start_timeout_s, request_timeout_s)
        self.metadata = metadata

    def load(self) -> LocalEndpoint:
        """Give the endpoint."""
        return self._endpoint

    def save(self, data: None) -> None:
        """Refuse: models are saved in the registry."""
        raise NotImplementedError

    def _describe(self) -> dict[str, Any]:
        return {"start_timeout_s": self._endpoint.start_timeout_s}
