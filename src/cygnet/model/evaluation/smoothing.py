"""Smoothing of the scores of a video in time: noise differs from frame to frame, what is abnormal stays.

It is causal: the score of a frame depends on no later one, so that a live video can be scored alike. Logits are
averaged rather than scores, which are close to 0 or 1 for most frames. A folder of images has no time and is not
smoothed.
"""

import numpy as np
import pandas as pd

from cygnet.model.serving.scorer import softmax_abnormal

TOLERANCE_S = 1e-3
"""Containers store times in steps of up to a millisecond."""

SMOOTHED = ["logit_abnormal", "logit_normal", "anomaly_score"]


def smooth_scores(scores: pd.DataFrame, smoothing_s: float) -> pd.DataFrame:
    """Average the logits of each frame of a video and of the frames less than `smoothing_s` before it.

    Args:
        scores: `source`, `media`, `frame_index`, `timestamp_s` and `SMOOTHED` of frames that have a score; its index
            is unique.
        smoothing_s: Seconds, >= 0.

    Returns:
        The rows with `SMOOTHED` replaced, float32; a frame without such predecessors keeps its score bit for bit.
    """
    smoothed = scores.copy()
    videos = scores[scores["media"] == "video"].sort_values("frame_index")
    for _, frames in videos.groupby("source"):
        times_s, logits = frames["timestamp_s"].to_numpy(), frames["logit_abnormal"].to_numpy(np.float64)
        ends = np.arange(1, len(times_s) + 1)
        starts = np.minimum(np.searchsorted(times_s, times_s - smoothing_s + TOLERANCE_S), ends - 1)
        sums = np.add.reduceat(np.append(logits, 0.0), np.stack([starts, ends], axis=1).ravel())[::2]
        logit = (sums / (ends - starts)).astype(np.float32)
        is_alone = ends - starts == 1
        changed = frames.index[~is_alone], SMOOTHED
        smoothed.loc[changed] = np.stack([logit, -logit, softmax_abnormal(logit, -logit)], axis=1)[~is_alone]
    return smoothed
