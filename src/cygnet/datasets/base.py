"""What a dataset may offer beyond loading and saving: the protocols by which `cygnet.preflight` knows datasets."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class HasSettings(Protocol):
    """A dataset whose settings can be wrong."""

    def check_settings(self) -> None:
        """Look at the settings alone. Raises UserError."""


@runtime_checkable
class Checked(Protocol):
    """A dataset that can tell, before the run starts, whether it can be loaded."""

    def check(self) -> object:
        """Look at what is stored. Raises UserError."""


@runtime_checkable
class Stored(Protocol):
    """A dataset that is a folder; several entries of the catalog may name the same one."""

    @property
    def folder(self) -> str:
        """The folder's path."""


@runtime_checkable
class MadeWith(Protocol):
    """A dataset that records the parameters it was made with."""

    def made_with(self) -> dict[str, Any]:
        """Give the recorded values by dotted parameter name. Raises UserError."""
