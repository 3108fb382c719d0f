"""What finding events live promises: those that are found afterwards, each told once and never taken back."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from cygnet.model.evaluation.events import find_events
from cygnet.model.evaluation.live_events import EventFinder, LiveEvent, ScoredFrame
from cygnet.parameters.scoring import Events

RULE = Events(close_frac=0.6, max_gap_s=0.3, min_duration_s=0.2)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def run_of(scores: list[float], spacing_s: float, rule: Events) -> tuple[list[LiveEvent], list[LiveEvent]]:
    """Give the events that became certain, and those that ended, of frames one by one."""
    finder, certain, over = EventFinder(0.5, rule), [], []
    for index, score in enumerate(scores):
        now_certain, now_over = finder.add(ScoredFrame("a", index, index * spacing_s, NOW, score))
        certain += [now_certain] if now_certain else []
        over += [now_over] if now_over else []
    last = finder.close()
    return certain, [*over, *([last] if last else [])]


@pytest.mark.parametrize("rule", [RULE, RULE.model_copy(update={"min_duration_s": 0.0, "max_gap_s": 0.0})])
@pytest.mark.parametrize("seed", range(8))
def test_events_are_those_of_the_recording(seed: int, rule: Events) -> None:
    rng = np.random.default_rng(seed)
    steps = np.repeat(rng.uniform(0, 1, 60), rng.integers(1, 6, 60))
    scores = np.clip(steps + rng.normal(0, 0.1, len(steps)), 0, 1).astype(np.float32)
    frames = pd.DataFrame(
        {
            "source": "a",
            "frame_index": range(len(scores)),
            "timestamp_s": 0.1 * np.arange(len(scores)),
            "anomaly_score": scores,
        }
    )
    offline = find_events(frames, 0.5, rule)
    certain, over = run_of(scores.tolist(), 0.1, rule)
    assert len(offline) > 3
    assert certain == over
    found = [(event.start.timestamp_s, event.end_s, event.peak.anomaly_score, event.peak.frame_index) for event in over]
    columns = ["start_s", "end_s", "peak_score", "peak_frame_index"]
    np.testing.assert_allclose(np.array(found), offline[columns].to_numpy(float), atol=1e-6)


def test_an_event_is_certain_once_it_has_lasted_long_enough_and_not_before() -> None:
    finder = EventFinder(0.5, RULE)
    certain_at = [
        index for index, score in enumerate([0.1, 0.1, 0.9, 0.7, 0.8, 0.9]) if finder.add(frame_of(index, score))[0]
    ]
    assert certain_at == [3]  # two frames of 0.1 s


def frame_of(index: int, score: float) -> ScoredFrame:
    return ScoredFrame("a", index, index / 10, NOW, score)


def test_a_short_event_is_never_told() -> None:
    assert run_of([0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1], 0.1, RULE) == ([], [])


def test_an_event_goes_on_over_frames_that_were_left_out_if_it_is_open_on_both_sides() -> None:
    def events_of(score_after: float, *, is_left_out: bool) -> list[float]:
        finder, over = EventFinder(0.5, RULE), []
        frames = [frame_of(index, 0.9) for index in range(3)]
        frames += [replace(frame_of(40, score_after), follows_loss=is_left_out)]
        frames += [frame_of(index, 0.9) for index in range(41, 44)]
        for frame in frames:
            over.append(finder.add(frame)[1])
        return [event.start.timestamp_s for event in [*over, finder.close()] if event]

    assert events_of(0.9, is_left_out=True) == [0.0]
    assert events_of(0.1, is_left_out=True) == [0.0, 4.1]
    assert events_of(0.9, is_left_out=False) == [0.0, 4.0]
