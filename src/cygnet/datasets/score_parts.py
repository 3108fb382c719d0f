"""The catalog's entry for the folder where scoring keeps its parts."""

from cygnet.datasets.base import FolderDataset
from cygnet.model.scoring.score_parts import ScoreParts


class ScorePartsDataset(FolderDataset[ScoreParts]):
    """Loads a handle to the folder; Spark's workers write into it while they score."""

    handle = ScoreParts
