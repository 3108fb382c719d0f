"""The node that draws the frames at the peaks: it needs both Spark, for their maps, and the videos."""

import pandas as pd
from pyspark.sql import DataFrame

from cygnet.model.scoring.clips import Scored, annotated_stills
from cygnet.pipelines.scoring.spark_scoring import ScoringRun, iterate_scored
from cygnet.report.pictures import FRAME_PX, jpeg_uri
from cygnet.vision.shown import scaled_down


def draw_peaks(
    scored_sources: pd.DataFrame, scores: DataFrame, peaks: pd.DataFrame, scoring_run: ScoringRun
) -> pd.DataFrame:
    """Read the frames at the peaks again, and draw them with score and abnormal region.

    Args:
        scored_sources: The table of sources.
        scores: The table.
        peaks: `source`, `frame_index` of each.
        scoring_run: `threshold`, `area`.

    Returns:
        `peaks` with a column `picture`: the data URI of each, None where the frame does not decode any more.
    """
    scored = Scored(None, scoring_run.threshold, scoring_run.area)
    pictures: dict[tuple[str, int], str] = {}
    for source, frames in peaks.groupby("source"):
        rows = iterate_scored(scores, str(source), frames["frame_index"].tolist())
        files = scored_sources[scored_sources["source"] == source]
        for index, still in annotated_stills(files, rows, scored):
            pictures[str(source), index] = jpeg_uri(scaled_down(still, FRAME_PX))
    keys = zip(peaks["source"], peaks["frame_index"], strict=True)
    return peaks.assign(picture=pd.Series([pictures.get(key) for key in keys], dtype=object))
