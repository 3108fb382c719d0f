"""HTTP servers for tests: one that answers by a function, and on top of it a workspace.

The workspace has secrets, Model Serving and Unity Catalog, and keeps runs in a real MLflow server.
"""

import base64
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseServer
from typing import Any, Self
from urllib.parse import parse_qsl

import mlflow
import numpy as np

from support.stub_catalog import UnityCatalog


@dataclass(frozen=True)
class Request:
    """What arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    peer: tuple[str, int]  # tells connections apart

    @property
    def images(self) -> list[bytes]:
        """The images of an invocation."""
        return [base64.b64decode(row[0]) for row in json.loads(self.body)["dataframe_split"]["data"]]


@dataclass(frozen=True)
class Reply:
    """What is answered; `is_cut`: the connection is lost in the middle of it."""

    status: int
    content: Any = None  # bytes as they are, all else as JSON
    headers: dict[str, str] = field(default_factory=dict)
    is_cut: bool = False


CUT = Reply(200, {"predictions": "never to arrive as a whole"}, is_cut=True)


def scores_of(images: list[bytes]) -> list[dict[str, Any]]:
    """Answer as a detector does, by the length of each image."""
    rows = []
    for image in images:
        logit = len(image) / 1000
        score = 1 / (1 + np.exp(-2 * logit))
        rows.append({"logit_abnormal": logit, "logit_normal": -logit, "anomaly_score": score, "is_anomalous": True})
    return rows


def detector_answer(request: Request) -> Reply:
    """Answer an invocation."""
    return Reply(200, {"predictions": scores_of(request.images)})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, and a lost one is seen as such
    server: "_Server"

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, self.path, dict(self.headers), body, self.client_address)
        reply = self.server.reply_to(request)
        content = reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
        self.send_response(reply.status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": len(content),
            **reply.headers,
        }.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if reply.is_cut else content)
        self.close_connection = reply.is_cut

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    reply_to: Callable[[Request], Reply]


@contextmanager
def running(server: BaseServer) -> Iterator[None]:
    """Let a server answer until the block ends."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def serving(reply_to: Callable[[Request], Reply]) -> Iterator[str]:
    """Serve on a free port of this machine until the block ends; gives the address."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.reply_to = reply_to
    with running(server):
        yield f"http://127.0.0.1:{server.server_port}"


class Workspace:
    """Model Serving as its REST API describes it: an update runs for some looks, then it is in use, or it failed.

    `looks` says for how many looks an update is not ready, `failing` which versions never get ready, `replies` what the
    next invocations are answered instead of `answer`.
    """

    def __init__(self) -> None:
        """Start without endpoints."""
        self.token = f"dapi{uuid.uuid4().hex}"
        self.looks = 1
        self.failing: set[str] = set()
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.secrets: dict[tuple[str, str], str] = {}
        self.replies: list[Reply] = []
        self.answer: Callable[[Request], Reply] = detector_answer
        self.requests: list[Request] = []
        self.catalog = UnityCatalog()
        self._tracker: Any = None

    def track(self, folder: Path) -> None:
        """Keep experiments and runs below a folder, by MLflow's own server."""
        from mlflow.server import app, handlers

        handlers._tracking_store = None
        handlers._get_tracking_store(f"sqlite:///{folder}/tracking.db", (folder / "runs").as_uri())
        mlflow.set_tracking_uri(None)  # which that set, for all of this process
        self._tracker = app

    @contextmanager
    def open(self) -> Iterator[Self]:
        """Serve until the block ends."""
        with serving(self._reply) as self.url:
            yield self

    def configure(self, name: str, traffic: dict[str, int], of: str = "main.test.swan") -> None:
        """Let an endpoint be there already: versions of a model as entities called `<name>-<version>`."""
        entities = [
            {
                "name": entity,
                "entity_name": of,
                "entity_version": entity.split("-")[1],
                "workload_size": "Small",
                "workload_type": "CPU",
                "scale_to_zero_enabled": True,
            }
            for entity in traffic
        ]
        routes = [{"served_model_name": entity, "traffic_percentage": part} for entity, part in traffic.items()]
        config = {"served_entities": _ready(entities), "traffic_config": {"routes": routes}}
        self.endpoints[name] = {"config": config, "pending": None, "looks": 0, "update": "NOT_UPDATING"}

    def traffic(self, name: str) -> dict[str, int]:
        """Say what each entity in use gets."""
        routes = self.endpoints[name]["config"]["traffic_config"]["routes"]
        return {
            route.get("served_entity_name") or route["served_model_name"]: route["traffic_percentage"]
            for route in routes
        }

    def changes(self) -> list[tuple[str, str]]:
        """List what was asked for that changes something."""
        return [(r.method, r.path) for r in self.requests if r.method != "GET" and "invocations" not in r.path]

    def asked(self) -> list[str]:
        """List the addresses of the invocations."""
        return [request.path for request in self.requests if request.path.endswith("/invocations")]

    def _reply(self, request: Request) -> Reply:
        self.requests.append(request)
        path, _, query = request.path.partition("?")
        if path.startswith(("/.well-known/", "/oidc/")):
            return self._sign_in(path)
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            refused = f"Invalid access token {request.headers.get('Authorization')}"
            return Reply(403, {"error_code": "PERMISSION_DENIED", "message": refused})
        if path == "/api/2.0/secrets/get":
            return self._secret(dict(parse_qsl(query)))
        if match := re.fullmatch(r"/serving-endpoints/([\w-]+)(?:/served-models/([\w-]+))?/invocations", path):
            return self._invoke(request, *match.groups())
        if (request.method, path) == ("POST", "/api/2.0/serving-endpoints"):
            body = json.loads(request.body)
            return self._change(body["name"], body["config"], is_new=True)
        if match := re.fullmatch(r"/api/2.0/serving-endpoints/([\w-]+)(/config)?", path):
            return self._endpoint(request, match[1], is_config=match[2] is not None)
        if answer := self.catalog.answer(request.method, path, query, request.body):
            return Reply(*answer)
        if self._tracker is not None and path.startswith("/api/2.0/mlflow/"):
            return self._track(request)
        return Reply(405, {"error_code": "NOT_IMPLEMENTED", "message": f"{request.method} {path}"})

    def _secret(self, asked: dict[str, str]) -> Reply:
        value = self.secrets.get((asked["scope"], asked["key"]))
        if value is None:
            return Reply(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Secret does not exist."})
        return Reply(200, {"key": asked["key"], "value": base64.b64encode(value.encode()).decode()})

    def _endpoint(self, request: Request, name: str, *, is_config: bool) -> Reply:
        if name not in self.endpoints:
            return Reply(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"No endpoint {name}"})
        if request.method == "PUT" and is_config:
            return self._change(name, json.loads(request.body), is_new=False)
        if request.method == "GET" and not is_config:
            return self._look(name)
        return Reply(405, {"error_code": "NOT_IMPLEMENTED", "message": f"{request.method} {request.path}"})

    def _track(self, request: Request) -> Reply:
        kind = request.headers.get("Content-Type", "application/json")
        answer = self._tracker.test_client().open(
            request.path, method=request.method, data=request.body, content_type=kind
        )
        return Reply(answer.status_code, answer.data, {"x-databricks-org-id": "1"})

    def _sign_in(self, path: str) -> Reply:
        if path == "/oidc/.well-known/oauth-authorization-server":
            urls = {
                "authorization_endpoint": f"{self.url}/oidc/v1/authorize",
                "token_endpoint": f"{self.url}/oidc/v1/token",
            }
            return Reply(200, urls)
        if path == "/oidc/v1/token":
            return Reply(200, {"access_token": self.token, "token_type": "Bearer", "expires_in": 3600})
        return Reply(200, {"oidc_endpoint": f"{self.url}/oidc"})

    def _change(self, name: str, config: dict[str, Any], *, is_new: bool) -> Reply:
        endpoint = self.endpoints.get(name)
        if is_new and endpoint is not None:
            return Reply(400, {"error_code": "RESOURCE_ALREADY_EXISTS", "message": f"Endpoint {name} exists"})
        if endpoint is not None and endpoint["update"] == "IN_PROGRESS":
            return Reply(409, {"error_code": "RESOURCE_CONFLICT", "message": f"Endpoint {name} is being updated"})
        routes = config["traffic_config"]["routes"]
        names = [entity["name"] for entity in config["served_entities"]]
        if sum(route["traffic_percentage"] for route in routes) != 100 or len(set(names)) != len(names):
            return Reply(
                400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "Traffic is not 100, or a name twice"}
            )
        if endpoint is None:
            endpoint = self.endpoints[name] = {"config": None}
        endpoint |= {"pending": config, "looks": self.looks, "update": "IN_PROGRESS"}
        return self._look(name)

    def _look(self, name: str) -> Reply:
        endpoint = self.endpoints[name]
        state = "DEPLOYMENT_CREATING"
        if endpoint["update"] == "IN_PROGRESS":
            endpoint["looks"] -= 1
            if endpoint["looks"] < 0:
                versions = {entity["entity_version"] for entity in endpoint["pending"]["served_entities"]}
                if versions & self.failing:
                    endpoint["update"] = "UPDATE_FAILED"
                else:
                    endpoint |= {"config": endpoint["pending"], "pending": None, "update": "NOT_UPDATING"}
                    endpoint["config"]["served_entities"] = _ready(endpoint["config"]["served_entities"])
        answer = {"name": name, "state": {"ready": "READY" if endpoint["config"] else "NOT_READY"}}
        answer["state"]["config_update"] = endpoint["update"]
        if endpoint["config"]:
            answer["config"] = endpoint["config"]
        if endpoint["pending"]:
            answer["pending_config"] = deepcopy(endpoint["pending"])
            for entity in answer["pending_config"]["served_entities"]:
                is_failed = endpoint["update"] == "UPDATE_FAILED" and entity["entity_version"] in self.failing
                message = "no module named torch" if is_failed else "building the environment"
                state = "DEPLOYMENT_FAILED" if is_failed else "DEPLOYMENT_CREATING"
                entity["state"] = {"deployment": state, "deployment_state_message": message}
        return Reply(200, answer)

    def _invoke(self, request: Request, name: str, entity: str | None) -> Reply:
        if len(request.body) > 16_000_000:
            return Reply(413, {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "Above 16 MB"})
        served = [served["name"] for served in (self.endpoints[name]["config"] or {}).get("served_entities", [])]
        if entity is not None and entity not in served:
            return Reply(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"{entity} is not served"})
        return self.replies.pop(0) if self.replies else self.answer(request)


def _ready(entities: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**entity, "state": {"deployment": "DEPLOYMENT_READY"}} for entity in entities]
