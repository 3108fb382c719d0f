"""The catalog's entry for the folder where a watch keeps what it found."""

from cygnet.datasets.base import FolderDataset
from cygnet.model.scoring.watch_parts import WatchParts


class WatchPartsDataset(FolderDataset[WatchParts]):
    """Loads a handle to the folder, which is written while a source is watched."""

    handle = WatchParts
