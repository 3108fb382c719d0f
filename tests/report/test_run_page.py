"""What report.html promises: the verdict, every number as the reports have it, and a page that stands alone."""

import copy
import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cygnet.report.examples import MOST_EXAMPLES, choose_examples
from cygnet.report.run_page import MOST_ROWS, DataCard, Pictures, describe_data, draw_pictures, write_report
from cygnet.reports import EvaluationReport
from cygnet.tables import IMAGES, KIND_NULL, TRAINING_SET
from support.evaluations import toy_evaluation
from support.pages import (
    CHALLENGER,
    HOSTILE,
    IMAGES_ROWS,
    NO_SUSPECTS,
    PASSED,
    REASONS,
    REJECTS,
    SCORES,
    UNASKED,
    Page,
    dataset,
    image,
    images_of,
    is_rounded,
    predictions_of,
)
from support.toys import toy_predictions, toy_row


@pytest.fixture(scope="module")
def evaluation() -> EvaluationReport:
    report = toy_evaluation(SCORES)
    size = {"tiles": 2, "seen_frac": 0.987, "smallest_object_px": 22.5}
    view = {"view": "tiles", "region": None, "ignore": "1 polygon", "by_frame_size": {"640x360": size}}
    return json.loads(json.dumps({**report, "view": view}))


@pytest.fixture(scope="module")
def data_card() -> DataCard:
    return describe_data(dataset(IMAGES_ROWS, IMAGES), images_of(SCORES), REJECTS, NO_SUSPECTS)


@pytest.fixture(scope="module")
def pictures(evaluation: EvaluationReport) -> Pictures:
    return draw_pictures(predictions_of(SCORES), images_of(SCORES), evaluation)


@pytest.fixture
def write(evaluation: EvaluationReport, data_card: DataCard, pictures: Pictures) -> Any:
    """Give a function that writes the page with some of its facts changed."""

    def write_changed(**changes: Any) -> str:
        given = {"evaluation": evaluation, "data_card": data_card, "report_pictures": pictures, **changes}
        return write_report(CHALLENGER, serving_report={**PASSED, **given.pop("served", {})}, **given)

    return write_changed


@pytest.mark.parametrize(
    ("served", "verdict", "says"),
    [
        ({}, "Promoted", "with AUROC 0.780 against 0.751 of version 3"),
        ({"champion": None}, "Promoted", "it meets every limit of the gate."),
        ({"passed": False, "decision": "refuse", "reasons": REASONS}, "Not promoted", REASONS[0]),
        ({"passed": False, "reasons": REASONS}, "Promoted, with reservations", REASONS[0]),
        ({"passed": None, "champion": None}, "Promoted without a check", "serving.gate.mode is off"),
        (UNASKED, "Not promoted", "the endpoint did not start"),
    ],
    ids=["promoted", "first", "refused", "reported", "off", "no answer"],
)
def test_the_verdict_comes_first_with_its_reason(write: Any, served: dict[str, Any], verdict: str, says: str) -> None:
    text = Page(write(served=served)).text
    start = text[text.index("Cygnet: report") : text.index("Training and test")]
    assert re.search(rf"^{verdict}$", start, re.MULTILINE)
    assert says in " ".join(start.split())


def test_every_number_is_the_reports_own(
    write: Any, evaluation: EvaluationReport, data_card: DataCard, pictures: Pictures
) -> None:
    facts = {"evaluation": evaluation, "serving_report": PASSED, "data": data_card, "examples": pictures["examples"]}
    facts["model"] = CHALLENGER.metadata
    shown = Page(write()).numbers
    for number in shown:
        value: Any = facts
        for key in json.loads(number["data-key"]):
            value = value[key]
        assert float(number["value"]) == value
        assert is_rounded(number["text"], value), number
    keys = {tuple(json.loads(number["data-key"])) for number in shown}
    for end in ("low", "high"):
        for metric in ("auroc", "average_precision", "f1", "recall"):
            assert ("evaluation", "intervals", metric, end) in keys
            assert ("evaluation", "baselines", "majority", "intervals", metric, end) in keys
        assert {("evaluation", "by_kind", kind, "intervals", "auroc", end) for kind in ("polygon", "scar")} <= keys
    assert keys >= {
        ("evaluation", "by_kind", KIND_NULL, "auroc"),
        ("evaluation", "by_severity", "middle", "recall"),
        ("evaluation", "view", "by_frame_size", "640x360", "seen_frac"),
        ("evaluation", "training", "seed"),
        ("evaluation", "temperature"),
        ("evaluation", "ece"),
        ("serving_report", "latency_ms", "p95"),
        ("serving_report", "gate", "min_auroc"),
        ("model", "parity", "decisions_agree_frac"),
    }


def test_only_what_was_not_measured_is_a_dash(write: Any) -> None:
    dashes = write().count('<td class="number">&ndash;</td>')
    assert dashes == 1 + 3  # the recall of the control; no kind of the toys has a localisation


def test_a_report_of_an_earlier_version_is_written_too(write: Any, evaluation: EvaluationReport) -> None:
    earlier: dict[str, Any] = copy.deepcopy(dict(evaluation))
    del earlier["view"], earlier["training"]["seed"]
    earlier["by_severity"] = {}
    assert "smallest object" not in write(evaluation=earlier)


def test_a_frame_labelled_abnormal_is_told_and_its_absence_too(write: Any) -> None:
    real = SCORES.assign(kind=SCORES["kind"].replace("scar", "real"))
    assert "no frame of test is labelled abnormal" in write()
    assert "no frame of test is labelled abnormal" not in write(evaluation=toy_evaluation(real))


def test_the_data_is_counted_by_source_split_label_and_who_labelled(data_card: DataCard) -> None:
    none = dict.fromkeys(("train", "validation", "test"), 0)
    assert data_card["sources"] == 2
    assert data_card["images"] == [
        {"source": HOSTILE, "label": "normal", "label_source": "default", **none, "validation": 1},
        {"source": "pond", "label": "abnormal", "label_source": "human", **none, "test": 1},
        {"source": "pond", "label": "normal", "label_source": "default", **none, "train": 6, "test": 1},
    ]
    assert data_card["anomalies"] == [
        {"kind": "none", **none, "test": 5},
        {"kind": "polygon", **none, "test": 4},
        {"kind": "scar", **none, "test": 1},
    ]
    assert data_card["rejects"] == [{"reason": "gap", "count": 11}, {"reason": HOSTILE, "count": 2}]


def test_a_broken_promise_and_suspicious_images_stand_near_the_verdict(
    write: Any, evaluation: EvaluationReport
) -> None:
    rule = {"rule": "target_fpr", "promised_fpr": 0.05, "false_alarm_frames": 2, "is_kept": False}
    suspects = pd.DataFrame([("pond", 0, 0, 9.0, 2.0), ("pond", 1, 0, 8.0, 2.0)], columns=NO_SUSPECTS.columns)
    card = describe_data(dataset(IMAGES_ROWS, IMAGES), images_of(SCORES), REJECTS, suspects)
    text = Page(write(data_card=card, evaluation={**evaluation, "threshold_rule": rule})).text
    verdict = text[: text.index("Training and test")]
    assert "2 of 5 normal test frames are called anomalous, though the threshold promises at most 5.0\xa0%." in verdict
    assert "2 of 6 normal train images look contaminated: see suspicious_frames.png" in verdict
    text = Page(write()).text
    assert "contaminated" not in text
    assert "though the threshold" not in text


def test_names_are_words(write: Any) -> None:
    kinds = SCORES["kind"].replace("scar", "polygon_soft")
    scores = SCORES.assign(kind=kinds)
    images, size = images_of(scores), {"tiles": 2, "seen_frac": 0.987, "smallest_object_px": 22.5}
    view = {"view": "tiles", "region": None, "ignore": None, "by_frame_size": {"640x360": size}}
    evaluation = {**toy_evaluation(scores), "view": view}
    shown = draw_pictures(predictions_of(scores), images, evaluation)
    card = describe_data(dataset(IMAGES_ROWS, IMAGES), images, REJECTS, NO_SUSPECTS)
    page = Page(write(evaluation=evaluation, report_pictures=shown, data_card=card))
    text = " ".join([*page.text.split(), *(picture["alt"] for picture in page.named("img"))])
    assert "polygon_soft" not in text
    assert "polygon soft: a patch slightly brighter or darker" in text
    assert "control: nothing is drawn" in text
    assert "not labelled: taken as normal" in text
    assert "The detector sees overlapping squares that cover the frame." in text
    assert not re.search(r"target_fpr|max_f1|\bdefault\b|\bnone\b|\d%", text[text.index("Cygnet: report") :])


def test_nothing_rejected_is_said(write: Any) -> None:
    card = describe_data(dataset(IMAGES_ROWS, IMAGES), images_of(SCORES), REJECTS.head(0), NO_SUSPECTS)
    assert "every frame and every label was used" in write(data_card=card)


def test_many_sources_and_reasons_are_counted_together() -> None:
    rows = [image(f"pond-{number:03d}/000001", "train") for number in range(3 * MOST_ROWS)]
    rejects = pd.DataFrame({"reason": [f"reason {number}" for number in range(3 * MOST_ROWS)], "count": 2})
    card = describe_data(dataset(rows, IMAGES), images_of(SCORES), rejects, NO_SUSPECTS)
    assert len(card["images"]) == len(card["rejects"]) == MOST_ROWS + 1
    assert sum(row["train"] for row in card["images"]) == card["sources"] == 3 * MOST_ROWS
    assert sum(row["count"] for row in card["rejects"]) == 6 * MOST_ROWS


def test_examples_are_hits_misses_and_false_alarms() -> None:
    controls = SCORES.assign(kind=KIND_NULL, image_id="control", anomaly_score=np.float32(0.99), is_anomalous=True)
    scores = pd.concat([SCORES, controls])
    examples = choose_examples(predictions_of(scores), images_of(scores))
    chosen = {name: [round(example["anomaly_score"], 3) for example in group] for name, group in examples.items()}
    assert chosen == {"hits": [0.9, 0.8], "misses": [0.3], "false_alarms": [0.7, 0.6], "calm": []}
    assert [example["kind"] for example in examples["hits"]] == ["scar", "polygon"]
    assert all(example["picture"].startswith("data:image/jpeg") for example in examples["hits"])


def test_without_a_false_alarm_the_normal_images_that_score_highest_are_shown() -> None:
    calm = toy_predictions([0.01 * number for number in range(1, 20)], [0.9])
    examples = choose_examples(predictions_of(calm), images_of(calm))
    assert examples["false_alarms"] == examples["misses"] == []
    assert [round(example["anomaly_score"], 2) for example in examples["calm"]] == [
        round(0.19 - 0.01 * place, 2) for place in range(MOST_EXAMPLES)
    ]


def test_the_page_stands_alone_and_runs_nothing(write: Any) -> None:
    served = {"passed": False, "decision": "refuse", "reasons": REASONS}
    page = Page(write(served=served))
    assert page.addresses()
    assert all(address.startswith("data:image/") for address in page.addresses())
    assert page.named("script") == page.named("link") == page.named("iframe") == []
    assert HOSTILE in page.text
    (policy,) = [meta["content"] for meta in page.named("meta") if "http-equiv" in meta]
    assert "default-src 'none'" in policy
    assert "script-src 'none'" in policy


def test_the_same_run_gives_the_same_bytes(write: Any, evaluation: EvaluationReport) -> None:
    again = draw_pictures(predictions_of(SCORES), images_of(SCORES), evaluation)
    assert write(report_pictures=again) == write()


def test_the_largest_page_is_below_its_limit(write: Any) -> None:
    """Noise is what JPEG makes least of."""
    kinds = [f"kind-{number}" for number in range(2 * MOST_EXAMPLES)]
    scores = toy_predictions([0.8] * 20, [0.1, 0.9] * len(kinds)).assign(
        kind=["none"] * 20 + [kind for kind in kinds for _ in range(2)]
    )
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    rows = [toy_row(row.image_id, row.label, "test", kind=row.kind, image=noise) for row in scores.itertuples()]
    examples = choose_examples(predictions_of(scores), dataset(rows, TRAINING_SET))
    assert [len(group) for group in examples.values()] == [MOST_EXAMPLES] * 3 + [0]
    figures = dict.fromkeys(("score_histogram", "roc", "precision_recall", "reliability", "confusion"), "x" * 200_000)
    page = write(report_pictures={"examples": examples, "figures": {**figures, "auroc_by_kind": "x" * 400_000}})
    assert len(page.encode()) < 10e6
