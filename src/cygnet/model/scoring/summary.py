"""Counts of a scoring run for its report."""

import pandas as pd

from cygnet.reports import FrameCounts, SourceCounts


def count_frames(scores_csv: pd.DataFrame, failures: pd.DataFrame, events: pd.DataFrame) -> FrameCounts:
    """Count frames and events, overall and for each source.

    Args:
        scores_csv: `source`, `is_anomalous` of the frames that have a score.
        failures: `source`, `reason`, `count`: frames without a score.
        events: `source` of each event.
    """
    by_reason = failures.groupby("reason")["count"].sum()
    return {
        "frames": len(scores_csv),
        "failed_frames": {str(reason): int(count) for reason, count in by_reason.items()},
        "anomalous_frames": int(scores_csv["is_anomalous"].sum()),
        "events": len(events),
        "sources": _count_by_source(scores_csv, failures, events),
    }


def _count_by_source(scores_csv: pd.DataFrame, failures: pd.DataFrame, events: pd.DataFrame) -> dict[str, SourceCounts]:
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
