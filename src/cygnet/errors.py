"""The one exception for a user's mistake.

It is a `click.ClickException`, the only kind of error that Kedro's command line prints as a sentence, with exit code 1
and without a traceback. Where Kedro wraps it in an error of its own, `cygnet.hooks` unwraps it.
"""

import click


class UserError(click.ClickException):
    """A mistake that the user can fix: the message names the value, what is allowed, and the fix."""
