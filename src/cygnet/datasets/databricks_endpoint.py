"""The catalog's entry for an endpoint of Azure Databricks Model Serving."""

from collections.abc import Mapping
from typing import Any

from kedro.io import AbstractDataset

from cygnet.endpoints.databricks import DatabricksEndpoint
from cygnet.endpoints.databricks_settings import EndpointSettings
from cygnet.endpoints.versions import Decision


class DatabricksEndpointDataset(AbstractDataset[Decision, DatabricksEndpoint]):
    """Loads the endpoint, on which versions are tried; saving a decision routes its traffic."""

    def __init__(  # noqa: PLR0913 - these are the keys of the catalog's entry
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
            workload_size: `Small`, `Medium` or `Large`: 4, 8-16 or 16-64 concurrent requests.
            workload_type: `CPU`, or a kind of GPU that the workspace offers.
            scale_to_zero: Whether the endpoint stops when idle; the next request then waits for minutes.
            environment_vars: Of the model's process. Secrets must be references, `{{secrets/scope/key}}`.
            ready_timeout_s: Seconds to wait for an update.
            poll_interval_s: Seconds between two looks at an update.
            secret_scope: Scope with the `client_id` and `client_secret` of the service principal to sign in as; None:
                sign in as the environment says.
            metadata: For kedro-viz.
        """
        self._settings = EndpointSettings(
            name=name,
            workload_size=workload_size,
            workload_type=workload_type,
            scale_to_zero=scale_to_zero,
            environment_vars={key: str(value) for key, value in environment_vars.items()},
            ready_timeout_s=ready_timeout_s,
            poll_interval_s=poll_interval_s,
            secret_scope=secret_scope,
        )
        self._endpoint = DatabricksEndpoint(self._settings)
        self.metadata = metadata

    def check_settings(self) -> None:
        """Check workload type and environment variables; raises as `EndpointSettings.check` does."""
        self._settings.check()

    def load(self) -> DatabricksEndpoint:
        """Give the endpoint; raises as `check_settings` does."""
        self.check_settings()
        return self._endpoint

    def save(self, data: Decision) -> None:
        """Give a promoted version all traffic, or remove a refused one.

        Raises:
            UserError: As `check_settings`.
            EndpointError: As `DatabricksEndpoint.route`.
        """
        self.check_settings()
        if data.is_promoted:
            self._endpoint.route(data.version)
        else:
            self._endpoint.withdraw(data.version)

    def _describe(self) -> dict[str, Any]:
        return {"name": self._settings.name, "workload_size": self._settings.workload_size}
