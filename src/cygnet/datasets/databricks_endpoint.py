"""Azure Databricks Model Serving through databricks-sdk: an endpoint that outlives the run.

A version is tried beside the one in use, as a further served entity without traffic that the client asks by its own
address. What becomes of it is saved as a `Decision`. Promoted, it gets all traffic; the version before it stays with
none, so that a rollback only turns the traffic back. Refused, it is taken out. Databricks keeps the configuration in
use until a new one is ready; when an update fails, ours puts the one before back, so that nothing of the failed one
stays.

The endpoint is created or updated and never deleted: its address and permissions stay. The first version of a new
endpoint has all traffic from the start, since traffic must go somewhere; nobody asks that endpoint yet.
"""

import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import requests
import urllib3
from kedro.io import AbstractDataset
from requests.adapters import HTTPAdapter

from cygnet.datasets.registry import Decision, ModelVersion
from cygnet.endpoints.client import EndpointClient, EndpointError
from cygnet.errors import UserError
from cygnet.parameters.serving import Client

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.serving import (
        EndpointCoreConfigOutput,
        EndpointPendingConfig,
        ServedEntityInput,
        ServingEndpointDetailed,
    )

logger = logging.getLogger(__name__)

SECRET_REFERENCE = re.compile(r"\{\{secrets/[\w.@-]+/[\w.@-]+\}\}")
SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|CREDENTIAL|CONNECTION_?STRING|(API|ACCESS|ACCOUNT|PRIVATE)_?KEY|(^|_)(KEY|SAS|PAT|PWD)(_|$)",
    re.IGNORECASE,
)
SECRET_VALUE = re.compile(
    r"""^(dapi|dose|eyJ) | -----BEGIN | \{\{ | Q~         # tokens of Databricks, JWTs, PEM, misspelt references, Azure
    | ://[^/\s]*:[^/\s]*@ | (?i:AccountKey|sig|pwd|password)=  # in addresses and connection strings
    | (?=[A-Za-z+]*\d)(?=[\d+]*[A-Za-z])[A-Za-z0-9+]{20,}   # long, letters and digits mixed
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class _Layout:
    """What an endpoint serves: entities by name, and the percentage of the traffic that each one gets."""

    entities: dict[str, "ServedEntityInput"]
    traffic: dict[str, int]
    exists: bool = True

    def name_of(self, model: ModelVersion) -> str | None:
        """Find the entity that serves a version."""
        of_model = (model.name, model.version)
        return next((name for name, e in self.entities.items() if (e.entity_name, e.entity_version) == of_model), None)


@dataclass(frozen=True)
class DatabricksEndpoint:
    """A Model Serving endpoint; reaches its workspace at first use."""

    name: str
    workload_size: str
    workload_type: str
    scale_to_zero: bool
    environment_vars: Mapping[str, str]
    ready_timeout_s: float
    poll_interval_s: float
    secret_scope: str | None

    @contextmanager
    def serve(self, model: ModelVersion, settings: Client) -> Iterator[EndpointClient]:
        """Serve a version beside the one in use, without traffic; after an error in the block it is taken out again.

        Raises:
            EndpointError: The endpoint could not be brought to serve it; what it served before, it serves still.
        """
        entity = self._stage(model)
        host = self._workspace.config.host
        url = f"{host}/serving-endpoints/{self.name}/served-models/{entity}"
        try:
            with environment_pool(url, settings.in_flight) as pool:
                yield EndpointClient(url, settings, pool, self._authenticate)
        except BaseException:
            self.withdraw(model)
            raise

    def route(self, model: ModelVersion) -> None:
        """Give a version all traffic, once it is ready; the version that had it stays, with none.

        Raises:
            EndpointError: The version or the new traffic did not become ready; the traffic is as it was.
        """
        name = self._stage(model)
        before = self._settled()
        if before.traffic[name] == 100:
            return
        kept = {key: entity for key, entity in before.entities.items() if before.traffic[key] or key == name}
        self._update(before, _Layout(kept, {key: 100 if key == name else 0 for key in kept}))

    def withdraw(self, model: ModelVersion) -> None:
        """Take a version out, unless it has traffic: then it is the one in use, or the first of a new endpoint."""
        before = self._settled()
        name = before.name_of(model)
        if name is None:
            return
        if before.traffic[name]:
            logger.warning("Endpoint %s keeps %s: it has the traffic.", self.name, name)
            return
        kept = {key: entity for key, entity in before.entities.items() if key != name}
        self._update(before, _Layout(kept, {key: before.traffic[key] for key in kept}))

    def _stage(self, model: ModelVersion) -> str:
        """Make sure that a version is served with the present settings, and leave the traffic as it is."""
        before = self._settled()
        known_as = before.name_of(model)
        entity = self._entity(model, known_as)
        name = str(entity.name)
        if known_as is None or _settings(before.entities[known_as]) != _settings(entity):
            traffic = {**before.traffic, name: before.traffic.get(name, 0 if before.entities else 100)}
            self._update(before, _Layout({**before.entities, name: entity}, traffic))
        return name

    def _entity(self, model: ModelVersion, known_as: str | None) -> "ServedEntityInput":
        from databricks.sdk.service.serving import ServedEntityInput, ServingModelWorkloadType

        return ServedEntityInput(
            name=known_as or f"{model.name.rpartition('.')[2]}-{model.version}",
            entity_name=model.name,
            entity_version=model.version,
            workload_size=self.workload_size,
            workload_type=ServingModelWorkloadType(self.workload_type),
            scale_to_zero_enabled=self.scale_to_zero,
            environment_vars=dict(self.environment_vars),
        )

    def _settled(self) -> _Layout:
        """Give what the endpoint serves, once nobody is updating it; nothing, if there is no such endpoint."""
        if self._look() is None:
            return _Layout({}, {}, exists=False)
        return _layout(self._wait(None).config)

    def _update(self, before: _Layout, after: _Layout) -> None:
        """Bring the endpoint from one layout to another, or leave it at the first."""
        try:
            self._apply(after, is_new=not before.exists)
            self._wait(after)
        except EndpointError:
            if before.entities:
                self._put_back(before)
            raise

    def _put_back(self, before: _Layout) -> None:
        try:
            self._apply(before, is_new=False)
            self._wait(before)
        except EndpointError as error:
            logger.warning("Endpoint %s keeps its traffic, but its settings are not put back: %s", self.name, error)

    def _apply(self, layout: _Layout, *, is_new: bool) -> None:
        from databricks.sdk.service.serving import EndpointCoreConfigInput, Route, TrafficConfig

        config = EndpointCoreConfigInput(
            name=self.name,
            served_entities=list(layout.entities.values()),
            traffic_config=TrafficConfig(
                routes=[
                    Route(served_entity_name=name, traffic_percentage=part) for name, part in layout.traffic.items()
                ]
            ),
        )
        with self._one_sentence():
            if is_new:
                self._workspace.serving_endpoints.create(self.name, config=config)
            else:
                self._workspace.serving_endpoints.update_config(
                    self.name, served_entities=config.served_entities, traffic_config=config.traffic_config
                )

    def _look(self) -> "ServingEndpointDetailed | None":
        """Ask for the endpoint's state; None, if there is no such endpoint."""
        from databricks.sdk.errors import NotFound

        with self._one_sentence():
            try:
                return self._workspace.serving_endpoints.get(self.name)
            except NotFound:
                return None

    def _wait(self, wanted: _Layout | None) -> "ServingEndpointDetailed":
        """Wait until the endpoint serves what is wanted; without a wish, until nobody is updating it."""
        from databricks.sdk.service.serving import EndpointStateConfigUpdate as Update
        from databricks.sdk.service.serving import EndpointStateReady

        deadline_s = time.monotonic() + self.ready_timeout_s
        said = ""
        while True:
            seen = self._look()
            if seen is None or seen.state is None:
                msg = f"Endpoint {self.name} is gone: somebody deleted it."
                raise EndpointError(msg)
            progress = _progress(seen)
            update = seen.state.config_update
            if wanted is None and update != Update.IN_PROGRESS:
                return seen
            if update in {Update.UPDATE_FAILED, Update.UPDATE_CANCELED}:
                msg = f"The update of endpoint {self.name} failed: {progress}. The workspace has its build logs."
                raise EndpointError(msg)
            is_ready = update == Update.NOT_UPDATING and seen.state.ready == EndpointStateReady.READY
            if wanted is not None and is_ready and _layout(seen.config).traffic == wanted.traffic:
                return seen
            if progress != said:
                logger.info("Endpoint %s: %s", self.name, progress)
                said = progress
            if time.monotonic() > deadline_s:
                msg = f"Endpoint {self.name} was not ready after {self.ready_timeout_s:g} s: {progress}"
                raise EndpointError(msg)
            time.sleep(self.poll_interval_s)

    @cached_property
    def _workspace(self) -> "WorkspaceClient":
        """Authenticate as the environment says, or with what the secret scope holds."""
        from databricks.sdk import WorkspaceClient

        with self._one_sentence():
            workspace = WorkspaceClient()
            if self.secret_scope is None:
                return workspace
            secrets = workspace.dbutils.secrets
            return WorkspaceClient(
                host=workspace.config.host,
                client_id=secrets.get(self.secret_scope, "client_id"),
                client_secret=secrets.get(self.secret_scope, "client_secret"),
                auth_type="oauth-m2m",
            )

    def _authenticate(self) -> dict[str, str]:
        with self._one_sentence():
            return self._workspace.config.authenticate()

    @contextmanager
    def _one_sentence(self) -> Iterator[None]:
        """Turn what the SDK raises into a sentence, without what it may say about credentials."""
        from databricks.sdk.errors import PermissionDenied, Unauthenticated
        from databricks.sdk.errors.base import DatabricksError

        try:
            yield
        except (PermissionDenied, Unauthenticated, ValueError) as error:  # ValueError: of the SDK's configuration
            msg = (
                f"Databricks refused the credentials for endpoint {self.name} ({type(error).__name__}): set "
                "DATABRICKS_HOST with DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET, or another way that "
                "databricks-sdk knows, of a principal that may manage the endpoint and read the model."
            )
            raise EndpointError(msg) from None
        except (DatabricksError, requests.RequestException, TimeoutError) as error:
            msg = f"Databricks did not do what was asked for endpoint {self.name}: {error}"
            raise EndpointError(msg) from None


class DatabricksEndpointDataset(AbstractDataset[Decision, DatabricksEndpoint]):
    """Gives a Model Serving endpoint to try versions at; saving a decision routes its traffic."""

    def __init__(
        self,
        *,
        name: str,
        workload_size: str,
        workload_type: str,
        scale_to_zero: bool,
        environment_vars: Mapping[str, Any],
        ready_timeout_s: float,
        poll_interval_s: float,
        secret_scope: str | None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Describe the endpoint.

        Args:
            name: The endpoint's name in the workspace.
            workload_size: `Small`, `Medium` or `Large`: 4, 8-16 or 16-64 requests at a time.
            workload_type: `CPU`, or a kind of GPU that the workspace has.
            scale_to_zero: Whether nothing runs while nobody asks; the first request then waits.
            environment_vars: Of the model's process. What is secret must be `{{secrets/scope/key}}`.
            ready_timeout_s: Seconds to wait for an update.
            poll_interval_s: Seconds between two looks at an update.
            secret_scope: Scope whose `client_id` and `client_secret` are the service principal to work as; None: as
                the environment says.
            metadata: For kedro-viz.
        """
        self._endpoint = DatabricksEndpoint(
            name=name,
            workload_size=workload_size,
            workload_type=workload_type,
            scale_to_zero=scale_to_zero,
            environment_vars={key: str(value) for key, value in environment_vars.items()},
            ready_timeout_s=ready_timeout_s,
            poll_interval_s=poll_interval_s,
            secret_scope=secret_scope,
        )
        self.metadata = metadata

    def check(self) -> None:
        """Look at the settings.

        Raises:
            UserError: The workload type is unknown; or an environment variable, whose value is not shown, looks like a
                secret and is no reference to one.
        """
        from databricks.sdk.service.serving import ServingModelWorkloadType

        if self._endpoint.workload_type not in ServingModelWorkloadType.__members__:
            msg = (
                f"workload_type of endpoint {self._endpoint.name} is '{self._endpoint.workload_type}': allowed are "
                f"{', '.join(ServingModelWorkloadType.__members__)}."
            )
            raise UserError(msg)
        for name, value in self._endpoint.environment_vars.items():
            looks_secret = SECRET_NAME.search(name) or SECRET_VALUE.search(value)
            if looks_secret and not SECRET_REFERENCE.fullmatch(value):
                msg = (
                    f"Environment variable '{name}' of endpoint {self._endpoint.name} looks like a secret: put its "
                    "value into a secret scope, and {{secrets/SCOPE/KEY}} in its place."
                )
                raise UserError(msg)

    def load(self) -> DatabricksEndpoint:
        """Give the endpoint; raises as `check` does."""
        self.check()
        return self._endpoint

    def save(self, data: Decision) -> None:
        """Give the version all traffic, or take it out; raises as `check` and `DatabricksEndpoint.route` do."""
        self.check()
        if data.is_promoted:
            self._endpoint.route(data.version)
        else:
            self._endpoint.withdraw(data.version)

    def _describe(self) -> dict[str, Any]:
        return {"name": self._endpoint.name, "workload_size": self._endpoint.workload_size}


def _layout(config: "EndpointCoreConfigOutput | None") -> _Layout:
    from databricks.sdk.service.serving import ServedEntityInput

    served = (config.served_entities if config else None) or []
    entities = {str(entity.name): ServedEntityInput.from_dict(entity.as_dict()) for entity in served}
    routes = (config.traffic_config.routes if config and config.traffic_config else None) or []
    routed = {route.served_entity_name or route.served_model_name: route.traffic_percentage for route in routes}
    return _Layout(entities, {name: routed.get(name, 0) for name in entities})


def _settings(entity: "ServedEntityInput") -> tuple[Any, ...]:
    """What of an entity is ours to set."""
    return (
        entity.workload_size,
        entity.workload_type,
        entity.scale_to_zero_enabled,
        entity.environment_vars or {},
    )


def _progress(endpoint: "ServingEndpointDetailed") -> str:
    """Say how far each served entity is, of the update if there is one."""
    config: EndpointPendingConfig | EndpointCoreConfigOutput | None = endpoint.pending_config or endpoint.config
    states = []
    for entity in (config.served_entities if config else None) or []:
        if entity.state is not None and entity.state.deployment is not None:
            message = entity.state.deployment_state_message
            states.append(f"{entity.name} is {entity.state.deployment.value}{f' ({message})' if message else ''}")
    return ", ".join(states) or "nothing is said about its progress"


def environment_pool(url: str, connections: int) -> urllib3.PoolManager:
    """Open connections through the proxy and with the certificates that the environment names, as the SDK does."""
    environment = requests.Session().merge_environment_settings(url, {}, None, None, None)
    proxy = requests.utils.select_proxy(url, environment["proxies"])
    verify = environment["verify"]
    ca_certs = verify if isinstance(verify, str) else requests.utils.DEFAULT_CA_BUNDLE_PATH
    if proxy:
        return HTTPAdapter(pool_maxsize=connections, pool_block=True).proxy_manager_for(proxy, ca_certs=ca_certs)
    return urllib3.PoolManager(maxsize=connections, block=True, ca_certs=ca_certs)
