"""What the declared reports promise: a key that is missing, unknown or of another type is noticed at any depth."""

import pytest
from pydantic import ValidationError

from cygnet.reports import EventMetrics, PairMetricsByKind, list_numbers
from support.reports import assert_conforms

PAIRS = {"pairs": 3, "auroc": 0.5, "nll": 0.7, "patch_average_precision": None}


def test_a_report_of_the_declared_shape_conforms() -> None:
    assert_conforms({**PAIRS, "by_kind": {"scar": PAIRS}}, PairMetricsByKind)


@pytest.mark.parametrize(
    "changed",
    [{**PAIRS, "more": 1}, {**PAIRS, "pairs": 3.5}, {**PAIRS, "nll": None}, {"pairs": 3}],
    ids=["unknown", "type", "null", "missing"],
)
def test_another_shape_does_not(changed: dict[str, object]) -> None:
    for report in ({**changed, "by_kind": {}}, {**PAIRS, "by_kind": {"scar": changed}}):
        with pytest.raises(ValidationError):
            assert_conforms(report, PairMetricsByKind)
    with pytest.raises(ValidationError):
        assert_conforms(PAIRS, EventMetrics)


def test_numbers_are_listed_by_their_path_without_names_and_nulls() -> None:
    report = {"auroc": 1, "rule": "max_f1", "none": None, "by_kind": {"scar": {"auroc": 0.5}}}
    assert list_numbers(report, "test") == {"test.auroc": 1.0, "test.by_kind.scar.auroc": 0.5}
