"""Nodes of serving. The report is written whatever happens; what follows from it is decided after."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as pad

from cygnet.datasets.endpoint import EndpointError, LocalEndpoint
from cygnet.datasets.registry import ModelVersion
from cygnet.errors import UserError
from cygnet.parameters import Gate, Serving
from cygnet.tables import ABNORMAL, KIND_NULL, NORMAL

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answers:
    """What an endpoint answered: a row per image, and size and time of each request; or why it failed."""

    scores: pd.DataFrame  # image_id, frame_id, label, kind, logit_abnormal, logit_normal, anomaly_score
    request_bytes: list[int]
    latency_ms: list[float]
    failure: str | None


def ask_endpoint(
    endpoint: LocalEndpoint, challenger: ModelVersion, training_set: pad.Dataset, serving: Serving
) -> Answers:
    """Serve the challenger and ask it about every test image, in small batches, over REST.

    The score is computed on this side, by softmax of the logits that were answered. A failure is an answer too: it goes
    into the report.
    """
    from cygnet.model.data import iterate_rows
    from cygnet.model.scorer import softmax_abnormal

    parts: list[pd.DataFrame] = []
    request_bytes: list[int] = []
    latency_ms: list[float] = []
    failure = None
    try:
        with endpoint.serve(challenger) as client:
            request_bytes, latency_ms = client.request_bytes, client.latency_ms
            for rows in iterate_rows(training_set, ["test"], serving.batch_size):
                answer = client.score(list(rows["image"]), cropped=True)
                answer["anomaly_score"] = softmax_abnormal(*answer[["logit_abnormal", "logit_normal"]].to_numpy().T)
                keys = rows[["image_id", "frame_id", "label", "kind"]].reset_index(drop=True)
                parts.append(pd.concat([keys, answer.drop(columns="is_anomalous")], axis=1))
    except EndpointError as error:
        failure = str(error)
    scores = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return Answers(scores, request_bytes, latency_ms, failure)


def rescore_incumbent(incumbent: ModelVersion | None, training_set: pad.Dataset) -> pd.DataFrame:
    """Score the challenger's own test images with the champion of before; empty, if there is none.

    Returns:
        `image_id`, `label`, `kind`, `anomaly_score`.
    """
    from cygnet.model.data import iterate_rows

    if incumbent is None:
        return pd.DataFrame()
    parts = []
    for rows in iterate_rows(training_set, ["test"]):
        scores = incumbent.predict(list(rows["image"]), cropped=True)
        keys = rows[["image_id", "label", "kind"]].reset_index(drop=True)
        parts.append(pd.concat([keys, scores[["anomaly_score"]]], axis=1))
    return pd.concat(parts, ignore_index=True)


def write_serving_report(
    challenger: ModelVersion,
    answers: Answers,
    predictions: pad.Dataset,
    incumbent: ModelVersion | None,
    incumbent_scores: pd.DataFrame,
    serving: Serving,
) -> dict[str, Any]:
    """Compare what the endpoint answered with `predictions`, the gate's limits and the champion.

    Returns:
        The content of `serving_report.json`: `passed` says whether the challenger may be promoted, `reasons` why not.
    """
    from cygnet.model.evaluate import auroc, describe_normal, describe_scores

    report: dict[str, Any] = {
        "model": {"name": challenger.name, "version": challenger.version},
        "requests": len(answers.request_bytes),
        "request_bytes": _mean_and_max(answers.request_bytes),
        "latency_ms": _p50_and_p95(answers.latency_ms),
        "normal": None,
        "abnormal": None,
        "auroc": None,
        "champion": None,
        "max_abs_score_difference": None,
    }
    failure = answers.failure
    if failure is None and answers.scores["anomaly_score"].isna().any():
        failure = f"the endpoint answered {answers.scores['anomaly_score'].isna().sum()} images without a score"
    if failure is not None:
        return {**report, "passed": False, "reasons": [failure]}
    drawn = answers.scores[answers.scores["kind"] != KIND_NULL]
    report["normal"] = describe_normal(drawn.loc[drawn["label"] == NORMAL, "anomaly_score"])
    report["abnormal"] = describe_scores(drawn.loc[drawn["label"] == ABNORMAL, "anomaly_score"])
    report["auroc"] = auroc(drawn)
    report["max_abs_score_difference"] = _largest_difference(answers.scores, predictions)
    if incumbent is not None:
        incumbent_drawn = incumbent_scores[incumbent_scores["kind"] != KIND_NULL]
        report["champion"] = {"version": incumbent.version, "auroc": auroc(incumbent_drawn)}
    reasons = refusal_reasons(report, serving.gate)
    return {**report, "passed": not reasons, "reasons": reasons}


def refusal_reasons(report: dict[str, Any], gate: Gate) -> list[str]:
    """Name every limit that the challenger misses; empty, if it may be promoted."""
    reasons = []
    difference = report["max_abs_score_difference"]
    if difference is None:
        reasons.append("the endpoint's answers and the test rows of predictions are not of the same images")
    elif difference > gate.max_abs_score_difference:
        reasons.append(
            f"the endpoint's scores differ from predictions by up to {difference:.2g}, "
            f"allowed are {gate.max_abs_score_difference:g} (serving.gate.max_abs_score_difference)"
        )
    if not report["auroc"] >= gate.min_auroc:
        reasons.append(f"AUROC {report['auroc']:.4f} is below {gate.min_auroc:g} (serving.gate.min_auroc)")
    champion = report["champion"]
    if champion and not report["auroc"] >= champion["auroc"] - gate.max_auroc_loss:
        reasons.append(
            f"AUROC {report['auroc']:.4f} is more than {gate.max_auroc_loss:g} (serving.gate.max_auroc_loss) below the "
            f"champion's {champion['auroc']:.4f} (version {champion['version']}) on the same images"
        )
    return reasons


def promote(challenger: ModelVersion, serving_report: dict[str, Any]) -> ModelVersion:
    """Make the challenger the champion.

    Raises:
        UserError: The report says that it did not pass, with the reasons.
    """
    name = f"{challenger.name} version {challenger.version}"
    if serving_report["model"] != {"name": challenger.name, "version": challenger.version}:
        tested = serving_report["model"]["version"]
        msg = f"{name} is not promoted: the report is about version {tested}. Run `kedro run --pipeline=serving` again."
        raise UserError(msg)
    if not serving_report["passed"]:
        msg = f"{name} is not promoted: {'; '.join(serving_report['reasons'])}."
        raise UserError(msg)
    logger.info("%s is the champion.", name)
    return challenger


def _largest_difference(scores: pd.DataFrame, predictions: pad.Dataset) -> float | None:
    """Largest absolute difference of the scores over all test rows; None if a row is missing on either side."""
    offline = predictions.to_table(
        columns=["image_id", "anomaly_score"], filter=pad.field("split") == "test"
    ).to_pandas()
    both = scores.merge(offline, on="image_id", how="outer", suffixes=("_served", "_offline"))
    difference = (both["anomaly_score_served"] - both["anomaly_score_offline"]).abs()
    return None if difference.isna().any() else float(difference.max())


def _mean_and_max(values: list[int]) -> dict[str, float] | None:
    return {"mean": float(np.mean(values)), "max": int(np.max(values))} if values else None


def _p50_and_p95(values: list[float]) -> dict[str, float] | None:
    return {f"p{share}": float(np.percentile(values, share)) for share in (50, 95)} if values else None
