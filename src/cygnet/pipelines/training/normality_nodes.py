"""Nodes of training that fit what is normal, and tell which train frames may not be. The others are in `nodes.py`."""

import logging
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pyarrow.dataset as pad
from matplotlib.figure import Figure

from cygnet.model.training.results import Fitted, LeftOut
from cygnet.parameters.training import Training
from cygnet.tables import SUSPICIOUS_FRAMES_COLUMNS, parse_image_id

logger = logging.getLogger(__name__)


def fit_subspace(fitted_classifier: Fitted, train_frames: pad.Dataset, training: Training) -> tuple[Fitted, LeftOut]:
    """Fit what normal patches span, on the normal train frames as they are, and measure each by a fit without it.

    Args:
        fitted_classifier: The fitted detector.
        train_frames: The table `images`.
        training: `normality`.

    Returns:
        The detector with the subspace, see `cygnet.model.training.normality`; and `cygnet.model.training.left_out`.
    """
    from cygnet.model.training.left_out import measure_left_out
    from cygnet.model.training.normality import fit_normality
    from cygnet.model.training_set import iterate_normal_images, normal_image_ids

    images, image_ids = iterate_normal_images(train_frames), normal_image_ids(train_frames)
    explained_frac = training.normality.explained_frac
    with TemporaryDirectory(prefix="cygnet-normality-") as folder:
        path = Path(folder) / "features"
        detector, seen = fit_normality(fitted_classifier.detector, images, image_ids, explained_frac, path)
        return replace(fitted_classifier, detector=detector), measure_left_out(seen, training.normality)


def list_suspicious_frames(left_out: LeftOut) -> pd.DataFrame:
    """List the normal train frames that look contaminated, and tell how many there are.

    Returns:
        `SUSPICIOUS_FRAMES_COLUMNS`, the most distant frame first.
    """
    suspicious, measured = left_out.suspicious, len(left_out.frames)
    if len(suspicious):
        logger.warning(
            "%d of %d normal train images look contaminated: distance up to %.3g, limit %.3g. See "
            "suspicious_frames.png and suspicious_frames.csv in 08_reporting, and label abnormal what is.",
            len(suspicious),
            measured,
            suspicious["distance"].max(),
            left_out.limit,
        )
    else:
        logger.info(
            "None of %d normal train images looks contaminated: suspicious_frames.png in 08_reporting shows the most "
            "distant.",
            measured,
        )
    rows = [(*parse_image_id(name), distance, left_out.limit) for name, distance in suspicious.to_numpy()]
    return pd.DataFrame(rows, columns=SUSPICIOUS_FRAMES_COLUMNS)


def draw_suspicious_frames(left_out: LeftOut, train_frames: pad.Dataset) -> Figure:
    """Draw the most distant suspicious frames under their distance maps, or if there is none, the most distant frames.

    Args:
        left_out: The distances.
        train_frames: The table `images`.
    """
    from cygnet.model.evaluation.gallery import distant_frames
    from cygnet.model.evaluation.plots import draw_suspicious_frames as draw

    cells = distant_frames(left_out.frames, left_out.maps, left_out.limit, train_frames)
    return draw(cells, len(left_out.suspicious), len(left_out.frames))
