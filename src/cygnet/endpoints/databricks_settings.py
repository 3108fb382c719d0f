"""What the catalog sets of an endpoint at Databricks, and the check that no secret stands there in plain text."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cygnet.errors import UserError

SECRET_REFERENCE = re.compile(r"\{\{secrets/[\w.@-]+/[\w.@-]+\}\}")
SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|CREDENTIAL|CONNECTION_?STRING|(API|ACCESS|ACCOUNT|PRIVATE)_?KEY|(^|_)(KEY|SAS|PAT|PWD)(_|$)",
    re.IGNORECASE,
)
SECRET_VALUE = re.compile(
    r"""^(dapi|dose|eyJ) | -----BEGIN | \{\{ | Q~         # Databricks tokens, JWTs, PEM, misspelt references, Azure
    | ://[^/\s]*:[^/\s]*@ | (?i:AccountKey|sig|pwd|password)=  # in addresses and connection strings
    | (?=[A-Za-z+]*\d)(?=[\d+]*[A-Za-z])[A-Za-z0-9+]{20,}   # long, letters and digits mixed
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class EndpointSettings:
    """Settings of an endpoint; `cygnet.datasets.databricks_endpoint` says what each one means."""

    name: str
    workload_size: str
    workload_type: str
    scale_to_zero: bool
    environment_vars: Mapping[str, str]
    ready_timeout_s: float
    poll_interval_s: float
    secret_scope: str | None

    def check(self) -> None:
        """Check the workload type and the environment variables.

        Raises:
            UserError: The workload type is unknown, or an environment variable looks like a secret and is not a
                reference to one. The message leaves its value out.
        """
        from databricks.sdk.service.serving import ServingModelWorkloadType

        if self.workload_type not in ServingModelWorkloadType.__members__:
            msg = (
                f"workload_type of endpoint {self.name} is '{self.workload_type}': allowed are "
                f"{', '.join(ServingModelWorkloadType.__members__)}."
            )
            raise UserError(msg)
        for name, value in self.environment_vars.items():
            looks_secret = SECRET_NAME.search(name) or SECRET_VALUE.search(value)
            if looks_secret and not SECRET_REFERENCE.fullmatch(value):
                msg = (
                    f"Environment variable '{name}' of endpoint {self.name} looks like a secret: store its value in a "
                    "secret scope and write {{secrets/SCOPE/KEY}} instead."
                )
                raise UserError(msg)
