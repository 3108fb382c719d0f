"""The one exception for a user's mistake.

It is a `click.ClickException` because that is the one kind of error which Kedro's command line prints as a sentence
instead of a traceback, with exit code 1. `cygnet.hooks` digs it out where Kedro wraps it in an error of its own.
"""

import click


class UserError(click.ClickException):
    """A mistake that the user can mend: the message names the value, what is allowed, and the fix."""
