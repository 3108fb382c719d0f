"""New axes for the normality part: what new normal frames show that its subspace does not hold.

Nothing is trained. The frames that count are those which their distance alone makes anomalous: false alarms. The fewest
principal axes of their most distant patches are added that bring these down, and that again until every such frame lies
no farther than the median of the champion's normal frames. So no constant is chosen, frames in another order give the
same subspace but for rounding, and a second run with the same frames finds nothing left. The mean stays.

On Ped2, fitted and calibrated on its normal clips, a clip with a bicycle takes 6 axes, one with a cart 34, beside 213.
Of the frames that gave none, 30 % and 90 % were anomalous by distance before, 3 % and 13 % are after. The axes of the
bicycle leave AUROC on the cart's clip at 1.000. If only the mean of the frames had to come down, three times as many of
the cart's would stay anomalous, and a second run would add more.

Every axis brings all patches nearer, abnormal ones too; the gate measures what that costs. The champion's normal
distances are numbers that can't be measured again, so they and the threshold stay. They are too large rather than too
small, because no frame lies farther than before. Calibration on normal video measures them anew.

Neighbours in time are near copies. Each source is therefore cut into 20 stretches: every second one gives the axes,
the others tell what these are worth on frames that have not given any.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import pandas as pd

from cygnet.errors import UserError
from cygnet.model.evaluation.alarm_rate import scores_in_parts
from cygnet.model.scoring.frame_scores import FrameScoring, SeenFrame, see_frame
from cygnet.model.serving.scorer import Calibration, Scorer
from cygnet.model.training_set import spread_evenly
from cygnet.progress import tracked
from cygnet.vision.region import blank_outside
from cygnet.vision.video import read_frames

STRETCHES = 20
MOST_FRAMES = 300
"""No more frames give axes, and no more are scored again, both evenly spread: bounds time and memory for any video."""
SCENE_FRAMES = 20
"""Number of frames, evenly spread, that tell whether the video shows the champion's scene."""
MOST_STRANGE_FRAC = 0.9
"""Share of a frame's patches that are strange, the median over the frames; with more it is another scene. A patch is
strange that lies farther than the median normal frame, which is the mean of its most distant patches. Measured between
seven videos and image sets (dinov2-small, four champions, 34 pairs): another scene always has 1.000. Of frames of the
own scene that lie far, anomalies included, nine in ten have at most 0.37. A change of the light may lie between."""
SeeAgain = Callable[[pd.DataFrame], Iterator[SeenFrame]]
"""From rows of `source` and `frame_index` to the frames as the detector sees them: see `see_again`."""


@dataclass(frozen=True)
class Adaptation:
    """A scorer with more axes, and what they do on the frames that gave none."""

    scorer: Scorer
    axes: int  # added, >= 1
    sources: list[str]  # names
    frames: int  # that have a score, of both halves
    adapting_frames: int  # of the half that gives axes
    distant_frames: int  # of them, those whose distance alone makes them anomalous
    strange_frac: float  # share of a frame's patches that are strange to the champion, the median over frames
    old_anomalous_frac: float | None  # share of the other half that was anomalous; None: that half is empty
    anomalous_frac: float | None  # the same with the new axes


def adapt(frames: pd.DataFrame, scorer: Scorer, see: SeeAgain) -> Adaptation:
    """Add the axes of new normal frames.

    Args:
        frames: `source`, `frame_index`, `classifier_margin` and `normality_distance` of normal frames; each source in
            order of time.
        scorer: The champion's.
        see: Reads some of the frames again.

    Raises:
        UserError: The champion's score has no distance, the frames show another scene, or nothing lies outside.
    """
    strange_frac = check_scene(frames, scorer, see)
    adapts = gives_axes(frames)
    distant = frames[adapts & is_anomalous(frames.assign(classifier_margin=-np.inf), scorer.calibration)]
    images = (image for seen in see(_spread(distant, MOST_FRAMES)) for image in seen.images)
    axes = find_axes(scorer.measure_outside(images), scorer.calibration)
    if not axes.shape[1]:
        msg = (
            f"There is nothing to adapt to: of the {adapts.sum()} frames that may give axes, the champion calls "
            f"{len(distant)} anomalous by their distance, and none lies farther than its median normal frame. Where "
            "the classifier raises the false alarms, use the pipeline calibration."
        )
        raise UserError(msg)
    basis = np.concatenate([scorer.runtime.basis, axes.astype(np.float32)], axis=1)
    adapted = scorer.with_basis(basis)
    return Adaptation(
        adapted,
        axes.shape[1],
        sources=sorted(set(frames["source"])),
        frames=len(frames),
        adapting_frames=int(adapts.sum()),
        distant_frames=len(distant),
        strange_frac=strange_frac,
        **_compare(frames[~adapts], scorer.calibration, adapted, see),
    )


def check_scene(frames: pd.DataFrame, scorer: Scorer, see: SeeAgain) -> float:
    """Give the share of a frame's patches that are strange to the champion, 0-1, the median over some of the frames.

    A false alarm is strange in places, another scene everywhere. What lies outside the area that is looked at does not
    count. Arguments as `adapt`.

    Raises:
        UserError: The champion's score has no distance, or the frames show another scene.
    """
    if scorer.calibration.score == "classifier":
        msg = (
            "The champion's score is the classifier's alone, so what is normal can't be added to it: train one with "
            "training.score=combined."
        )
        raise UserError(msg)
    goal = np.median(scorer.calibration.normal_distances)
    fracs = []
    for seen in filter(lambda frame: frame.images, see(_spread(frames, SCENE_FRAMES))):  # a file may be gone by now
        maps = scorer.measure(seen.images).distance_maps
        maps = np.stack([blank_outside(*each) for each in zip_longest(maps, seen.areas)])
        fracs.append((maps > goal).sum() / max((maps > 0).sum(), 1))
    strange_frac = float(np.median(fracs or 0.0))
    if strange_frac > MOST_STRANGE_FRAC:
        msg = (
            f"The video differs from the champion's scene: in half of its frames at least {strange_frac:.0%} of the "
            f"patches lie farther than the median normal frame, allowed are {MOST_STRANGE_FRAC:.0%}: give video of the "
            "same camera and view, or train a detector for this scene."
        )
        raise UserError(msg)
    return strange_frac


def gives_axes(frames: pd.DataFrame) -> pd.Series:
    """Tell which frames give axes: bool, every second of up to 20 stretches of each source."""
    by_source = frames.groupby("source")["source"]
    sizes = by_source.transform("size")
    return by_source.cumcount() * sizes.clip(upper=STRETCHES) // sizes % 2 == 0


def is_anomalous(frames: pd.DataFrame, calibration: Calibration) -> pd.Series:
    """Tell which frames are anomalous by the champion's own threshold: bool."""
    return scores_in_parts(frames, calibration)["is_anomalous"]


def find_axes(outside: Iterable[np.ndarray], calibration: Calibration) -> np.ndarray:
    """Find axes after which no image lies farther than the median normal one.

    Args:
        outside: What of an image's patches lies outside the subspace, `(B, P, D)` float64 for B images.
        calibration: `normal_distances`, `top_frac`.

    Returns:
        `(D, K)` float64, orthonormal and orthogonal to the subspace; K is 0 if no image lies farther.
    """
    near, goal = calibration.normal_distances[0], float(np.median(calibration.normal_distances))
    images: list[np.ndarray] = []  # (M, D) float32 each: the patches that are not near
    axes, kept = np.empty((0, 0)), 0
    for batch in outside:
        kept = max(1, round(calibration.top_frac * batch.shape[1]))
        axes = np.empty((batch.shape[2], 0))
        images += [image[np.square(image).sum(axis=1) > near].astype(np.float32) for image in batch]
    while far := [top for image in images if len(top := _if_farther(image, kept, near, goal))]:
        patches = np.concatenate(far).astype(np.float64)
        moments, vectors = np.linalg.eigh(patches.T @ patches / len(patches))  # ascending
        left = moments.cumsum()  # mean distance without the axes after each; the last one always helps
        new = vectors[:, min(int((left <= goal).sum()), len(left) - 1) :]
        axes = np.concatenate([axes, new], axis=1)
        images = [image - image @ new.astype(np.float32) @ new.T.astype(np.float32) for image in images]
    return axes


def _if_farther(image: np.ndarray, kept: int, near: float, goal: float) -> np.ndarray:
    """Give the patches that decide an image's distance if that is above the goal, else none.

    Args:
        image: `(M, D)`, its patches that are not near.
        kept: Number of patches whose mean is the distance; those that are near count as `near`.
        near: Squared distance up to which a patch is near.
        goal: At least `near`.
    """
    distances = np.square(image).sum(axis=1)
    top = distances.argsort()[::-1][:kept]
    distance = (distances[top].sum() + (kept - len(top)) * near) / kept if kept else 0.0
    return image[top if distance > goal else []]


def see_again(chosen: pd.DataFrame, sources: pd.DataFrame, scoring: FrameScoring) -> Iterator[SeenFrame]:
    """Read frames again as they were scored.

    Args:
        chosen: `source` and `frame_index`.
        sources: The table of sources.
        scoring: How they were scored; only what decides about pixels is read.

    Yields:
        The frames.
    """
    rows = (
        ({str(name): value for name, value in row.items()}, set(frames["frame_index"]))
        for source, frames in chosen.groupby("source")
        for row in sources[sources["source"] == source].to_dict("records")
    )
    samples = (sample for row, indexes in rows for sample in read_frames(row, indexes))
    for sample in tracked(samples, "Reading frames again", "frames", len(chosen)):
        yield see_frame(sample, scoring)


def _spread(frames: pd.DataFrame, most: int) -> pd.DataFrame:
    return frames.iloc[spread_evenly(len(frames), most)] if len(frames) else frames


def _compare(frames: pd.DataFrame, calibration: Calibration, adapted: Scorer, see: SeeAgain) -> dict[str, float | None]:
    """Give the anomalous share of frames before and after; only what was anomalous can still be so."""
    if frames.empty:
        return {"old_anomalous_frac": None, "anomalous_frac": None}
    before = frames[is_anomalous(frames, calibration)]
    old_anomalous_frac, still = len(before) / len(frames), 0.0
    if len(before):
        images = (seen.images for seen in see(_spread(before, MOST_FRAMES)))
        still = float(adapted.score_frames(images)[0]["is_anomalous"].mean())
    return {"old_anomalous_frac": old_anomalous_frac, "anomalous_frac": old_anomalous_frac * still}
