"""The resolver `${secret:scope/key}`, for credentials.yml alone: a value from a Databricks secret scope.

Scopes can be backed by Azure Key Vault. Kedro never logs credentials and hands them to datasets only; in any other file
a secret would end up among the parameters or tags of a run, so there the resolver must not be used (a test looks). No
dataset of Cygnet's wants such an entry: for ADLS see `cygnet.storage`.
"""

from cygnet.errors import UserError


def resolve_secret(reference: str) -> str:
    """Fetch a secret with the rights of whoever runs this, by the environment's authentication.

    Args:
        reference: `scope/key`.

    Raises:
        UserError: The reference is no `scope/key`, or the workspace does not give the secret; the message has no value.
    """
    scope, separator, key = reference.partition("/")
    if not (scope and separator and key):
        msg = f"The secret '{reference}' must be named as scope/key."
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
    except (PermissionDenied, Unauthenticated):  # whose text may repeat what was sent
        msg = f"The secret '{reference}' can't be read: the workspace refused the credentials, or they may not read it."
        raise UserError(msg) from None
    except (DatabricksError, ValueError) as error:
        msg = f"The secret '{reference}' can't be read: {str(error).splitlines()[0]}"
        raise UserError(msg) from error
