"""Addresses of cameras and webhooks: what of them may be shown, and their secrets, which may not.

A camera's address often carries its user and password, and a webhook's its token. Neither may reach a log, a table, a
report or MLflow, which records the parameters of a run. What is cut off here is rather too much than too little.
"""

import hashlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cygnet.errors import UserError

ADDRESSES = ("source", "alerts")
"""Keys of `--params` that may be an address."""

CHANNEL = re.compile(r"[?&]((?:camera|channel|stream|subtype)=\d{1,3})(?=&|$)", re.IGNORECASE)
"""What of a query tells the cameras of one recorder apart."""


def is_url(address: str) -> bool:
    """Tell an address from a path or the number of a device."""
    return "://" in address


def is_device(address: str) -> bool:
    """Tell the number of a device from a folder that is named by digits."""
    return address.isdecimal() and not Path(address).is_dir()


def shown(address: str) -> str:
    """Give an address without user, password and query; a path as it is."""
    if not is_url(address):
        return address
    scheme, _, rest = address.partition("://")
    before, _, place = rest.rpartition("@")
    if re.search(r"[?#]", before):  # of a password, or of a query that has an @: nobody knows
        return f"{scheme}://..."
    return f"{scheme}://{re.split(r'[?#]', place)[0]}"


def check_address(address: str) -> None:
    """Check that it is clear where user and password of an address end, if there are any.

    Raises:
        UserError: There is an @ after the host, or `/`, `?` or `#` in user or password.
    """
    scheme, _, rest = address.partition("://")
    if re.search(r"[/?#]", rest.rpartition("@")[0]):
        msg = (
            f"{scheme}://...: an @ after the host must be written %40, and in user and password / as %2F, ? as %3F "
            "and # as %23."
        )
        raise UserError(msg)


def host_of(address: str) -> str:
    """Give scheme and host of an address alone: the path of a webhook may be its token."""
    return "/".join(shown(address).split("/")[:3])


def without_secrets(parameters: dict[str, Any]) -> dict[str, Any]:
    """Give the parameters of a run with nothing secret in the addresses among them."""
    known = {key: str(parameters[key]) for key in ADDRESSES if key in parameters}
    cut = {"source": shown, "alerts": lambda address: host_of(address) if is_url(address) else address}
    return {**parameters, **{key: cut[key](address) for key, address in known.items()}}


def source_name(source: str) -> str:
    """Name a source in tables: host, path and channel of an address, name of a folder or file, or `camera-<number>`."""
    if is_url(source):
        place = shown(source).partition("://")[2].rstrip("/")
        return "?".join(filter(None, [place, "&".join(CHANNEL.findall(source))]))
    if is_device(source):
        return f"camera-{source}"
    path = Path(source).resolve()
    return path.name if path.is_dir() else path.stem


def folder_name(source: str) -> str:
    """Name the folder of a source: readable, and different for each; two folders or files may have the same name."""
    name = source_name(source)
    whole = name if is_url(source) or is_device(source) else str(Path(source).resolve())
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_.")
    return f"{readable}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def with_password(address: str, password: str) -> str:
    """Put a password into an address that names a user and no password; others stay as they are."""
    scheme, _, rest = address.partition("://")
    user, at, place = rest.rpartition("@")
    if not (password and at and ":" not in user):
        return address
    return f"{scheme}://{user}:{quote(password, safe='')}@{place}"
