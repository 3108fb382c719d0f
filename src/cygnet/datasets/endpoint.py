"""The catalog's entry for the endpoint of this machine."""

from typing import Any

from kedro.io import AbstractDataset

from cygnet.endpoints.local import LocalEndpoint
from cygnet.endpoints.versions import Decision


class LocalEndpointDataset(AbstractDataset[Decision, LocalEndpoint]):
    """Loads the endpoint; no server runs until `serve`, and none is left after it."""

    def __init__(self, *, start_timeout_s: float, metadata: dict[str, Any] | None = None) -> None:
        """Describe the endpoint.

        Args:
            start_timeout_s: Seconds to wait until the server is ready.
            metadata: For kedro-viz.
        """
        self._endpoint = LocalEndpoint(start_timeout_s)
        self.metadata = metadata

    def load(self) -> LocalEndpoint:
        """Give the endpoint."""
        return self._endpoint

    def save(self, data: Decision) -> None:
        """Do nothing: after the run there is no server whose traffic could follow the decision."""

    def _describe(self) -> dict[str, Any]:
        return {"start_timeout_s": self._endpoint.start_timeout_s}
