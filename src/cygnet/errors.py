"""The one exception for a user's mistake, and words for messages.

The exception is a `click.ClickException`, the only kind of error that Kedro's command line prints as a sentence, with
exit code 1 and without a traceback. Where Kedro wraps it in an error of its own, `cygnet.hooks` unwraps it.
"""

import difflib
from collections.abc import Iterable

import click


class UserError(click.ClickException):
    """A mistake that the user can fix: the message names the value, what is allowed, and the fix."""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say that there is no such name, and which of the known ones, at least one, is the nearest."""
    (nearest,) = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
    return f"{what} '{name}' is unknown: the nearest known one is '{nearest}'."


def counted(count: int, noun: str) -> str:
    """Write a number with what is counted, in the singular or the plural: `1 source`, `1,200 sources`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
