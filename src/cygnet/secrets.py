"""The resolver `${secret:scope/key}`: a value from a Databricks secret scope, for credentials.yml alone.

A scope can be backed by Azure Key Vault. Kedro passes credentials only to datasets and does not log them. From any
other file a secret would become a parameter or tag of the run, which is why the resolver must not be used there (a test
checks). No dataset of Cygnet needs such an entry; for ADLS see `cygnet.storage`.
"""

import os

from cygnet.errors import UserError


def read_secret(variable: str, reference: str | None) -> str:
    """Give the value of an environment variable, or of the secret `scope/key` instead; `""`: the variable is not set.

    Raises:
        UserError: See `resolve_secret`.
    """
    value = os.environ.get(variable, "") if reference is None else resolve_secret(reference)
    return value.strip()


def resolve_secret(reference: str) -> str:
    """Fetch a secret, signed in as the environment says.

    Args:
        reference: `scope/key`.

    Raises:
        UserError: The reference is not `scope/key`, or the workspace refuses; the message never has the value.
    """
    scope, separator, key = reference.partition("/")
    if not (scope and separator and key):
        msg = f"The secret reference '{reference}' must have the form scope/key."
        raise UserError(msg)
    try:
        from databricks.sdk import WorkspaceClient
        from databricks.sdk.errors import PermissionDenied, Unauthenticated
        from databricks.sdk.errors.base import DatabricksError
    except ImportError as error:
        msg = "Secrets need `pip install 'cygnet[databricks]'`."
        raise UserError(msg) from error
    try:
        return WorkspaceClient().dbutils.secrets.get(scope, key)
    except (PermissionDenied, Unauthenticated):  # their text may repeat the credentials
        msg = f"The secret '{reference}' can't be read: the workspace refused the credentials or denied access."
        raise UserError(msg) from None
    except (DatabricksError, ValueError) as error:
        msg = f"The secret '{reference}' can't be read: {str(error).splitlines()[0]}"
        raise UserError(msg) from error
