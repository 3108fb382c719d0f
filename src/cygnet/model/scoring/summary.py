"""Counts of a scoring run for its report."""

import pandas as pd

from cygnet.reports import SourceCounts


def count_by_source(scores_csv: pd.DataFrame, failures: pd.DataFrame, events: pd.DataFrame) -> dict[str, SourceCounts]:
    """Count the frames and events of each source, sorted by name.

    Args:
        scores_csv: `source`, `is_anomalous` of the frames that have a score.
        failures: `source`, `count`: frames without a score.
        events: `source` of each event.
    """
    flagged = scores_csv[scores_csv["is_anomalous"]]
    return {
        str(source): {
            "frames": int((scores_csv["source"] == source).sum()),
            "anomalous_frames": int((flagged["source"] == source).sum()),
            "failed_frames": int(failures.loc[failures["source"] == source, "count"].sum()),
            "events": int((events["source"] == source).sum()),
        }
        for source in sorted({*scores_csv["source"], *failures["source"]})
    }
