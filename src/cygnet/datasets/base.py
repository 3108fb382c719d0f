"""What our datasets have in common: one direction only, and checks before a run starts.

A catalog entry that only loads, or only saves, refuses the other direction with a sentence that names it. Kedro itself
would only say that a method is not implemented.
"""

from collections.abc import Callable
from typing import Any, Generic, NoReturn, Protocol, TypeVar, runtime_checkable

from kedro.io import AbstractDataset, DatasetError

from cygnet.storage import absolute

Loaded = TypeVar("Loaded")
Saved = TypeVar("Saved")


class ReadOnly(AbstractDataset[Any, Loaded], Generic[Loaded]):
    """Base of datasets that only load."""

    def save(self, data: Any) -> NoReturn:  # noqa: ARG002 - Kedro's signature
        """Refuse.

        Raises:
            DatasetError: Always.
        """
        msg = f"{self} is read-only: remove it from the outputs of your nodes."
        raise DatasetError(msg)


class FolderDataset(ReadOnly[Loaded]):
    """Base of datasets that load a handle to a folder, whether or not it exists; a subclass says which handle."""

    handle: Callable[[str], Loaded]

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Describe the folder, on any storage; of a local one all workers must see the path."""
        self._filepath = absolute(filepath)
        self.metadata = metadata

    def load(self) -> Loaded:
        """Give the handle."""
        return self.handle(self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


class WriteOnly(AbstractDataset[Saved, Any], Generic[Saved]):
    """Base of datasets that only save."""

    def load(self) -> NoReturn:
        """Refuse.

        Raises:
            DatasetError: Always.
        """
        msg = f"{self} is write-only: remove it from the inputs of your nodes."
        raise DatasetError(msg)


@runtime_checkable
class Checked(Protocol):
    """A dataset that a run can start from, and that can be checked before it does."""

    def check(self) -> object:
        """Look at what is stored.

        Raises:
            UserError: It can't be loaded; one sentence says why.
        """


@runtime_checkable
class SettingsChecked(Protocol):
    """A dataset whose settings can be checked before the run, whether it is loaded or saved."""

    def check_settings(self) -> None:
        """Look at the settings alone, not at what is stored.

        Raises:
            UserError: They can't work; one sentence says why.
        """


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
        """Give the recorded values by dotted parameter name.

        Raises:
            UserError: The record can't be read.
        """
