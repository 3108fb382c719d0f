"""The catalog's entry for where alerts go."""

from typing import Any

from cygnet.addresses import check_address, host_of, is_url
from cygnet.datasets.base import ReadOnly
from cygnet.endpoints.alerts import AlertFile, Webhook, key_of
from cygnet.endpoints.outbox import Alerts
from cygnet.errors import UserError
from cygnet.secrets import read_secret
from cygnet.storage import absolute, is_remote


class AlertsDataset(ReadOnly[Alerts]):
    """Loads a handle to webhook or file. No description, message or log has the secret, or the webhook's path."""

    def __init__(
        self,
        *,
        target: Any,
        outbox: str,
        secret_variable: str,
        secret: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Describe where alerts go.

        Args:
            target: The address of a webhook, or the path of a file, on any storage.
            outbox: Folder of the alerts that are not delivered yet, on any storage.
            secret_variable: Environment variable with the secret that signs requests to a webhook.
            secret: Scope and key, `scope/key`, of the secret that is it instead; None: the environment.
            metadata: For kedro-viz.
        """
        self._target = str(target)
        self._outbox = absolute(outbox)
        self._secret_variable = secret_variable
        self._secret = secret
        self.metadata = metadata

    @property
    def _is_webhook(self) -> bool:
        return is_url(self._target) and not is_remote(self._target)

    def check_settings(self) -> None:
        """Check that a webhook has an address and a secret.

        Raises:
            UserError: The address is none, or the secret is missing, of another form, or can't be read.
        """
        if self._is_webhook and not self._target.startswith(("https://", "http://")):
            msg = f"alerts={host_of(self._target)}: a webhook's address must start with https:// or http://."
            raise UserError(msg)
        if self._is_webhook:
            check_address(self._target)
        self._key()

    def load(self) -> Alerts:
        """Give the handle; raises as `check_settings`."""
        if not self._is_webhook:
            return Alerts(self._outbox, lambda _: AlertFile(self._target))
        key = self._key()
        return Alerts(self._outbox, lambda timeout_s: Webhook(self._target, key, timeout_s))

    def _key(self) -> bytes:
        if not self._is_webhook:
            return b""
        secret = read_secret(self._secret_variable, self._secret)
        if not secret:
            msg = (
                f"The webhook needs a secret by which it knows who sends: export {self._secret_variable}=whsec_..., "
                "made with `openssl rand -base64 32`, or name a secret, see docs/watching.md."
            )
            raise UserError(msg)
        return key_of(secret)

    def _describe(self) -> dict[str, Any]:
        return {"target": host_of(self._target) if self._is_webhook else self._target, "outbox": self._outbox}
