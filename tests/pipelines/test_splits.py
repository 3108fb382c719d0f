"""The cuts in time: in order, with the gap, inside the shares."""

from collections.abc import Sequence

import pandas as pd
import pytest

from cygnet.parameters.ingestion import Split
from cygnet.pipelines.ingestion.splits import cut_spans

NO_EVENTS = pd.DataFrame(columns=["source", "start_s", "end_s"])


def spans_of(sources: list[str], first_s: float, last_s: list[float], frames: int = 101) -> pd.DataFrame:
    """Spans of sources that are known as a whole."""
    columns = {"source": sources, "first_s": first_s, "last_s": last_s, "frames": frames}
    return pd.DataFrame({**columns, "train_end_s": None, "validation_end_s": None})


def test_a_source_that_is_known_in_part_is_cut_by_its_known_frames() -> None:
    spans = spans_of(["a", "b"], 0.0, [100.0, 100.0], frames=1001)
    spans.loc[1, ["train_end_s", "validation_end_s"]] = [20.0, 30.0]
    cuts = cut_spans(spans, NO_EVENTS, Split(train_frac=0.6, validation_frac=0.2, gap_s=0.3)).set_index("source")
    assert cuts.loc["a"].tolist() == pytest.approx([59.85, 60.15, 79.85, 80.15])
    assert cuts.loc["b"].tolist() == pytest.approx([19.85, 20.15, 29.85, 30.15])


@pytest.mark.parametrize(("gap_s", "expected_gap_s"), [(0.3, 0.3), (0.0, 0.3), (2.0, 2.0)])
def test_the_gap_is_the_longer_of_gap_s_and_three_sampled_frames(gap_s: float, expected_gap_s: float) -> None:
    spans = spans_of(["a"], 5.0, [15.0])
    (cut,) = cut_spans(spans, NO_EVENTS, Split(train_frac=0.6, validation_frac=0.2, gap_s=gap_s)).to_dict("records")
    assert cut["validation_from_s"] - cut["train_until_s"] == pytest.approx(expected_gap_s)
    assert cut["test_from_s"] - cut["validation_until_s"] == pytest.approx(expected_gap_s)
    assert cut["train_until_s"] + expected_gap_s / 2 == pytest.approx(5 + 0.6 * 10)
    assert cut["validation_until_s"] + expected_gap_s / 2 == pytest.approx(5 + 0.8 * 10)


def test_each_source_is_cut_by_its_own_span() -> None:
    spans = spans_of(["a", "b"], 0.0, [10.0, 100.0])
    cuts = cut_spans(spans, NO_EVENTS, Split(train_frac=0.5, validation_frac=0.3, gap_s=0.0)).set_index("source")
    assert cuts.loc["a", "train_until_s"] == pytest.approx(5 - 0.15)
    assert cuts.loc["b", "train_until_s"] == pytest.approx(50 - 1.5)


@pytest.mark.parametrize(
    ("events_s", "train_until_s", "validation_from_s", "validation_until_s", "test_from_s"),
    [
        ([(57, 60.1)], 59.85, 60.15, 79.85, 80.15),  # it ends in the gap: no frame of it is in validation
        ([(57, 61)], 61, 61.3, 79.85, 80.15),  # the nearer end
        ([(59, 70)], 58.7, 59, 79.85, 80.15),
        ([(50, 90)], 49.7, 50, 90, 90.3),  # both cuts: validation has it
        ([(10, 20), (65, 75), (95, 99)], 59.85, 60.15, 79.85, 80.15),  # none divides one
    ],
)
def test_no_cut_divides_an_event(
    events_s: Sequence[tuple[float, float]],
    train_until_s: float,
    validation_from_s: float,
    validation_until_s: float,
    test_from_s: float,
) -> None:
    spans = spans_of(["a", "b"], 0.0, [100.0, 100.0], frames=1001)
    events = pd.DataFrame([("a", *event) for event in events_s], columns=NO_EVENTS.columns)
    cuts = cut_spans(spans, events, Split(train_frac=0.6, validation_frac=0.2, gap_s=0.3)).set_index("source")
    moved = [train_until_s, validation_from_s, validation_until_s, test_from_s]
    assert cuts.loc["a"].tolist() == pytest.approx(moved)
    assert cuts.loc["b"].tolist() == pytest.approx([59.85, 60.15, 79.85, 80.15])
    for start_s, end_s in events_s:
        parts = [start_s < moved[0], start_s < moved[2] and end_s > moved[1], end_s > moved[3]]
        assert sum(parts) == 1
