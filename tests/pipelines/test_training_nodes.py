"""What training's nodes promise: every held-out row is scored by the scorer that is served."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad
import pytest

from cygnet.errors import UserError
from cygnet.model.evaluation.calibrate import in_first_half, negative_log_likelihood
from cygnet.model.serving.scorer import Scorer
from cygnet.model.training.results import Fitted, LeftOut
from cygnet.model.training.resume import StateStore
from cygnet.parameters.base import Parameters
from cygnet.parameters.serving import RuntimeName, Serving
from cygnet.parameters.training import Threshold, Training
from cygnet.pipelines.training.evaluation_nodes import check_parity, score_reference_rows
from cygnet.pipelines.training.nodes import (
    fit_detector,
    gather_fit_settings,
    make_scorer,
    package_detector,
    score_held_out_rows,
)
from cygnet.tables import ABNORMAL, IMAGES, KIND_NULL, NORMAL, PREDICTIONS, TRAINING_SET
from cygnet.vision.codec import decode_image
from support.toys import SCENE, toy_row, toy_rows, toy_scorer, toy_training


@pytest.fixture(scope="session")
def training(parameters: dict[str, Parameters]) -> Training:
    """Give parameters of training with a tiny ViT."""
    return toy_training(parameters["training"], epochs=1)


@pytest.fixture(scope="session")
def scorer(training: Training) -> Scorer:
    """Give a scorer that was never fitted."""
    return toy_scorer(training)


def serving_by(parameters: dict[str, Parameters], runtime: RuntimeName, **parity: float) -> Serving:
    """The project's parameters with another runtime."""
    serving = parameters["serving"]
    changed = {"runtime": runtime, "parity": serving.parity.model_copy(update=parity)}
    return serving.model_copy(update=changed)


def with_controls(rows: pa.Table, *splits: str) -> pad.Dataset:
    controls = [toy_row(f"{split}/0/control", ABNORMAL, split, kind=KIND_NULL) for split in splits]
    return pad.dataset(pa.concat_tables([rows, pa.Table.from_pylist(controls, schema=TRAINING_SET)]))


def score_by(
    runtime: RuntimeName,
    scorer: Scorer,
    rows: pad.Dataset,
    training: Training,
    parameters: dict[str, Parameters],
) -> tuple[Scorer, pa.Table]:
    """Calibrate a toy detector in a runtime, and score its held-out rows."""
    fitted = Fitted(scorer.runtime.detector, pd.DataFrame(), 0, 1.0)
    scorer = make_scorer(fitted, SCENE, runtime, parameters["serving"].limits, training)
    no_video = pad.dataset(pa.Table.from_pylist([], schema=IMAGES))
    left_out = LeftOut(pd.DataFrame({"image_id": ["toy/000001"], "distance": [1.0]}), float("inf"), {})
    return score_held_out_rows(scorer, rows, no_video, left_out, training)


def test_predictions_have_each_held_out_row_once_controls_too(
    scorer: Scorer, training: Training, parameters: dict[str, Parameters]
) -> None:
    rows = toy_rows(per_class=6)
    served, predictions = score_by("torch", scorer, with_controls(rows, "test"), training, parameters)
    assert predictions.schema.equals(PREDICTIONS)
    held_out = sorted(name for name in rows["image_id"].to_pylist() if not name.startswith("train"))
    assert predictions["image_id"].to_pylist() == sorted([*held_out, "test/0/control"])
    images = {row["image_id"]: row["image"] for row in rows.to_pylist()}
    for row in predictions.to_pylist():
        if row["kind"] != KIND_NULL:
            expected = served.score([decode_image(images[row["image_id"]])])[0].iloc[0]
            assert row["anomaly_score"] == pytest.approx(expected["anomaly_score"], abs=1e-5)


@pytest.mark.parametrize(("asked", "promised"), [(0.5, 0.5), (0.01, 1 / 4)])
def test_rate_that_so_few_frames_can_not_promise_is_told(
    asked: float,
    promised: float,
    scorer: Scorer,
    training: Training,
    parameters: dict[str, Parameters],
    caplog: pytest.LogCaptureFixture,
) -> None:
    rule = Threshold(rule="target_fpr", target_fpr=asked)
    rows = pad.dataset(toy_rows(per_class=6))  # 3 normal validation images are in the half that the threshold is of
    served, _ = score_by("torch", scorer, rows, training.model_copy(update={"threshold": rule}), parameters)
    assert served.calibration.target_fpr == promised
    told = [record.message for record in caplog.records if "training.threshold.target_fpr" in record.message]
    assert len(told) == (promised > asked)
    assert all("target_fpr 0.01 is out of reach" in message and "guarantees 0.25" in message for message in told)


def test_calibration_is_that_of_validation_without_controls(
    scorer: Scorer, training: Training, parameters: dict[str, Parameters]
) -> None:
    rows = toy_rows(per_class=6)
    plain, mixed = (
        score_by("torch", scorer, table, training, parameters)[0]
        for table in (pad.dataset(rows), with_controls(rows, "validation"))
    )
    assert mixed.calibration == plain.calibration
    assert plain.scene == SCENE
    validation = [row for row in rows.to_pylist() if row["split"] == "validation"]
    is_first = in_first_half(pd.Series([row["frame_id"] for row in validation]))
    validation = [row for row, first in zip(validation, is_first, strict=True) if first]
    labels = np.array([row["label"] for row in validation])
    answer = plain.score([decode_image(row["image"]) for row in validation])[0]
    logits = answer[["logit_abnormal", "logit_normal"]].to_numpy() * plain.calibration.temperature
    nlls = [
        negative_log_likelihood(logits / temperature, labels)
        for temperature in (plain.calibration.temperature, 0.5, 1.0, 2.0, 5.0)
    ]
    assert nlls[0] <= min(nlls) + 1e-4


@pytest.mark.parametrize("runtime", ["torch", "torch_bf16", "onnx", "onnx_int8"])
def test_chosen_runtime_is_calibrated_predicts_and_is_held_against_torch(
    runtime: RuntimeName, scorer: Scorer, training: Training, parameters: dict[str, Parameters]
) -> None:
    rows, serving = with_controls(toy_rows(per_class=6), "test"), serving_by(parameters, runtime)
    fitted = Fitted(scorer.runtime.detector, pd.DataFrame(), 0, 1.0)
    served, predictions = score_by(runtime, scorer, rows, training, parameters)
    assert served.runtime.name == runtime
    assert vars(served.limits) == serving.limits.model_dump()
    (row,) = (row for row in rows.to_table().to_pylist() if row["image_id"] == "test/1/0")
    (predicted,) = (row for row in predictions.to_pylist() if row["image_id"] == "test/1/0")
    expected = served.score([decode_image(row["image"])])[0].iloc[0]
    assert predicted["anomaly_score"] == pytest.approx(expected["anomaly_score"], abs=1e-6)
    reference_scores = score_reference_rows(fitted, served, rows, training, serving.parity)
    parity = check_parity(reference_scores, pad.dataset(predictions), served, serving.parity)
    sampled = 2 * serving.parity.images_per_kind + 1  # of six normal images, six polygons and a control
    assert (parity["runtime"], parity["rows"]) == (runtime, sampled if runtime in {"torch", "onnx"} else 13)
    if runtime in {"torch", "onnx"}:
        assert parity["passed"]
        assert parity["max_abs_score_difference"] < 1e-4
    else:
        assert parity["max_abs_score_difference"] > 1e-5
        strict = serving_by(parameters, runtime, max_mean_abs_score_difference=1e-9)
        again = check_parity(reference_scores, pad.dataset(predictions), served, strict.parity)
        assert "serving.parity.max_mean_abs_score_difference" in again["reasons"][0]


def test_package_tells_runtime_parity_and_what_it_was_made_with(
    scorer: Scorer, parameters: dict[str, Parameters]
) -> None:
    parity, evaluation = {"passed": False, "reasons": ["too far"]}, {"auroc": 0.9, "training": {"checkpoint": None}}
    rows = pad.dataset(toy_rows(per_class=1))
    package = package_detector(scorer, evaluation, parity, rows, parameters["serving"].parity)
    made_with = package.metadata["made_with"]
    assert made_with["ingestion.crop_horizontal_bias"] == SCENE.crop_horizontal_bias
    assert made_with["augmentation.jpeg_quality"] == SCENE.training_jpeg_quality
    assert made_with["serving.runtime"] == "torch"
    assert made_with["serving.limits.request_rows"] == scorer.limits.request_rows
    assert made_with["serving.parity.max_auroc_loss"] == parameters["serving"].parity.max_auroc_loss
    assert package.metadata["parity"] == parity
    assert package.metadata["runtime"] == "torch"
    assert package.metadata["versions"]["numpy"] == np.__version__


@pytest.mark.parametrize("label", [NORMAL, ABNORMAL])
def test_test_split_without_a_class_stops_training_before_it_fits(
    label: int, training: Training, parameters: dict[str, Any], tmp_path: Path
) -> None:
    rows = toy_rows(per_class=2, splits=("train", "validation"))
    only = pa.Table.from_pylist([toy_row(f"test/{n}", label, "test") for n in range(2)], schema=TRAINING_SET)
    settings = gather_fit_settings(training, parameters["synthesis"], parameters["augmentation"], SCENE)
    with pytest.raises(UserError, match="test"):
        fit_detector(pad.dataset(pa.concat_tables([rows, only])), settings, StateStore(tmp_path))
