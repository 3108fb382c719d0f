"""Addresses of cameras and webhooks: what of them may be shown, and their secrets, which may not.

A camera's address often carries its user and password, and a webhook's its token. Neither may reach a log, a table, a
report or MLflow, which records the parameters of a run. What is cut off here is rather too much than too little.
"""

import hashlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

ADDRESSES = ("source", "alerts")
"""Keys of `--params` that may be an address."""


def is_url(address: str) -> bool:
    """Tell an address from a path or the number of a device."""
    return "://" in address


def shown(address: str) -> str:
    """Give an address without user, password and query; a path as it is."""
    if not is_url(address):
        return address
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{re.split(r'[?#]', rest.rpartition('@')[2])[0]}"


def host_of(address: str) -> str:
    """Give scheme and host of an address alone: the path of a webhook may be its token."""
    return "/".join(shown(address).split("/")[:3])


def without_secrets(parameters: dict[str, Any]) -> dict[str, Any]:
    """Give the parameters of a run with nothing secret in the addresses among them."""
    known = {key: str(parameters[key]) for key in ADDRESSES if key in parameters}
    cut = {"source": shown, "alerts": lambda address: host_of(address) if is_url(address) else address}
    return {**parameters, **{key: cut[key](address) for key, address in known.items()}}


def source_name(source: str) -> str:
    """Name a source in tables: host and path of an address, the name of a folder or file, or `camera-<number>`."""
    if is_url(source):
        return shown(source).partition("://")[2].rstrip("/")
    if source.isdecimal():
        return f"camera-{source}"
    path = Path(source).resolve()
    return path.name if path.is_dir() else path.stem


def folder_name(source: str) -> str:
    """Name the folder of a source, by its name in tables: readable, and different for each."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", source).strip("_.")
    return f"{readable}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"


def with_password(address: str, password: str) -> str:
    """Put a password into an address that names a user and no password; others stay as they are."""
    scheme, _, rest = address.partition("://")
    user, at, place = rest.rpartition("@")
    if not (password and at and ":" not in user):
        return address
    return f"{scheme}://{user}:{quote(password, safe='')}@{place}"
