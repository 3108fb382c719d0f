"""What serving promises: every test image is asked about, the report is always whole, and the gate holds."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad
import pytest

from cygnet.endpoints.client import EndpointError
from cygnet.endpoints.versions import Decision, ModelVersion, UnusableVersionError
from cygnet.errors import UserError
from cygnet.parameters.serving import Client, Gate, Parity
from cygnet.pipelines.rollback.nodes import roll_back
from cygnet.pipelines.serving.gate import NOT_COMPARED, Answers, IncumbentScores, refusal_reasons
from cygnet.pipelines.serving.nodes import (
    ask_endpoint,
    choose_test_rows,
    decide,
    promote,
    rescore_incumbent,
    write_serving_report,
)
from cygnet.reports import ServingReport
from cygnet.tables import ABNORMAL, KIND_NULL, NORMAL, PREDICTIONS, TRAINING_SET
from support.reports import assert_conforms
from support.toys import toy_predictions, toy_row, toy_rows

INCUMBENT = ModelVersion("cygnet", "3")
GATE = Gate(
    mode="enforce",
    min_auroc=0.7,
    max_normal_p99=0.6,
    max_false_alarm_frac=0.25,
    max_auroc_loss=0.02,
    max_abs_score_difference=1e-3,
)
CLIENT = Client(timeout_s=5, retries=0, backoff_s=0, max_request_bytes=1_000_000, in_flight=1)
PARITY_LIMITS = Parity(
    images_per_kind=8,
    max_abs_score_difference=1e-3,
    max_mean_abs_score_difference=0.02,
    min_decisions_agree_frac=0.95,
    max_auroc_loss=0.1,
)
BATCH_SIZE = 3
PASSING = {
    "auroc": 0.9,
    "normal": {"p99": 0.5},
    "false_alarm_frac": 0.1,
    "max_abs_score_difference": 1e-6,
    "champion": None,
    "parity": None,
}
PARITY = {
    "runtime": "onnx",
    "rows": 8,
    "max_abs_score_difference": 0.2,
    "mean_abs_score_difference": 0.1,
    "decisions_agree_frac": 1.0,
    "hardest_kind": "blur",
    "auroc_loss_hardest_kind": 0.0,
}
KEYS = {
    *("model", "images", "requests", "request_bytes", "latency_ms", "normal", "abnormal"),
    *("max_abs_score_difference", "passed", "reasons", "gate", "decision"),
}
CONTROL = toy_row("test/null", ABNORMAL, "test", kind=KIND_NULL)
TABLE = pa.concat_tables([toy_rows(per_class=5), pa.Table.from_pylist([CONTROL], schema=TRAINING_SET)])
TRAINING_ROWS = pad.dataset(TABLE)
NULL = {"logit_abnormal": None, "logit_normal": None, "anomaly_score": None, "is_anomalous": None}
ROWS = toy_predictions([0.1, 0.2, 0.3, 0.4], [0.35, 0.6, 0.7, 0.8])  # AUROC 15/16


def logits_of(images: list[bytes]) -> pd.DataFrame:
    """Answer by the length of each image, so that an answer tells which image it belongs to."""
    logit = np.array([len(image) / 1000 for image in images])
    return pd.DataFrame({"logit_abnormal": logit, "logit_normal": -logit, "anomaly_score": 9.0, "is_anomalous": True})


class FakeChallenger(ModelVersion):
    """Was stored with `stored`."""

    stored: dict[str, Any] = {}  # noqa: RUF012

    @property
    def metadata(self) -> dict[str, Any]:
        """What it was stored with."""
        return self.stored


CHALLENGER = FakeChallenger("cygnet", "7")


@dataclasses.dataclass
class FakeEndpoint:
    """Answers by `logits_of` as many calls as it lives, and keeps what it was asked."""

    life: int = 1000
    request_bytes: list[int] = dataclasses.field(default_factory=list)
    latency_ms: list[float] = dataclasses.field(default_factory=list)
    retries: list[int] = dataclasses.field(default_factory=list)
    served: list[ModelVersion] = dataclasses.field(default_factory=list)
    asked: list[bytes] = dataclasses.field(default_factory=list)

    @contextmanager
    def serve(self, model: ModelVersion, settings: Client) -> Iterator["FakeEndpoint"]:
        """Serve, unless it has no life."""
        assert settings == CLIENT
        self.served.append(model)
        if self.life == 0:
            msg = "did not start"
            raise EndpointError(msg)
        yield self

    def score(self, images: list[bytes], *, cropped: bool, batch_size: int) -> pd.DataFrame:
        """Answer one call."""
        assert cropped
        assert batch_size == BATCH_SIZE
        if len(self.request_bytes) == self.life:
            msg = "answered 500"
            raise EndpointError(msg)
        self.request_bytes.append(sum(map(len, images)))
        self.latency_ms.append(1.0)
        self.retries.append(1)
        self.asked += images
        return logits_of(images)


class FakeIncumbent(FakeChallenger):
    """Predicts by `logits_of`."""

    def predict(self, images: list[bytes], *, cropped: bool) -> pd.DataFrame:
        """Score in this process."""
        assert cropped
        return logits_of(images).assign(anomaly_score=[len(image) / 1e6 for image in images])


def offline(rows: pd.DataFrame) -> pad.Dataset:
    return pad.dataset(pa.Table.from_pandas(rows, schema=PREDICTIONS, preserve_index=False))


def answered(rows: pd.DataFrame, failure: str | None = None) -> Answers:
    return Answers(rows.drop(columns="split"), [100, 300], [1.0, 2.0, 4.0], [0, 3], failure)


def report_of(
    scores: pd.DataFrame,
    predictions: pd.DataFrame = ROWS,
    incumbent_scores: pd.DataFrame | None = None,
    challenger: ModelVersion = CHALLENGER,
    **gate: Any,
) -> dict[str, Any]:
    incumbent = NOT_COMPARED if incumbent_scores is None else IncumbentScores(INCUMBENT.version, incumbent_scores)
    limits = GATE.model_copy(update=gate)
    report = write_serving_report(challenger, answered(scores), offline(predictions), incumbent, limits)
    assert_conforms(report, ServingReport)
    assert set(report) >= KEYS
    return report


def test_every_test_image_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cygnet.pipelines.serving.nodes.ROUNDS_AT_ONCE", 1)
    endpoint = FakeEndpoint()
    answers = ask_endpoint(endpoint, CHALLENGER, TRAINING_ROWS, BATCH_SIZE, CLIENT)
    test = {row["image_id"]: row for row in TABLE.to_pylist() if row["split"] == "test"}
    assert endpoint.served == [CHALLENGER]
    assert len(endpoint.request_bytes) == 4  # 11 images, 3 at a time
    assert sorted(endpoint.asked) == sorted(row["image"] for row in test.values())
    assert (answers.request_bytes, answers.latency_ms) == (endpoint.request_bytes, endpoint.latency_ms)
    assert answers.retries == [1] * 4
    assert answers.failure is None
    assert sorted(answers.scores["image_id"]) == sorted(test)
    for row in answers.scores.to_dict("records"):
        asked = test[row["image_id"]]
        assert [row[key] for key in ("frame_id", "label", "kind")] == [asked[k] for k in ("frame_id", "label", "kind")]
        logit = len(asked["image"]) / 1000
        assert row["anomaly_score"] == pytest.approx(1 / (1 + np.exp(-2 * logit)), abs=1e-6)


def test_each_kind_is_asked_about() -> None:
    test = [row for row in TABLE.to_pylist() if row["split"] == "test"]
    for images_per_kind in (1, 2, 100):
        rows = choose_test_rows(TRAINING_ROWS, PARITY_LIMITS.model_copy(update={"images_per_kind": images_per_kind}))
        chosen = rows.to_table().to_pandas()
        counts = chosen.groupby("kind").size().to_dict()
        expected = Counter(row["kind"] for row in test)
        assert counts == {kind: min(images_per_kind, count) for kind, count in expected.items()}
        assert set(chosen["split"]) == {"test"}


@pytest.mark.parametrize(("life", "answered_rows", "failure"), [(0, 0, "did not start"), (2, 6, "answered 500")])
def test_failure_of_the_endpoint_is_an_answer(
    life: int, answered_rows: int, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cygnet.pipelines.serving.nodes.ROUNDS_AT_ONCE", 1)
    answers = ask_endpoint(FakeEndpoint(life), CHALLENGER, TRAINING_ROWS, BATCH_SIZE, CLIENT)
    assert answers.failure == failure
    assert len(answers.scores) == answered_rows
    assert len(answers.request_bytes) == life


def test_incumbent_is_scored_on_the_same_test_images() -> None:
    incumbent = FakeIncumbent("cygnet", "3")
    rescored = rescore_incumbent(incumbent, CHALLENGER, TRAINING_ROWS, BATCH_SIZE, GATE)
    assert rescored.version == "3"
    scores = rescored.scores
    expected = {row["image_id"]: len(row["image"]) / 1e6 for row in TABLE.to_pylist() if row["split"] == "test"}
    assert dict(zip(scores["image_id"], scores["anomaly_score"], strict=True)) == expected
    assert rescore_incumbent(None, CHALLENGER, TRAINING_ROWS, BATCH_SIZE, GATE) is NOT_COMPARED
    off = GATE.model_copy(update={"mode": "off"})
    assert rescore_incumbent(incumbent, CHALLENGER, TRAINING_ROWS, BATCH_SIZE, off) is NOT_COMPARED


def test_an_incumbent_of_another_scene_is_compared_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    key = "ingestion.crop_horizontal_bias"
    incumbent, challenger = FakeIncumbent("cygnet", "3"), FakeChallenger("cygnet", "7")
    incumbent.__dict__["stored"] = {"made_with": {key: 0.4}}
    challenger.__dict__["stored"] = {"made_with": {key: 0.1}}
    assert rescore_incumbent(incumbent, challenger, TRAINING_ROWS, BATCH_SIZE, GATE).version == "3"
    (said,) = (record.getMessage() for record in caplog.records)
    assert all(part in said for part in (key, "0.4", "0.1", "version 3"))


def test_incumbent_that_can_not_be_used_is_a_sentence_with_the_way_out() -> None:
    class Damaged(FakeIncumbent):
        """Fails as a version of another Cygnet does."""

        def predict(self, images: list[bytes], *, cropped: bool) -> pd.DataFrame:  # noqa: ARG002 - it fails before
            raise UnusableVersionError(self, ValueError("no settings"))

    with pytest.raises(UserError, match=r"cygnet version 3 can't be used: no settings\.") as refused:
        rescore_incumbent(Damaged("cygnet", "3"), CHALLENGER, TRAINING_ROWS, BATCH_SIZE, GATE)
    assert "--params=serving.gate.mode=off" in refused.value.message
    assert "\n" not in refused.value.message


def test_report_of_a_good_challenger_passes() -> None:
    served = ROWS.assign(anomaly_score=ROWS["anomaly_score"] + np.linspace(0, 5e-4, 8))
    report = report_of(served.iloc[1:])  # it is asked about a sample
    assert report["passed"]
    assert report["model"] == {"name": "cygnet", "version": "7"}
    assert (report["images"], report["requests"], report["retries"]) == (7, 2, 3)
    assert report["request_bytes"] == {"mean": 200.0, "max": 300}
    assert report["latency_ms"] == {"p50": 2.0, "p95": pytest.approx(3.8)}
    assert report["max_abs_score_difference"] == pytest.approx(5e-4, abs=1e-7)
    assert report["auroc"] == pytest.approx(15 / 16)
    assert report["champion"] is None
    assert (report["false_alarm_frac"], report["decision"]) == (0, "promote")
    assert report["gate"] == GATE.model_dump()
    for name, label in (("normal", NORMAL), ("abnormal", ABNORMAL)):
        scores = ROWS.loc[ROWS["label"] == label, "anomaly_score"]
        assert (report[name]["mean"], report[name]["max"]) == pytest.approx((scores.mean(), scores.max()))
    assert "p99" in report["normal"]
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize("scores", [ROWS.iloc[:0], ROWS.iloc[:5]])
def test_report_of_a_failed_endpoint_has_every_key(scores: pd.DataFrame) -> None:
    report = write_serving_report(CHALLENGER, answered(scores, "it fell over"), offline(ROWS), NOT_COMPARED, GATE)
    assert set(report) >= KEYS
    assert (report["passed"], report["reasons"]) == (False, ["it fell over"])
    assert report["requests"] == 2


def test_report_of_an_endpoint_that_never_answered_has_every_key() -> None:
    answers = Answers(pd.DataFrame(), [], [], [], "did not start")
    report = write_serving_report(CHALLENGER, answers, offline(ROWS), IncumbentScores(INCUMBENT.version, ROWS), GATE)
    assert_conforms(report, ServingReport)
    assert set(report) >= KEYS
    assert (report["requests"], report["request_bytes"], report["latency_ms"]) == (0, None, None)
    assert (report["passed"], report["reasons"]) == (False, ["did not start"])


def test_image_that_predictions_lack_fails() -> None:
    report = report_of(ROWS, ROWS.drop(index=2))
    assert report["max_abs_score_difference"] is None
    assert not report["passed"]
    assert "that the test rows of predictions lack" in report["reasons"][0]


def test_images_without_a_score_fail_with_what_the_model_says() -> None:
    nowhere = ROWS.assign(anomaly_score=ROWS["anomaly_score"].where(ROWS.index != 2))
    assert report_of(nowhere)["reasons"] == ["the endpoint answered 1 of 8 images without a score"]
    said = nowhere.assign(error=["can't be decoded" if place == 2 else None for place in range(8)])
    assert report_of(said)["reasons"] == [
        "the endpoint answered 1 of 8 images without a score, about image-2: can't be decoded"
    ]


@pytest.mark.parametrize("mode", ["enforce", "report", "off"])
@pytest.mark.parametrize(
    "scores", [ROWS.iloc[:0], ROWS.assign(**NULL)], ids=["no answer", "an answer without a single score"]
)
def test_an_endpoint_that_does_not_answer_is_refused_in_every_mode(mode: str, scores: pd.DataFrame) -> None:
    failure = None if len(scores) else "it fell over"
    report = write_serving_report(
        CHALLENGER, answered(scores, failure), offline(ROWS), NOT_COMPARED, GATE.model_copy(update={"mode": mode})
    )
    assert (report["passed"], report["decision"]) == (False, "refuse")
    assert len(report["reasons"]) == 1


def test_missed_limits_refuse_are_only_written_down_or_not_looked_at() -> None:
    told = [report_of(ROWS, min_auroc=0.99, mode=mode) for mode in ("enforce", "report")]
    told.append(report_of(ROWS, min_auroc=0.99, mode="off"))
    assert [(r["passed"], r["decision"], len(r["reasons"])) for r in told] == [
        (False, "refuse", 1),
        (False, "promote", 1),
        (None, "promote", 0),
    ]
    assert [r["gate"]["mode"] for r in told] == ["enforce", "report", "off"]
    assert len({r["auroc"] for r in told}) == 1


def test_false_alarms_are_counted_as_the_model_calls_them_and_on_normal_images_alone() -> None:
    called = ROWS.assign(is_anomalous=[True, False, True, False, True, True, True, True])
    report = report_of(ROWS, called)
    assert report["false_alarm_frac"] == 0.5
    assert "serving.gate.max_false_alarm_frac" in report["reasons"][0]


def test_the_models_own_check_of_parity_is_a_reason() -> None:
    class Unequal(FakeChallenger):
        stored = {"parity": {**PARITY, "passed": False, "reasons": ["ONNX differs by 0.2"]}}  # noqa: RUF012

    class Equal(FakeChallenger):
        stored = {"parity": {**PARITY, "passed": True, "reasons": []}}  # noqa: RUF012

    report = report_of(ROWS, challenger=Unequal("cygnet", "7"))
    assert report["reasons"] == ["the model failed its own check of parity: ONNX differs by 0.2"]
    assert report["decision"] == "refuse"
    assert report_of(ROWS, challenger=Equal("cygnet", "7"))["passed"]


def test_rows_of_validation_are_not_compared() -> None:
    elsewhere = ROWS.assign(split="validation", image_id=[f"other-{place}" for place in range(8)])
    assert report_of(ROWS, pd.concat([ROWS, elsewhere]))["passed"]


def test_controls_are_compared_but_count_in_no_figure() -> None:
    controls = toy_predictions([], [0.05, 0.05]).assign(kind=KIND_NULL, image_id=["null-0", "null-1"])
    plain, mixed = report_of(ROWS), report_of(pd.concat([ROWS, controls]), pd.concat([ROWS, controls]))
    assert mixed == {**plain, "images": 10}
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
        ({"normal": {"p99": 0.6}, "false_alarm_frac": 0.25}, []),
        ({"normal": {"p99": 0.61}}, ["serving.gate.max_normal_p99"]),
        ({"normal": {"p99": float("nan")}}, ["serving.gate.max_normal_p99"]),
        ({"false_alarm_frac": 0.26}, ["serving.gate.max_false_alarm_frac"]),
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
PASSED = {"model": MODEL, "passed": True, "reasons": [], "decision": "promote", "gate": {"mode": "enforce"}}
REFUSED = {**PASSED, "passed": False, "reasons": ["too slow", "too dull"], "decision": "refuse"}


def test_challenger_that_passed_is_promoted_and_names_the_champion_before_it() -> None:
    noted, routed, decision = decide(CHALLENGER, INCUMBENT, PASSED)
    assert promote(decision) == CHALLENGER
    assert routed == decision == Decision(CHALLENGER, is_promoted=True)
    assert noted.version == CHALLENGER
    assert noted.tags == {
        "cygnet_gate_mode": "enforce",
        "cygnet_gate_passed": "true",
        "cygnet_gate_decision": "promote",
        "cygnet_gate_reasons": "",
        "cygnet_previous_champion": "3",
    }


@pytest.mark.parametrize("incumbent", [None, CHALLENGER])
def test_a_first_or_repeated_champion_names_none_before_it(incumbent: ModelVersion | None) -> None:
    assert "cygnet_previous_champion" not in decide(CHALLENGER, incumbent, PASSED)[0].tags


def test_challenger_that_failed_is_refused_with_the_reasons() -> None:
    noted, routed, decision = decide(CHALLENGER, INCUMBENT, REFUSED)
    assert not routed.is_promoted
    assert noted.tags["cygnet_gate_reasons"] == "too slow; too dull"
    assert noted.tags["cygnet_gate_passed"] == "false"
    assert "cygnet_previous_champion" not in noted.tags
    with pytest.raises(UserError, match="cygnet version 7 is not promoted: too slow; too dull"):
        promote(decision)


def test_challenger_with_missed_limits_that_are_only_written_down_is_promoted() -> None:
    noted, _, decision = decide(CHALLENGER, None, {**REFUSED, "decision": "promote", "gate": {"mode": "report"}})
    assert promote(decision) == CHALLENGER
    assert noted.tags["cygnet_gate_passed"] == "false"
    assert noted.tags["cygnet_gate_reasons"] == "too slow; too dull"


def test_that_nothing_was_compared_is_noted() -> None:
    noted = decide(CHALLENGER, None, {**PASSED, "passed": None, "gate": {"mode": "off"}})[0]
    assert (noted.tags["cygnet_gate_mode"], noted.tags["cygnet_gate_passed"]) == ("off", "null")


@pytest.mark.parametrize("make", [lambda: FakeEndpoint(0), lambda: FakeEndpoint(1)])
def test_failed_endpoint_ends_in_a_refusal_and_not_in_a_traceback(
    make: Callable[[], FakeEndpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cygnet.pipelines.serving.nodes.ROUNDS_AT_ONCE", 1)
    answers = ask_endpoint(make(), CHALLENGER, TRAINING_ROWS, BATCH_SIZE, CLIENT)
    report = write_serving_report(CHALLENGER, answers, offline(ROWS), NOT_COMPARED, GATE)
    with pytest.raises(UserError, match="is not promoted: "):
        promote(decide(CHALLENGER, None, report)[2])


def test_a_version_that_the_report_is_not_about_is_not_promoted() -> None:
    with pytest.raises(UserError, match="the report is about version 7"):
        decide(ModelVersion("cygnet", "8"), None, PASSED)


def test_rollback_gives_traffic_and_alias_to_the_champion_before() -> None:
    assert roll_back(INCUMBENT) == (Decision(INCUMBENT, is_promoted=True), INCUMBENT)
