"""What the parity check promises: each limit applies to the runtimes it is meant for, on the same images."""

import json

import numpy as np
import pandas as pd
import pytest

from cygnet.model.evaluation.parity import compare_runtimes
from cygnet.parameters.serving import Parity, RuntimeName
from cygnet.reports import ParityReport
from cygnet.tables import ABNORMAL, KIND_NULL, NORMAL
from support.reports import assert_conforms
from support.toys import toy_predictions

LIMITS = Parity(
    images_per_kind=100,
    max_abs_score_difference=1e-3,
    max_mean_abs_score_difference=0.02,
    min_decisions_agree_frac=0.95,
    max_auroc_loss=0.1,
)


def rows() -> pd.DataFrame:
    """10 normal images, 10 easy anomalies, 10 hard ones that torch separates in part, and a control."""
    table = toy_predictions([0.1 + 0.01 * n for n in range(10)], [0.9] * 10 + [0.115 + 0.012 * n for n in range(10)])
    table["kind"] = [*table["kind"][:20], *["blur"] * 10]
    control = toy_predictions([], [0.1]).assign(kind=KIND_NULL, image_id="control")
    return pd.concat([table, control], ignore_index=True)


def compare(served: pd.DataFrame, name: RuntimeName = "onnx") -> ParityReport:
    parity = compare_runtimes(rows(), served, name, LIMITS)
    assert_conforms(parity, ParityReport)
    assert parity["passed"] == (not parity["reasons"])
    assert json.loads(json.dumps(parity, allow_nan=True)) == parity or np.isnan(parity["max_abs_score_difference"])
    return parity


@pytest.mark.parametrize("name", ["torch", "torch_bf16", "onnx", "onnx_int8"])
def test_the_same_scores_pass_in_any_order(name: RuntimeName) -> None:
    parity = compare(rows()[::-1], name)
    assert parity == {
        "runtime": name,
        "rows": 31,
        "max_abs_score_difference": 0.0,
        "mean_abs_score_difference": 0.0,
        "decisions_agree_frac": 1.0,
        "hardest_kind": "blur",
        "auroc_loss_hardest_kind": 0.0,
        "passed": True,
        "reasons": [],
    }


@pytest.mark.parametrize("image_id", ["image-0", "image-29", "control"])
def test_one_score_that_differs_fails_in_float32_and_passes_in_less(image_id: str) -> None:
    served = rows()
    served.loc[served["image_id"] == image_id, "anomaly_score"] += np.float32(0.0011)
    refused = compare(served, "onnx")
    assert refused["max_abs_score_difference"] == pytest.approx(0.0011, abs=1e-6)
    assert len(refused["reasons"]) == 1
    assert "serving.parity.max_abs_score_difference" in refused["reasons"][0]
    assert compare(served, "onnx_int8")["passed"]


@pytest.mark.parametrize("name", ["torch_bf16", "onnx_int8"])
def test_each_limit_of_fewer_bits_is_a_reason(name: RuntimeName) -> None:
    shifted = rows().assign(anomaly_score=lambda table: table["anomaly_score"] + np.float32(0.021))
    assert [reason.split("(")[1] for reason in compare(shifted, name)["reasons"]] == [
        "serving.parity.max_mean_abs_score_difference)"
    ]
    decided = rows().assign(is_anomalous=lambda table: table["is_anomalous"] ^ (table.index % 10 == 3))
    assert [reason.split("(")[1] for reason in compare(decided, name)["reasons"]] == [
        "serving.parity.min_decisions_agree_frac)"
    ]
    turned = rows()
    hard, normal = turned["kind"] == "blur", turned["label"] == NORMAL
    turned.loc[hard, "anomaly_score"] = np.float32(0.1)
    parity = compare(turned, name)
    assert "serving.parity.max_auroc_loss" in parity["reasons"][-1]
    assert parity["auroc_loss_hardest_kind"] > 0.1
    assert normal.sum() == (turned.loc[hard, "label"] == ABNORMAL).sum() == 10


@pytest.mark.parametrize("name", ["onnx", "onnx_int8"])
def test_an_image_without_a_score_fails(name: RuntimeName) -> None:
    assert not compare(rows().drop(index=30), name)["passed"]
