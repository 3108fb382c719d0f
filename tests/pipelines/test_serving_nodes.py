"""What serving promises: every test image is asked about, the report is always whole, and the gate holds."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad
import pytest

from cygnet.datasets.endpoint import EndpointError
from cygnet.datasets.registry import ModelVersion
from cygnet.errors import UserError
from cygnet.parameters import Gate, Serving
from cygnet.pipelines.serving.nodes import (
    Answers,
    ask_endpoint,
    promote,
    refusal_reasons,
    rescore_incumbent,
    write_serving_report,
)
from cygnet.tables import ABNORMAL, KIND_NULL, NORMAL, PREDICTIONS, TRAINING_SET
from toys import toy_predictions, toy_row, toy_rows

CHALLENGER, INCUMBENT = ModelVersion("cygnet", "7"), ModelVersion("cygnet", "3")
GATE = Gate(min_auroc=0.7, max_auroc_loss=0.02, max_abs_score_difference=1e-3)
SERVING = Serving.model_construct(batch_size=3, gate=GATE)  # what these nodes read of it
PASSING = {"auroc": 0.9, "max_abs_score_difference": 1e-6, "champion": None}
KEYS = {
    *("model", "requests", "request_bytes", "latency_ms", "normal", "abnormal"),
    *("max_abs_score_difference", "passed", "reasons"),
}
CONTROL = toy_row("test/null", ABNORMAL, "test", kind=KIND_NULL)
TABLE = pa.concat_tables([toy_rows(per_class=5), pa.Table.from_pylist([CONTROL], schema=TRAINING_SET)])
TRAINING_ROWS = pad.dataset(TABLE)
ROWS = toy_predictions([0.1, 0.2, 0.3, 0.4], [0.35, 0.6, 0.7, 0.8])  # AUROC 15/16


def logits_of(images: list[bytes]) -> pd.DataFrame:
    """Answer by the length of each image, so that an answer tells which image it belongs to."""
    logit = np.array([len(image) / 1000 for image in images])
    return pd.DataFrame({"logit_abnormal": logit, "logit_normal": -logit, "anomaly_score": 9.0, "is_anomalous": True})


@dataclasses.dataclass
class FakeEndpoint:
    """Answers by `logits_of` as many requests as it lives, and keeps what it was asked."""

    life: int = 1000
    request_bytes: list[int] = dataclasses.field(default_factory=list)
    latency_ms: list[float] = dataclasses.field(default_factory=list)
    served: list[ModelVersion] = dataclasses.field(default_factory=list)
    asked: list[bytes] = dataclasses.field(default_factory=list)

    @contextmanager
    def serve(self, model: ModelVersion) -> Iterator["FakeEndpoint"]:
        """Serve, unless it has no life."""
        self.served.append(model)
        if self.life == 0:
            msg = "did not start"
            raise EndpointError(msg)
        yield self

    def score(self, images: list[bytes], *, cropped: bool) -> pd.DataFrame:
        """Answer one request."""
        assert cropped
        if len(self.request_bytes) == self.life:
            msg = "answered 500"
            raise EndpointError(msg)
        self.request_bytes.append(sum(map(len, images)))
        self.latency_ms.append(1.0)
        self.asked += images
        return logits_of(images)


class FakeIncumbent(ModelVersion):
    """Predicts by `logits_of`."""

    def predict(self, images: list[bytes], *, cropped: bool) -> pd.DataFrame:
        """Score in this process."""
        assert cropped
        return logits_of(images).assign(anomaly_score=[len(image) / 1e6 for image in images])


def offline(rows: pd.DataFrame) -> pad.Dataset:
    return pad.dataset(pa.Table.from_pandas(rows, schema=PREDICTIONS, preserve_index=False))


def answered(rows: pd.DataFrame, failure: str | None = None) -> Answers:
    return Answers(rows.drop(columns=["split", "is_anomalous"]), [100, 300], [1.0, 2.0, 4.0], failure)


def report_of(
    scores: pd.DataFrame, predictions: pd.DataFrame = ROWS, incumbent_scores: pd.DataFrame | None = None
) -> dict[str, Any]:
    incumbent = None if incumbent_scores is None else INCUMBENT
    others = pd.DataFrame() if incumbent_scores is None else incumbent_scores
    report = write_serving_report(CHALLENGER, answered(scores), offline(predictions), incumbent, others, SERVING)
    assert set(report) >= KEYS
    assert report["passed"] == (not report["reasons"])
    return report


def test_every_test_image_is_asked_once_in_small_requests() -> None:
    endpoint = FakeEndpoint()
    answers = ask_endpoint(endpoint, CHALLENGER, TRAINING_ROWS, SERVING)
    test = {row["image_id"]: row for row in TABLE.to_pylist() if row["split"] == "test"}
    assert endpoint.served == [CHALLENGER]
    assert len(endpoint.request_bytes) == 4  # 11 images, 3 at a time
    assert sorted(endpoint.asked) == sorted(row["image"] for row in test.values())
    assert (answers.request_bytes, answers.latency_ms) == (endpoint.request_bytes, endpoint.latency_ms)
    assert answers.failure is None
    assert sorted(answers.scores["image_id"]) == sorted(test)
    for row in answers.scores.to_dict("records"):
        asked = test[row["image_id"]]
        assert [row[key] for key in ("frame_id", "label", "kind")] == [asked[k] for k in ("frame_id", "label", "kind")]
        logit = len(asked["image"]) / 1000
        assert row["anomaly_score"] == pytest.approx(1 / (1 + np.exp(-2 * logit)), abs=1e-6)


@pytest.mark.parametrize(("life", "answered_rows", "failure"), [(0, 0, "did not start"), (2, 6, "answered 500")])
def test_failure_of_the_endpoint_is_an_answer(life: int, answered_rows: int, failure: str) -> None:
    answers = ask_endpoint(FakeEndpoint(life), CHALLENGER, TRAINING_ROWS, SERVING)
    assert answers.failure == failure
    assert len(answers.scores) == answered_rows
    assert len(answers.request_bytes) == life


def test_incumbent_is_scored_on_the_same_test_images() -> None:
    scores = rescore_incumbent(FakeIncumbent("cygnet", "3"), TRAINING_ROWS)
    expected = {row["image_id"]: len(row["image"]) / 1e6 for row in TABLE.to_pylist() if row["split"] == "test"}
    assert dict(zip(scores["image_id"], scores["anomaly_score"], strict=True)) == expected
    assert rescore_incumbent(None, TRAINING_ROWS).empty


def test_report_of_a_good_challenger_passes() -> None:
    served = ROWS.assign(anomaly_score=ROWS["anomaly_score"] + np.linspace(0, 5e-4, 8))
    report = report_of(served)
    assert report["passed"]
    assert report["model"] == {"name": "cygnet", "version": "7"}
    assert report["requests"] == 2
    assert report["request_bytes"] == {"mean": 200.0, "max": 300}
    assert report["latency_ms"] == {"p50": 2.0, "p95": pytest.approx(3.8)}
    assert report["max_abs_score_difference"] == pytest.approx(5e-4, abs=1e-7)
    assert report["auroc"] == pytest.approx(15 / 16)
    assert report["champion"] is None
    for name, label in (("normal", NORMAL), ("abnormal", ABNORMAL)):
        scores = served.loc[served["label"] == label, "anomaly_score"]
        assert (report[name]["mean"], report[name]["max"]) == pytest.approx((scores.mean(), scores.max()))
    assert "p99" in report["normal"]
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize("scores", [ROWS.iloc[:0], ROWS.iloc[:5]])
def test_report_of_a_failed_endpoint_has_every_key(scores: pd.DataFrame) -> None:
    report = write_serving_report(
        CHALLENGER, answered(scores, "it fell over"), offline(ROWS), None, pd.DataFrame(), SERVING
    )
    assert set(report) >= KEYS
    assert (report["passed"], report["reasons"]) == (False, ["it fell over"])
    assert report["requests"] == 2


def test_report_of_an_endpoint_that_never_answered_has_every_key() -> None:
    answers = Answers(pd.DataFrame(), [], [], "did not start")
    report = write_serving_report(CHALLENGER, answers, offline(ROWS), INCUMBENT, ROWS, SERVING)
    assert set(report) >= KEYS
    assert (report["requests"], report["request_bytes"], report["latency_ms"]) == (0, None, None)
    assert (report["passed"], report["reasons"]) == (False, ["did not start"])


@pytest.mark.parametrize(
    ("served", "predictions"), [(ROWS.drop(index=2), ROWS), (ROWS, ROWS.drop(index=2))], ids=["served", "predictions"]
)
def test_row_that_is_missing_on_either_side_fails(served: pd.DataFrame, predictions: pd.DataFrame) -> None:
    report = report_of(served, predictions)
    assert report["max_abs_score_difference"] is None
    assert not report["passed"]
    assert "not of the same images" in report["reasons"][0]


def test_score_that_is_no_number_fails_in_the_report() -> None:
    nowhere = ROWS.assign(anomaly_score=ROWS["anomaly_score"].where(ROWS.index != 2))
    assert not report_of(nowhere)["passed"]


def test_rows_of_validation_are_not_compared() -> None:
    elsewhere = ROWS.assign(split="validation", image_id=[f"other-{place}" for place in range(8)])
    assert report_of(ROWS, pd.concat([ROWS, elsewhere]))["passed"]


def test_controls_are_compared_but_count_in_no_figure() -> None:
    controls = toy_predictions([], [0.05, 0.05]).assign(kind=KIND_NULL, image_id=["null-0", "null-1"])
    plain, mixed = report_of(ROWS), report_of(pd.concat([ROWS, controls]), pd.concat([ROWS, controls]))
    assert mixed == plain
    moved = controls.assign(anomaly_score=np.float32(0.06))
    report = report_of(pd.concat([ROWS, moved]), pd.concat([ROWS, controls]))
    assert report["max_abs_score_difference"] == pytest.approx(0.01, abs=1e-6)


def test_champion_that_does_better_on_the_same_images_stays() -> None:
    better = toy_predictions([0.1] * 4, [0.9] * 4)
    controls = toy_predictions([], [0.05, 0.05]).assign(kind=KIND_NULL)
    report = report_of(ROWS, incumbent_scores=pd.concat([better, controls]))
    assert report["champion"] == {"version": "3", "auroc": 1.0}
    assert len(report["reasons"]) == 1
    assert "champion's 1.0000 (version 3)" in report["reasons"][0]
    assert report_of(ROWS, incumbent_scores=ROWS)["passed"]


@pytest.mark.parametrize(
    ("figures", "named"),
    [
        ({}, []),
        ({"max_abs_score_difference": 1e-3, "auroc": 0.7}, []),
        ({"max_abs_score_difference": 1.1e-3}, ["serving.gate.max_abs_score_difference"]),
        ({"auroc": 0.699}, ["serving.gate.min_auroc"]),
        ({"auroc": float("nan")}, ["serving.gate.min_auroc"]),
        ({"champion": {"version": "3", "auroc": 0.915}}, []),
        ({"champion": {"version": "3", "auroc": 0.925}}, ["serving.gate.max_auroc_loss"]),
        ({"champion": {"version": "3", "auroc": 0.5}}, []),
        (
            {"max_abs_score_difference": 1.0, "auroc": 0.5, "champion": {"version": "3", "auroc": 0.9}},
            ["serving.gate.max_abs_score_difference", "serving.gate.min_auroc", "serving.gate.max_auroc_loss"],
        ),
    ],
)
def test_each_missed_limit_is_a_reason(figures: dict[str, Any], named: list[str]) -> None:
    reasons = refusal_reasons({**PASSING, **figures}, GATE)
    assert [reason.split("(")[-1 if "champion" not in reason else 1].split(")")[0] for reason in reasons] == named


MODEL = {"name": CHALLENGER.name, "version": CHALLENGER.version}


def test_challenger_that_passed_is_promoted() -> None:
    assert promote(CHALLENGER, {"model": MODEL, "passed": True, "reasons": []}) is CHALLENGER


def test_challenger_that_failed_is_refused_with_the_reasons() -> None:
    with pytest.raises(UserError, match="cygnet version 7 is not promoted: too slow; too dull"):
        promote(CHALLENGER, {"model": MODEL, "passed": False, "reasons": ["too slow", "too dull"]})


@pytest.mark.parametrize("make", [lambda: FakeEndpoint(0), lambda: FakeEndpoint(1)])
def test_failed_endpoint_ends_in_a_refusal_and_not_in_a_traceback(make: Callable[[], FakeEndpoint]) -> None:
    answers = ask_endpoint(make(), CHALLENGER, TRAINING_ROWS, SERVING)
    report = write_serving_report(CHALLENGER, answers, offline(ROWS), None, pd.DataFrame(), SERVING)
    with pytest.raises(UserError, match="is not promoted: "):
        promote(CHALLENGER, report)


def test_a_version_that_the_report_is_not_about_is_not_promoted() -> None:
    report = {"model": {"name": "m", "version": "3"}, "passed": True, "reasons": []}
    with pytest.raises(UserError, match="the report is about version 3"):
        promote(ModelVersion("m", "4"), report)
