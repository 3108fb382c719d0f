"""Two nodes of `scoring_report.html`: which peaks it shows, and the page, where the timeline of each source zooms.

Sources, frames and events can be many, and the page is one file of less than 10 MB: what it shows is bounded.
"""

from typing import Any

import numpy as np
import pandas as pd

from cygnet.report.page import render
from cygnet.reports import ScoringReport

MOST_SOURCES = 32
"""Sources with a timeline, those with the highest scores; the page lists the others."""

MOST_PEAKS = 32
"""Pictures in all; each source that is shown has one at least."""

MOST_POINTS, MOST_SOURCE_POINTS = 60_000, 20_000
"""Points of all timelines, and of one; of more frames each point is the highest of a stretch."""

NORMAL_COLOUR, ABNORMAL_COLOUR, THRESHOLD_COLOUR = "#2f6f9f", "#d9642c", "#444444"


def choose_peaks(scores_csv: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    """Choose the frames that stand for a source: the peaks of its highest events, or its highest frame without any.

    Args:
        scores_csv: The frames that have a score.
        events: What was found in them.

    Returns:
        `source`, `frame_index`, `timestamp_s`, `anomaly_score`, `start_s` and `end_s` (NaN without an event); the
        sources with the highest scores first, each in order of time.
    """
    highest = scores_csv.loc[scores_csv.groupby("source")["anomaly_score"].idxmax()]
    highest = highest.sort_values(["anomaly_score", "source"], ascending=[False, True]).head(MOST_SOURCES)
    peaks = events.rename(columns={"peak_frame_index": "frame_index"}).sort_values("peak_score", ascending=False)
    peaks = peaks.groupby("source").head(max(MOST_PEAKS // len(highest), 1))
    calm = highest[~highest["source"].isin(events["source"])]
    keys = ["source", "frame_index"]
    chosen = pd.concat([peaks[[*keys, "start_s", "end_s"]], calm[keys]]).astype({"frame_index": "int64"})
    timed = chosen.merge(scores_csv[[*keys, "timestamp_s", "anomaly_score"]], on=keys)
    order = {source: place for place, source in enumerate(highest["source"])}
    timed = timed[timed["source"].isin(order)].assign(place=timed["source"].map(order))
    return timed.sort_values(["place", "timestamp_s"], ignore_index=True).drop(columns="place")


def write_scoring_page(
    scoring_report: ScoringReport,
    scores_csv: pd.DataFrame,
    events: pd.DataFrame,
    labelled_spans: pd.DataFrame,
    peak_pictures: pd.DataFrame,
) -> str:
    """Write the page.

    Args:
        scoring_report: The content of `scoring_report.json`.
        scores_csv: The frames that have a score; each source in order of time.
        events: What was found in them.
        labelled_spans: What is labelled abnormal.
        peak_pictures: What `choose_peaks` gave, with the data URI of each frame in `picture`, None without one.
    """
    from plotly.offline import get_plotlyjs

    frames_of = dict(iter(scores_csv.groupby("source")))
    sources = []
    for name, peaks in peak_pictures.groupby("source", sort=False):
        events_of, spans = events[events["source"] == name], labelled_spans[labelled_spans["source"] == name]
        points = thin(frames_of[name], min(MOST_POINTS // peak_pictures["source"].nunique(), MOST_SOURCE_POINTS))
        figure = draw_timeline(points, (events_of, spans, peaks), scoring_report["threshold"])
        rows = [{str(key): value for key, value in row.items()} for row in peaks.to_dict("records")]
        sources.append({"name": name, "figure": figure, "peaks": rows, "points": len(points)})
    facts = {"scoring_report": scoring_report, "sources": sources, "plotly": get_plotlyjs()}
    return render("scoring_report.html", facts)


def thin(frames: pd.DataFrame, most: int) -> pd.DataFrame:
    """Keep the highest frame of each stretch, so that at most so many are left and no peak is lost."""
    stretch = np.arange(len(frames)) // max(-(-len(frames) // most), 1)
    return frames.loc[frames.groupby(stretch)["anomaly_score"].idxmax()]


def draw_timeline(
    frames: pd.DataFrame, marked: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame], threshold: float
) -> dict[str, Any]:
    """Describe a figure to Plotly: the score over time, a slider below it to zoom, and what is marked.

    Args:
        frames: `timestamp_s`, `anomaly_score`, in order of time.
        marked: Events, shaded (`start_s`, `end_s`); labelled spans, as bars above (the same); peaks, as dots.
        threshold: Score from which a frame is anomalous, 0-1.
    """
    events, spans, peaks = marked
    line = {"color": NORMAL_COLOUR, "width": 1.2}
    dots = {"color": ABNORMAL_COLOUR, "size": 8}

    def xy(rows: pd.DataFrame) -> dict[str, Any]:
        return {"x": rows["timestamp_s"].round(3).tolist(), "y": rows["anomaly_score"].astype(float).round(4).tolist()}

    def boxes(rows: pd.DataFrame, low: float, high: float, colour: str, opacity: float) -> list[dict[str, Any]]:
        look = {"type": "rect", "y0": low, "y1": high, "fillcolor": colour, "opacity": opacity, "line": {"width": 0}}
        return [{**look, "x0": start, "x1": end} for start, end in rows[["start_s", "end_s"]].to_numpy(float).tolist()]

    at_threshold = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": threshold, "y1": threshold}
    return {
        "data": [
            {"type": "scatter", "mode": "lines", "name": "score", "line": line, **xy(frames)},
            {"type": "scatter", "mode": "markers", "name": "peak", "marker": dots, **xy(peaks)},
        ],
        "layout": {
            "height": 330,
            "margin": {"l": 44, "r": 12, "t": 28, "b": 40},
            "showlegend": False,
            "hovermode": "closest",
            "xaxis": {"title": {"text": "time (s)"}, "rangeslider": {"thickness": 0.14}},
            "yaxis": {"title": {"text": "score"}, "range": [0, 1.06], "fixedrange": True},
            "shapes": [
                {**at_threshold, "line": {"color": THRESHOLD_COLOUR, "width": 1, "dash": "dash"}},
                *boxes(events, 0, 1, ABNORMAL_COLOUR, 0.3),
                *boxes(spans, 1.01, 1.05, THRESHOLD_COLOUR, 1),
            ],
        },
    }
