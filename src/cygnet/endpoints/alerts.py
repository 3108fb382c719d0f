"""Where alerts go: a webhook, or a file of JSON lines.

A webhook gets what the specification "Standard Webhooks" asks for, so that receivers can use its libraries: the headers
`webhook-id`, `webhook-timestamp` and `webhook-signature`, an HMAC-SHA256 over id, time and body with a secret that both
sides know. Each attempt is signed anew, with its own time; the id stays, and tells a receiver what it has already.
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Protocol

import urllib3

from cygnet.addresses import host_of
from cygnet.errors import UserError
from cygnet.retry import is_passing, retry_after_s
from cygnet.storage import append_line

SECRET_PREFIX = "whsec_"  # noqa: S105 - how the specification marks a secret  # pragma: allowlist secret
SHORTEST_SECRET_BYTES = 24


class UndeliveredError(Exception):
    """An alert did not arrive; the message says why, in part of a sentence.

    Attributes:
        may_pass: Whether another attempt may succeed.
        wait_s: Seconds after which the receiver wants to be asked again; None: it does not say.
    """

    def __init__(self, reason: str, *, may_pass: bool = True, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.may_pass = may_pass
        self.wait_s = wait_s


class Target(Protocol):
    """What takes alerts."""

    @property
    def name(self) -> str:
        """As it may be shown."""

    def send(self, alert_id: str, body: bytes) -> None:
        """Hand over an alert, a JSON object; raises UndeliveredError."""


@dataclass(frozen=True)
class Webhook:
    """An address to which alerts are sent by POST."""

    url: str = field(repr=False)
    key: bytes = field(repr=False)
    timeout_s: float
    pool: urllib3.PoolManager = field(default_factory=urllib3.PoolManager, repr=False)

    @property
    def name(self) -> str:
        """Scheme and host."""
        return host_of(self.url)

    def send(self, alert_id: str, body: bytes) -> None:
        """Send once; raises UndeliveredError without a status from 200 to 299."""
        sent_at = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "webhook-id": alert_id,
            "webhook-timestamp": sent_at,
            "webhook-signature": sign(self.key, alert_id, sent_at, body),
        }
        try:
            answer = self.pool.request(
                "POST",
                self.url,
                body=body,
                headers=headers,
                timeout=self.timeout_s,
                retries=False,
                redirect=False,
                preload_content=False,  # the status says all: what follows may be cut off, or have no end
            )
            answer.close()
        except urllib3.exceptions.HTTPError as error:
            raise UndeliveredError(type(error).__name__) from None  # its text has the address
        if not 200 <= answer.status < 300:
            wait_s = retry_after_s(answer.headers.get("Retry-After"))
            raise UndeliveredError(f"status {answer.status}", may_pass=is_passing(answer.status), wait_s=wait_s)


@dataclass(frozen=True)
class AlertFile:
    """A file to which each alert is appended as a line of JSON, without its picture."""

    name: str  # its path

    def send(self, alert_id: str, body: bytes) -> None:  # noqa: ARG002 - it is in the body
        """Append a line; raises UndeliveredError."""
        alert = json.loads(body)
        alert["data"].pop("picture", None)
        try:
            append_line(self.name, json.dumps(alert, ensure_ascii=False))
        except (OSError, UserError) as error:
            raise UndeliveredError(str(error)) from error


def sign(key: bytes, alert_id: str, sent_at: str, body: bytes) -> str:
    """Give the signature of an attempt: `v1,` and the HMAC-SHA256 of `<id>.<time>.<body>` in base64."""
    digest = hmac.new(key, f"{alert_id}.{sent_at}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def key_of(secret: str) -> bytes:
    """Decode a secret, `whsec_` and at least 24 bytes in base64.

    Raises:
        UserError: It is not of this form; the message does not have it.
    """
    try:
        key = base64.b64decode(secret.strip().removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if len(key) < SHORTEST_SECRET_BYTES:
        msg = (
            f"The secret of the webhook must be at least {SHORTEST_SECRET_BYTES} random bytes in base64: make one with "
            "`openssl rand -base64 32`, and give it to the receiver too."
        )
        raise UserError(msg)
    return key
