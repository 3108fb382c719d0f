"""What scoring_report.html promises: no peak is lost, numbers are the report's, names are names, and it stays small."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cygnet.model.evaluation.events import EVENT_COLUMNS
from cygnet.report.pictures import FRAME_PX, jpeg_uri
from cygnet.report.scoring_page import (
    MOST_PEAKS,
    MOST_SOURCE_POINTS,
    MOST_SOURCES,
    choose_peaks,
    thin,
    write_scoring_page,
)
from cygnet.vision.shown import scaled_down
from support.pages import (
    EVENTS,
    HOSTILE_SOURCE,
    LABELS,
    NO_EVENTS,
    NO_SPANS,
    SCORED,
    SPANS,
    Page,
    is_rounded,
    report_of,
    scores_of,
)


def test_an_event_shows_its_peak_and_a_source_without_one_its_highest_frame() -> None:
    peaks = choose_peaks(SCORED, EVENTS)
    assert peaks[["source", "frame_index"]].to_numpy().tolist() == [["pond", 2], ["pond", 4], [HOSTILE_SOURCE, 1]]
    assert peaks["timestamp_s"].tolist() == [0.2, 0.4, 0.1]
    assert peaks["start_s"].isna().tolist() == [False, False, True]


def test_many_sources_and_events_leave_the_highest() -> None:
    scores = scores_of(**{f"s{number:03d}": [0.001 * number, 0.7 + 0.001 * number] for number in range(2 * MOST_PEAKS)})
    events = pd.DataFrame([("s001", 0.1, 0.2, 0.701, 1), ("s063", 0.1, 0.2, 0.763, 1)], columns=EVENT_COLUMNS)
    peaks = choose_peaks(scores, events)
    assert peaks["source"].tolist() == [f"s{number:03d}" for number in range(63, 63 - MOST_SOURCES, -1)]
    one = scores_of(pond=[number / 100 for number in range(100)])
    found = [("pond", number / 10, number / 10 + 0.1, number / 100, number) for number in range(100)]
    highest = choose_peaks(one, pd.DataFrame(found, columns=EVENT_COLUMNS))
    assert highest["frame_index"].tolist() == list(range(100 - MOST_PEAKS, 100))


def test_a_long_timeline_keeps_every_peak() -> None:
    scores = np.full(100_003, 0.1)
    scores[[17, 50_000, 100_002]] = 0.9, 0.8, 0.7
    points = thin(scores_of(pond=scores.tolist()), MOST_SOURCE_POINTS)
    assert len(points) <= MOST_SOURCE_POINTS
    assert points["frame_index"][points["anomaly_score"] > 0.5].tolist() == [17, 50_000, 100_002]
    assert points["timestamp_s"].is_monotonic_increasing


@pytest.fixture(scope="module")
def page() -> str:
    peaks = choose_peaks(SCORED, EVENTS).assign(picture=["data:image/jpeg;base64,AAAA", None, None])
    return write_scoring_page(report_of(SCORED, EVENTS, LABELS), SCORED, EVENTS, SPANS, peaks)


def test_every_number_is_the_reports_own(page: str) -> None:
    peaks = choose_peaks(SCORED, EVENTS)
    sources = [{"peaks": rows.to_dict("records")} for _, rows in peaks.groupby("source", sort=False)]
    facts = {"scoring_report": report_of(SCORED, EVENTS, LABELS), "sources": sources}
    keys = set()
    for number in Page(page).numbers:
        value: Any = facts
        path = json.loads(number["data-key"])
        for key in path:
            value = value[key]
        assert float(number["value"]) == value
        assert is_rounded(number["text"], float(value)), number
        keys.add(tuple(path))
    assert keys >= {
        ("scoring_report", "sources", HOSTILE_SOURCE, "frames"),
        ("scoring_report", "labels", "false_alarms"),
    }
    assert keys >= {("scoring_report", "failed_frames", HOSTILE_SOURCE), ("sources", 0, "peaks", 1, "start_s")}


def test_a_timeline_has_the_scores_the_events_and_the_spans(page: str) -> None:
    figures = [json.loads(part.split("</script>")[0]) for part in page.split('<script type="application/json">')[1:]]
    line, dots = figures[0]["data"]
    assert line["y"] == [0.1, 0.7, 0.9, 0.2, 0.65, 0.1]
    assert (dots["x"], dots["y"]) == ([0.2, 0.4], [0.9, 0.65])
    boxes = [(shape["x0"], shape["x1"]) for shape in figures[0]["layout"]["shapes"] if shape["type"] == "rect"]
    assert boxes == [(0.1, 0.3), (0.4, 0.5), (0.1, 0.25)]
    assert len(figures) == 2


def test_a_name_is_never_markup_and_nothing_is_fetched(page: str) -> None:
    shown = Page(page)
    assert HOSTILE_SOURCE in shown.text
    assert [each.get("type") for each in shown.named("script")] == ["application/json"] * 2 + [None] * 2
    assert all(address.startswith(("data:image/", "#source-")) for address in shown.addresses())
    (policy,) = [meta["content"] for meta in shown.named("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; img-src data: blob:;")


def test_without_labels_events_and_failures_it_says_so() -> None:
    calm = scores_of(pond=[0.1, 0.2])
    report = {**report_of(calm, NO_EVENTS), "failed_frames": {}}
    peaks = choose_peaks(calm, NO_EVENTS).assign(picture=None)
    text = Page(write_scoring_page(report, calm, NO_EVENTS, NO_SPANS, peaks)).text
    assert "There is no event" in text
    assert "Compared with the labels" not in text
    assert "Frames without a score" not in text


def test_the_largest_page_is_below_its_limit() -> None:
    """Noise is what JPEG makes least of."""
    rng = np.random.default_rng(0)
    scores = scores_of(**{f"camera {number:03d} of the pond": rng.random(4000).tolist() for number in range(100)})
    peaks = choose_peaks(scores, NO_EVENTS)
    noise = rng.integers(0, 256, (720, 1280, 3)).astype(np.uint8)
    peaks = peaks.assign(picture=jpeg_uri(scaled_down(noise, FRAME_PX)))
    page = write_scoring_page(report_of(scores, NO_EVENTS), scores, NO_EVENTS, NO_SPANS, peaks)
    assert page.count("data:image/jpeg") == MOST_SOURCES
    assert len(page.encode()) < 10e6


@pytest.mark.parametrize(("highest_of_others", "is_said"), [(0.9, True), (0.1, False)])
def test_a_video_that_is_anomalous_throughout_gets_advice(highest_of_others: float, is_said: bool) -> None:
    scores = scores_of(pond=[0.95, *[highest_of_others] * 9])
    events = pd.DataFrame([("pond", 0.0, 0.9, 0.95, 0)], columns=EVENT_COLUMNS)
    peaks = choose_peaks(scores, events).assign(picture=None)
    page = write_scoring_page(report_of(scores, events), scores, events, NO_SPANS, peaks)
    assert ("Nearly every frame" in page) is is_said
