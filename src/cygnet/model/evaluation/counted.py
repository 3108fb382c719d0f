"""Which rows count in a metric: not the control kind `null`, and of a frame that is labelled abnormal one image.

A label says that a frame is abnormal, not in which of its tiles. Its image with the highest score stands for it, as the
highest tile gives a frame its score wherever frames are scored. Counted as images, the other tiles would be misses.
"""

import pandas as pd

from cygnet.tables import KIND_NULL, KIND_REAL


def counted_rows(rows: pd.DataFrame, scores: str = "anomaly_score") -> pd.DataFrame:
    """Choose the rows that count, in their order.

    Args:
        rows: `frame_id`, `kind` and the scores; a row for each image.
        scores: The column of scores, the larger the more abnormal.
    """
    rows = rows[rows["kind"] != KIND_NULL]
    counts = (rows["kind"] != KIND_REAL).to_numpy(copy=True)
    counts[~counts] = rows[~counts].groupby("frame_id")[scores].rank(method="first", ascending=False).to_numpy() == 1
    return rows[counts]
