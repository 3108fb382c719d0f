"""What events promise: the rule of hysteresis, gaps and duration, and metrics that can be counted by hand."""

import numpy as np
import pandas as pd
import pytest

from cygnet.model.evaluation.events import (
    EVENT_COLUMNS,
    find_events,
    label_spans,
    measure_events,
    measure_known_events,
)
from cygnet.parameters.scoring import Events
from cygnet.reports import EventMetrics
from cygnet.tables import ABNORMAL, NORMAL
from support.reports import assert_conforms

PLAIN = Events(close_frac=1.0, max_gap_s=0.0, min_duration_s=0.0)


def scores_of(*values: float, source: str = "a", spacing_s: float = 0.1, step: int = 1) -> pd.DataFrame:
    """Frames of one source, evenly spaced."""
    places = np.arange(len(values))
    return pd.DataFrame(
        {
            "source": source,
            "frame_index": step * places,
            "timestamp_s": spacing_s * places,
            "anomaly_score": np.array(values, np.float32),
        }
    )


def labels_of(**frames: int) -> pd.DataFrame:
    """Labels by frame: `a_3=ABNORMAL` is about frame 3 of source a."""
    rows = [("/".join(name.split("_")), label) for name, label in frames.items()]
    return pd.DataFrame(rows, columns=["frame_id", "label"])


def times(events: pd.DataFrame) -> list[tuple[float, float]]:
    return [(round(start, 6), round(end, 6)) for start, end in events[["start_s", "end_s"]].to_numpy().tolist()]


def test_an_event_ends_where_its_last_frame_does_and_knows_its_peak() -> None:
    events = find_events(scores_of(0.1, 0.6, 0.9, 0.7, 0.1), 0.5, PLAIN)
    assert list(events.columns) == EVENT_COLUMNS
    assert times(events) == [(0.1, 0.4)]
    assert events.iloc[0][["source", "peak_frame_index"]].tolist() == ["a", 2]
    assert events["peak_score"].iloc[0] == np.float32(0.9)


def test_times_have_no_rounding_errors() -> None:
    events = find_events(scores_of(0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.1), 0.5, PLAIN)
    assert events[["start_s", "end_s"]].to_numpy().tolist() == [[0.3, 0.6]]


def test_a_score_at_the_threshold_opens_and_one_at_the_low_threshold_stays_open() -> None:
    events = find_events(scores_of(0.4, 0.8, 0.4, 0.399, 0.4), 0.8, PLAIN.model_copy(update={"close_frac": 0.5}))
    assert times(events) == [(0.1, 0.3)]


def test_a_gap_is_joined_up_to_its_length_and_not_beyond() -> None:
    scores = scores_of(0.9, 0, 0, 0.9, 0, 0, 0, 0.9)
    assert times(find_events(scores, 0.5, PLAIN.model_copy(update={"max_gap_s": 0.2}))) == [(0, 0.4), (0.7, 0.8)]


def test_duration_is_of_the_joined_event_and_the_limit_itself_is_kept() -> None:
    rule = Events(close_frac=1.0, max_gap_s=0.1, min_duration_s=0.3)
    scores = scores_of(0.9, 0, 0.9, 0, 0, 0.9, 0.9, 0, 0, 0.9)
    assert times(find_events(scores, 0.5, rule)) == [(0, 0.3)]


def test_times_that_are_rounded_to_milliseconds_cost_no_event() -> None:
    scores = scores_of(0, 0.9, 0.9, 0.9, 0, 0)
    scores["timestamp_s"] = (np.arange(6) / 15).round(3)
    rule = Events(close_frac=1.0, max_gap_s=0.0, min_duration_s=0.2)
    assert len(find_events(scores, 0.5, rule)) == 1


def test_sources_are_apart_and_without_an_anomaly_there_is_no_event() -> None:
    scores = pd.concat([scores_of(0, 0.9, source="a"), scores_of(0.9, 0, source="b"), scores_of(0, 0, source="c")])
    events = find_events(scores, 0.5, PLAIN.model_copy(update={"max_gap_s": 9.0}))
    assert events["source"].tolist() == ["a", "b"]
    assert list(find_events(scores, 0.95, PLAIN).columns) == EVENT_COLUMNS


def test_a_lone_frame_is_an_event_if_any_duration_will_do() -> None:
    assert len(find_events(scores_of(0.9), 0.5, PLAIN)) == 1


@pytest.mark.parametrize("seed", range(60))
def test_events_keep_their_rule_on_any_series(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rule = Events(
        close_frac=rng.uniform(0.2, 1), max_gap_s=rng.integers(0, 4) * 0.1, min_duration_s=rng.integers(0, 4) * 0.1
    )
    scores = scores_of(*rng.choice([0.1, 0.3, 0.45, 0.6, 0.9], 40))
    low, spacing_s = 0.5 * rule.close_frac, 0.1
    events = find_events(scores, 0.5, rule)
    whole = find_events(scores, 0.5, rule.model_copy(update={"min_duration_s": 0.0}))
    assert set(times(events)) == {
        (start, end) for start, end in times(whole) if end - start >= rule.min_duration_s - 1e-6
    }
    inside = np.zeros(len(scores), bool)
    end_before_s = -np.inf
    for event in whole.itertuples():
        assert event.start_s - end_before_s > rule.max_gap_s + 1e-6
        end_before_s = event.end_s
        places = (
            (scores["timestamp_s"] > event.start_s - 1e-6) & (scores["timestamp_s"] < event.end_s - 1e-6)
        ).to_numpy()
        frames = scores[places]
        inside |= places
        assert len(frames) == round((event.end_s - event.start_s) / spacing_s)
        assert frames["anomaly_score"].iloc[0] >= 0.5
        assert frames["anomaly_score"].iloc[-1] >= np.float32(low)
        assert event.peak_score == frames["anomaly_score"].max()
        assert scores.set_index("frame_index")["anomaly_score"][event.peak_frame_index] == event.peak_score
        is_quiet = "".join("q" if score < np.float32(low) else " " for score in frames["anomaly_score"])
        if rule.max_gap_s == 0:
            assert "q" not in is_quiet
    assert (scores.loc[~inside, "anomaly_score"] < 0.5).all()


def test_labelled_frames_close_together_are_one_span_unless_one_between_is_normal() -> None:
    scores = scores_of(*[0.0] * 12)
    spans, unused = label_spans(scores, labels_of(a_1=ABNORMAL, a_3=ABNORMAL, a_9=ABNORMAL), NORMAL, 0.2)
    assert (times(spans), unused) == ([(0.1, 0.4), (0.9, 1.0)], 0)
    spans, _ = label_spans(scores, labels_of(a_1=ABNORMAL, a_2=NORMAL, a_3=ABNORMAL), NORMAL, 0.2)
    assert times(spans) == [(0.1, 0.2), (0.3, 0.4)]


def test_a_label_is_about_the_nearest_scored_frame_and_unused_without_one() -> None:
    scores = scores_of(0, 0, 0, step=10)
    spans, unused = label_spans(
        scores, labels_of(a_6=ABNORMAL, a_29=ABNORMAL, a_40=ABNORMAL, b_1=ABNORMAL), NORMAL, 0.0
    )
    assert (times(spans), unused) == ([(0.1, 0.3)], 2)


def test_where_the_default_is_abnormal_labels_name_what_is_normal() -> None:
    spans, _ = label_spans(scores_of(0, 0, 0, 0), labels_of(a_1=NORMAL), ABNORMAL, 1.0)
    assert times(spans) == [(0, 0.1), (0.2, 0.4)]


def test_without_labels_there_are_no_spans() -> None:
    spans, unused = label_spans(scores_of(0, 0), labels_of(), NORMAL, 1.0)
    assert (len(spans), unused) == (0, 0)


def test_recall_delay_and_false_alarms_are_those_counted_by_hand() -> None:
    scores = pd.concat([scores_of(*[0.0] * 100), scores_of(*[0.0] * 50, source="b")])
    spans = pd.DataFrame(
        [("a", 1.0, 2.0), ("a", 3.0, 4.0), ("a", 6.0, 7.0), ("b", 1.0, 2.0)], columns=["source", "start_s", "end_s"]
    )
    events = pd.DataFrame(
        [("a", 0.5, 1.2), ("a", 3.4, 3.6), ("a", 3.8, 5.0), ("a", 7.0, 8.0), ("b", 1.1, 1.3), ("b", 3.0, 3.1)],
        columns=["source", "start_s", "end_s"],
    )
    metrics = measure_events(events, spans, scores)
    assert_conforms(metrics, EventMetrics)
    assert (metrics["spans"], metrics["found"], metrics["event_recall"]) == (4, 3, 0.75)
    assert metrics["delay_s"]["median"] == pytest.approx(0.1)
    assert metrics["delay_s"]["max"] == pytest.approx(0.4)
    assert metrics["false_alarms"] == 2  # one that begins where a span ends, one in the quiet of b
    assert metrics["normal_hours"] == pytest.approx((15 - 4) / 3600)
    assert metrics["false_alarms_per_hour"] == pytest.approx(2 * 3600 / 11)
    assert metrics["normal_in_events_frac"] == pytest.approx((0.5 + 1.0 + 1.0 + 0.1) / 11)


def test_one_event_over_everything_shows_in_the_normal_time_that_it_covers() -> None:
    spans = pd.DataFrame([("a", 1.0, 2.0), ("a", 5.0, 6.0)], columns=["source", "start_s", "end_s"])
    event = pd.DataFrame([("a", 0.0, 10.0)], columns=["source", "start_s", "end_s"])
    metrics = measure_events(event, spans, scores_of(*[0.9] * 100))
    assert (metrics["event_recall"], metrics["false_alarms"], metrics["normal_in_events_frac"]) == (1.0, 0, 1.0)


def test_metrics_without_data_are_null() -> None:
    nothing = pd.DataFrame(columns=["source", "start_s", "end_s"])
    metrics = measure_events(nothing, nothing, scores_of(0, 0))
    assert_conforms(metrics, EventMetrics)
    assert (metrics["event_recall"], metrics["delay_s"], metrics["false_alarms_per_hour"]) == (None, None, 0.0)
    everything = pd.DataFrame([("a", 0.0, 0.2)], columns=["source", "start_s", "end_s"])
    assert measure_events(nothing, everything, scores_of(0, 0))["false_alarms_per_hour"] is None


def test_what_is_unknown_is_neither_an_alarm_nor_normal_time() -> None:
    scores = scores_of(*[0.0] * 100)
    labels = pd.DataFrame({"frame_id": [f"a/{index:06d}" for index in range(50, 100)], "label": pd.NA})
    events = pd.DataFrame(
        [("a", 1.0, 2.0, 0.9, 15), ("a", 3.0, 4.0, 0.9, 35), ("a", 7.0, 8.0, 0.9, 75)], columns=EVENT_COLUMNS
    )
    spans = pd.DataFrame([("a", 1.0, 2.0)], columns=["source", "start_s", "end_s"])
    assert label_spans(scores, labels, NORMAL, 0.0)[1] == 0
    metrics = measure_known_events(events, spans, scores, labels)
    assert (metrics["found"], metrics["false_alarms"]) == (1, 1)
    assert metrics["normal_hours"] == pytest.approx((5 - 1) / 3600)
