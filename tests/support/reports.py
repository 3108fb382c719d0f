"""Compares a report with its declared shape."""

from typing import Any

from pydantic import ConfigDict, TypeAdapter


def assert_conforms(report: Any, shape: Any) -> None:
    """Fail if a value has other keys or types than a TypedDict of `cygnet.reports`, at any depth.

    A TypeAdapter takes no settings for a TypedDict itself, but those for a list hold for what is in it.
    """
    TypeAdapter(list[shape], config=ConfigDict(extra="forbid", strict=True)).validate_python([report])
