"""The cuts in time: in order, with the gap, inside the shares."""

import pandas as pd
import pytest

from cygnet.parameters.ingestion import Split
from cygnet.pipelines.ingestion.splits import cut_spans


@pytest.mark.parametrize(("gap_s", "expected_gap_s"), [(0.3, 0.3), (0.0, 0.3), (2.0, 2.0)])
def test_the_gap_is_the_longer_of_gap_s_and_three_sampled_frames(gap_s: float, expected_gap_s: float) -> None:
    spans = pd.DataFrame({"source": ["a"], "first_s": [5.0], "last_s": [15.0], "frames": [101]})
    (cut,) = cut_spans(spans, Split(train_frac=0.6, validation_frac=0.2, gap_s=gap_s)).to_dict("records")
    assert cut["validation_from_s"] - cut["train_until_s"] == pytest.approx(expected_gap_s)
    assert cut["test_from_s"] - cut["validation_until_s"] == pytest.approx(expected_gap_s)
    assert cut["train_until_s"] + expected_gap_s / 2 == pytest.approx(5 + 0.6 * 10)
    assert cut["validation_until_s"] + expected_gap_s / 2 == pytest.approx(5 + 0.8 * 10)


def test_each_source_is_cut_by_its_own_span() -> None:
    spans = pd.DataFrame({"source": ["a", "b"], "first_s": [0.0, 0.0], "last_s": [10.0, 100.0], "frames": [101, 101]})
    cuts = cut_spans(spans, Split(train_frac=0.5, validation_frac=0.3, gap_s=0.0)).set_index("source")
    assert cuts.loc["a", "train_until_s"] == pytest.approx(5 - 0.15)
    assert cuts.loc["b", "train_until_s"] == pytest.approx(50 - 1.5)
