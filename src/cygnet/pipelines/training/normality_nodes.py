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
from cygnet.progress import tracked
from cygnet.scene import TrainingScene
from cygnet.tables import SUSPICIOUS_FRAMES_COLUMNS, parse_image_id

logger = logging.getLogger(__name__)


FIXED_CHANGING_FRAC = 0.5
MOVING_CHANGING_FRAC = 0.05
"""Share of the picture that changes from frame to frame: more than the first contradicts a fixed camera, less than the
second a moving one. `cygnet.vision.camera.changing_frac` has what was measured."""


def fit_subspace(
    fitted_classifier: Fitted, train_frames: pad.Dataset, training: Training, training_scene: TrainingScene
) -> tuple[Fitted, LeftOut]:
    """Fit what normal patches span, on the normal train frames, and measure each by a fit without it.

    Where the camera moves, variants of the frames are fitted too. A camera that contradicts the frames gets a warning.

    Args:
        fitted_classifier: The fitted detector.
        train_frames: The table `images`.
        training: `normality`.
        training_scene: `camera`.

    Returns:
        The detector with the subspace, see `cygnet.model.training.normality`; and `cygnet.model.training.left_out`.
    """
    from cygnet.model.training.left_out import measure_left_out
    from cygnet.model.training.normality import fit_normality, with_variants
    from cygnet.model.training_set import iterate_normal_images, normal_image_ids

    _warn_of_camera(train_frames, training_scene.camera)
    image_ids = normal_image_ids(train_frames)
    images = tracked(iterate_normal_images(train_frames), "Fitting what is normal", "images", len(image_ids))
    if training_scene.camera == "moving":
        images = with_variants(images)
    explained_frac = training.normality.explained_frac
    with TemporaryDirectory(prefix="cygnet-normality-") as folder:
        path = Path(folder) / "features"
        detector, seen = fit_normality(fitted_classifier.detector, images, image_ids, explained_frac, path)
        return replace(fitted_classifier, detector=detector), measure_left_out(seen, training.normality)


def _warn_of_camera(train_frames: pad.Dataset, camera: str) -> None:
    """Warn with numbers where the train frames contradict `scene.camera`."""
    from cygnet.model.training_set import measure_changing_frac

    frac = measure_changing_frac(train_frames)
    contradiction = {
        "fixed": (frac > FIXED_CHANGING_FRAC, "more", FIXED_CHANGING_FRAC, "the camera moves", "moving"),
        "moving": (frac < MOVING_CHANGING_FRAC, "less", MOVING_CHANGING_FRAC, "the camera stays where it is", "fixed"),
    }
    found, relation, limit, what, other = contradiction[camera]
    if found:
        logger.warning(
            "scene.camera is %s, but %.0f %% of the picture changes from one train frame to another, %s than %.0f %%. "
            "If %s, set scene.camera=%s and run again from augmentation on.",
            camera,
            100 * frac,
            relation,
            100 * limit,
            what,
            other,
        )


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
