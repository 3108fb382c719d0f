"""The catalog's entry for the folder where a watch keeps what it found."""

from cygnet.datasets.base import FolderDataset
from cygnet.errors import UserError
from cygnet.model.scoring.watch_parts import WatchParts
from cygnet.storage import remove, replacing

PROBE_BYTES = 4096
"""An empty file can be written to a full disk."""


class WatchPartsDataset(FolderDataset[WatchParts]):
    """Loads a handle to the folder, which is written while a source is watched."""

    handle = WatchParts

    def check(self) -> None:
        """Check that the folder can be written.

        Raises:
            UserError: It can't: it is read-only, no folder, or on a disk that is full, or ADLS refuses.
        """
        probe = f"{self._filepath}/.cygnet-probe"
        try:
            with replacing(probe) as file:
                file.write_bytes(bytes(PROBE_BYTES))
            remove(probe)
        except OSError as error:
            msg = (
                f"{self._filepath} can't be written ({error.strerror}): make room there, let it be written, or name "
                "another folder for all data, `export CYGNET_DATA=...`."
            )
            raise UserError(msg) from None
