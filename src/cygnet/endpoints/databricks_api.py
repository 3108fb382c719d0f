"""The workspace's API for one endpoint: credentials, requests, and errors as sentences without secrets."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import requests
import urllib3
from requests.adapters import HTTPAdapter

from cygnet.endpoints.client import EndpointError
from cygnet.endpoints.databricks_layout import Layout

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.serving import ServingEndpointDetailed


@dataclass(frozen=True)
class ServingApi:
    """Reads and changes one endpoint of a workspace, which it signs in to at first use.

    Every method raises an `EndpointError` if the workspace refuses or can't be reached.
    """

    endpoint: str
    secret_scope: str | None  # with client_id and client_secret of a service principal; None: the environment's

    def look(self) -> "ServingEndpointDetailed | None":
        """Get the endpoint's state; None if there is no such endpoint."""
        from databricks.sdk.errors import NotFound

        with self._errors_as_sentences():
            try:
                return self._workspace.serving_endpoints.get(self.endpoint)
            except NotFound:
                return None

    def apply(self, layout: Layout, *, is_new: bool) -> None:
        """Ask for a layout, which takes minutes to become active; `is_new` creates the endpoint."""
        config = layout.config(self.endpoint)
        with self._errors_as_sentences():
            if is_new:
                self._workspace.serving_endpoints.create(self.endpoint, config=config)
            else:
                self._workspace.serving_endpoints.update_config(
                    self.endpoint, served_entities=config.served_entities, traffic_config=config.traffic_config
                )

    def url_of(self, entity: str) -> str:
        """Give the address of one served entity, whatever traffic it has."""
        return f"{self._workspace.config.host}/serving-endpoints/{self.endpoint}/served-models/{entity}"

    def headers(self) -> dict[str, str]:
        """Give the headers that authenticate a request."""
        with self._errors_as_sentences():
            return self._workspace.config.authenticate()

    @cached_property
    def _workspace(self) -> "WorkspaceClient":
        from databricks.sdk import WorkspaceClient

        with self._errors_as_sentences():
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

    @contextmanager
    def _errors_as_sentences(self) -> Iterator[None]:
        """Turn the SDK's errors into a sentence; refused credentials are left out of it and of the traceback."""
        from databricks.sdk.errors import PermissionDenied, Unauthenticated
        from databricks.sdk.errors.base import DatabricksError

        try:
            yield
        except (PermissionDenied, Unauthenticated, ValueError) as error:  # ValueError: of the SDK's configuration
            msg = (
                f"Databricks refused the credentials for endpoint {self.endpoint} ({type(error).__name__}): set "
                "DATABRICKS_HOST with DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET, or use another sign-in that "
                "databricks-sdk supports, for a principal that may manage the endpoint and read the model."
            )
            raise EndpointError(msg) from None
        except (DatabricksError, requests.RequestException, TimeoutError) as error:
            msg = f"The request to Databricks for endpoint {self.endpoint} failed: {error}"
            raise EndpointError(msg) from None


def environment_pool(url: str, connections: int) -> urllib3.PoolManager:
    """Open connections through the proxy and with the certificates that the environment names, as the SDK does."""
    environment = requests.Session().merge_environment_settings(url, {}, None, None, None)
    proxy = requests.utils.select_proxy(url, environment["proxies"])
    verify = environment["verify"]
    ca_certs = verify if isinstance(verify, str) else requests.utils.DEFAULT_CA_BUNDLE_PATH
    if proxy:
        return HTTPAdapter(pool_maxsize=connections, pool_block=True).proxy_manager_for(proxy, ca_certs=ca_certs)
    return urllib3.PoolManager(maxsize=connections, block=True, ca_certs=ca_certs)
