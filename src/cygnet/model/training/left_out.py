"""How far each normal train frame lies from a subspace that was fitted without it: does it belong there?

A subspace that has seen an anomaly explains it. So a frame is measured by a subspace of other frames. Its neighbours in
time are near copies of it, and an anomaly stays for a while: leaving out the frame alone would change nothing. The
frames, by source and time, are therefore cut into 20 stretches, and a frame is measured by what has seen neither its
own stretch nor the two beside it. That leaves out whole an anomaly that lasts for a twentieth of the frames, and keeps
most of one frame's surroundings: with longer stretches a slow change of the scene would look like an anomaly.

The network does not run again: the covariances of the stretches are merged, and the features come from a file.
"""

import heapq
from collections.abc import Iterator
from itertools import chain

import numpy as np
import pandas as pd

from cygnet.model.network.normality import Subspace
from cygnet.model.serving.scorer import mean_of_largest
from cygnet.model.training.normality import IMAGES_AT_ONCE, Covariance, FrameFeatures
from cygnet.model.training.results import LeftOut
from cygnet.parameters.training import Normality
from cygnet.progress import tracked

FEWEST_FRAMES = 10
"""Of fewer frames, median and spread say nothing: none is measured."""
MAPS = 12
"""Number of frames, the most distant ones, whose maps are kept."""
TO_DEVIATION = 1.4826
"""From the median absolute deviation to the standard deviation, for a normal distribution."""
SMALLEST_DEVIATION = 0.1
"""The deviation counts as at least this share of the median: frames of a still scene differ by noise alone."""


def measure_left_out(seen: FrameFeatures, normality: Normality) -> LeftOut:
    """Measure every frame, and set the limit from which one is suspicious.

    The limit is the median plus `suspicious_from` robust deviations, which less than half of the frames can't move far.
    In the normal frames of four videos (871 frames) the largest distance is 4.9 deviations above the median, on Ped2.
    Each of 25 frames of another Ped2 clip, which show an anomaly, is more than 30 above it among the 465 normal ones.

    Args:
        seen: The features of all normal train frames.
        normality: `explained_frac`, `top_frac`, `suspicious_from`.

    Returns:
        Nothing measured, and an infinite limit, if there are fewer than `FEWEST_FRAMES` frames.
    """
    distances = np.zeros(len(seen.image_ids) if len(seen.image_ids) >= FEWEST_FRAMES else 0)
    most_distant: list[tuple[float, int, np.ndarray]] = []
    parts = _iterate_maps(seen, normality.explained_frac) if len(distances) else ()
    what = "Measuring frames by a fit without them"
    for places, maps in tracked(parts, what, "images", len(distances), lambda part: len(part[0])):
        distances[places] = mean_of_largest(maps, normality.top_frac)
        measured = zip(distances[places].tolist(), places.tolist(), maps, strict=True)
        most_distant = heapq.nlargest(MAPS, chain(most_distant, measured), key=lambda frame: frame[:2])
    frames = pd.DataFrame({"image_id": seen.image_ids[: len(distances)], "distance": distances})
    return LeftOut(
        frames.sort_values("distance", ascending=False, kind="stable", ignore_index=True),
        find_limit(distances, normality.suspicious_from),
        {seen.image_ids[place]: distance_map for _, place, distance_map in most_distant},
    )


def find_limit(distances: np.ndarray, suspicious_from: float) -> float:
    """Return the median of distances `(N,)`, >= 0, plus so many robust deviations; infinity if N is 0."""
    if not len(distances):
        return float("inf")
    median = np.median(distances)
    deviation = TO_DEVIATION * np.median(np.abs(distances - median))
    return float(median + suspicious_from * max(deviation, SMALLEST_DEVIATION * median))


def _iterate_maps(seen: FrameFeatures, explained_frac: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield places of frames, `(B,)` int64, and their distance maps, `(B, G, G)` float32."""
    subspace = Subspace(seen.features.shape[2], 1, 1)
    for stretch in range(len(seen.counted)):
        others = [part for number, part in enumerate(seen.counted) if abs(number - stretch) > 1]
        Covariance.merged(others).set_subspace(subspace, explained_frac)
        (members,) = (seen.stretches == stretch).nonzero()
        for start in range(0, len(members), IMAGES_AT_ONCE):
            places = members[start : start + IMAGES_AT_ONCE]
            yield places, subspace(seen.features[places]).numpy()
