"""Azure Databricks Model Serving: an endpoint that outlives the run.

A version is tried beside the one in use: it is served without traffic, and the client calls it at its own address. Then
a `Decision` is saved. A promoted version gets all traffic, and the version that had it stays without, which makes a
rollback a mere change of traffic. A refused version is removed. Databricks keeps the active configuration until a new
one is ready. If an update fails, the previous configuration is applied again to leave nothing of the failed one behind.

The endpoint is created or updated, never deleted, because its address and permissions must stay. The first version of a
new endpoint has all traffic from the start, since some version must; nothing calls that endpoint yet.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cygnet.endpoints.client import EndpointClient, EndpointError
from cygnet.endpoints.databricks_api import ServingApi, environment_pool
from cygnet.endpoints.databricks_layout import Layout, progress_of
from cygnet.endpoints.databricks_settings import EndpointSettings
from cygnet.endpoints.versions import ModelVersion
from cygnet.parameters.serving import Client

if TYPE_CHECKING:
    from databricks.sdk.service.serving import EndpointState, ServedEntityInput, ServingEndpointDetailed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatabricksEndpoint:
    """A Model Serving endpoint."""

    settings: EndpointSettings

    @contextmanager
    def serve(self, model: ModelVersion, settings: Client) -> Iterator[EndpointClient]:
        """Serve a version beside the one in use, without traffic; after an error in the block, remove it.

        Raises:
            EndpointError: The endpoint can't serve it; what was served before is still served.
        """
        url = self._api.url_of(self._stage(model))
        try:
            with environment_pool(url, settings.in_flight) as pool:
                yield EndpointClient(url, settings, pool, self._api.headers)
        except BaseException:
            self.withdraw(model)
            raise

    def route(self, model: ModelVersion) -> None:
        """Give a version all traffic once it is ready; the version that had it stays, without traffic.

        Raises:
            EndpointError: The version or the new traffic did not become ready; the traffic is as it was.
        """
        name = self._stage(model)
        before = self._settled()
        if before.traffic[name] == 100:
            return
        kept = {key: entity for key, entity in before.entities.items() if before.traffic[key] or key == name}
        self._update(before, Layout(kept, {key: 100 if key == name else 0 for key in kept}))

    def withdraw(self, model: ModelVersion) -> None:
        """Remove a version unless it has traffic: then it is in use, or the first of a new endpoint."""
        before = self._settled()
        name = before.name_of(model)
        if name is None:
            return
        if before.traffic[name]:
            logger.warning("Endpoint %s keeps %s: it has the traffic.", self.settings.name, name)
            return
        kept = {key: entity for key, entity in before.entities.items() if key != name}
        self._update(before, Layout(kept, {key: before.traffic[key] for key in kept}))

    @cached_property
    def _api(self) -> ServingApi:
        return ServingApi(self.settings.name, self.settings.secret_scope)

    def _stage(self, model: ModelVersion) -> str:
        """Serve a version with the present settings, without changing the traffic; give the entity's name."""
        before = self._settled()
        entity = self._entity(model, before.name_of(model))
        name = str(entity.name)
        if not before.is_current(entity):
            traffic = {**before.traffic, name: before.traffic.get(name, 0 if before.entities else 100)}
            self._update(before, Layout({**before.entities, name: entity}, traffic))
        return name

    def _entity(self, model: ModelVersion, known_as: str | None) -> "ServedEntityInput":
        from databricks.sdk.service.serving import ServedEntityInput, ServingModelWorkloadType

        return ServedEntityInput(
            name=known_as or f"{model.name.rpartition('.')[2]}-{model.version}",
            entity_name=model.name,
            entity_version=model.version,
            workload_size=self.settings.workload_size,
            workload_type=ServingModelWorkloadType(self.settings.workload_type),
            scale_to_zero_enabled=self.settings.scale_to_zero,
            environment_vars=dict(self.settings.environment_vars),
        )

    def _settled(self) -> Layout:
        """Wait for any update in progress, then give what is served; an empty layout if there is no endpoint."""
        if self._api.look() is None:
            return Layout({}, {}, exists=False)
        return Layout.of(self._wait(None).config)

    def _update(self, before: Layout, after: Layout) -> None:
        """Bring the endpoint from one layout to another, or leave it at the first."""
        try:
            self._api.apply(after, is_new=not before.exists)
            self._wait(after)
        except EndpointError:
            if before.entities:
                self._restore(before)
            raise

    def _restore(self, before: Layout) -> None:
        try:
            self._api.apply(before, is_new=False)
            self._wait(before)
        except EndpointError as error:
            logger.warning(
                "Endpoint %s keeps its traffic, but its previous settings are not restored: %s",
                self.settings.name,
                error,
            )

    def _wait(self, wanted: Layout | None) -> "ServingEndpointDetailed":
        """Wait until the endpoint serves `wanted`; if that is None, until no update is in progress."""
        deadline_s = time.monotonic() + self.settings.ready_timeout_s
        reported = ""
        while True:
            seen = self._api.look()
            if seen is None or (state := seen.state) is None:
                msg = f"Endpoint {self.settings.name} was deleted while it was being updated."
                raise EndpointError(msg)
            if self._has_arrived(seen, state, wanted):
                return seen
            progress = progress_of(seen)
            if progress != reported:
                logger.info("Endpoint %s: %s", self.settings.name, progress)
                reported = progress
            if time.monotonic() > deadline_s:
                msg = (
                    f"Endpoint {self.settings.name} was not ready after {self.settings.ready_timeout_s:g} s: {progress}"
                )
                raise EndpointError(msg)
            time.sleep(self.settings.poll_interval_s)

    def _has_arrived(self, seen: "ServingEndpointDetailed", state: "EndpointState", wanted: Layout | None) -> bool:
        """Tell whether `_wait` is over.

        Raises:
            EndpointError: The update to `wanted` failed.
        """
        from databricks.sdk.service.serving import EndpointStateConfigUpdate as Update
        from databricks.sdk.service.serving import EndpointStateReady

        if wanted is None:
            return state.config_update != Update.IN_PROGRESS
        if state.config_update in {Update.UPDATE_FAILED, Update.UPDATE_CANCELED}:
            msg = (
                f"The update of endpoint {self.settings.name} failed: {progress_of(seen)}. "
                "The workspace has its build logs."
            )
            raise EndpointError(msg)
        is_ready = state.config_update == Update.NOT_UPDATING and state.ready == EndpointStateReady.READY
        return is_ready and Layout.of(seen.config).traffic == wanted.traffic
