"""Nodes of serving. The report is written whatever happens; what follows from it is decided after."""

import json
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as pad

from cygnet.endpoints.client import Endpoint, EndpointError
from cygnet.endpoints.versions import PREVIOUS_CHAMPION, Decision, ModelVersion, UnusableVersionError, VersionTags
from cygnet.errors import UserError
from cygnet.parameters.serving import Gate, Serving
from cygnet.tables import ABNORMAL, KIND_NULL, NORMAL

logger = logging.getLogger(__name__)


ROUNDS_AT_ONCE = 8
"""So many times the images that are in flight are read into memory at once."""


@dataclass(frozen=True)
class Answers:
    """What an endpoint answered: a row per image, and figures of each request; or why it failed."""

    scores: pd.DataFrame  # image_id, frame_id, label, kind, what the model answers, anomaly_score by our own softmax
    request_bytes: list[int]
    latency_ms: list[float]
    retries: list[int]
    failure: str | None


def ask_endpoint(endpoint: Endpoint, challenger: ModelVersion, training_set: pad.Dataset, serving: Serving) -> Answers:
    """Serve the challenger and ask it about every test image, in small batches, over REST.

    The score is computed on this side, by softmax of the logits that were answered. A failure is an answer too: it goes
    into the report.
    """
    from cygnet.model.rows import iterate_rows
    from cygnet.model.serving.scorer import softmax_abnormal

    parts: list[pd.DataFrame] = []
    request_bytes: list[int] = []
    latency_ms: list[float] = []
    retries: list[int] = []
    failure = None
    rows_at_once = serving.batch_size * serving.client.in_flight * ROUNDS_AT_ONCE
    try:
        with endpoint.serve(challenger, serving.client) as client:
            request_bytes, latency_ms, retries = client.request_bytes, client.latency_ms, client.retries
            for rows in iterate_rows(training_set, ["test"], rows_at_once):
                answer = client.score(list(rows["image"]), cropped=True, batch_size=serving.batch_size)
                answer["anomaly_score"] = softmax_abnormal(*answer[["logit_abnormal", "logit_normal"]].to_numpy().T)
                keys = rows[["image_id", "frame_id", "label", "kind"]].reset_index(drop=True)
                parts.append(pd.concat([keys, answer], axis=1))
    except EndpointError as error:
        failure = error.message
    scores = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return Answers(scores, request_bytes, latency_ms, retries, failure)


def rescore_incumbent(incumbent: ModelVersion | None, training_set: pad.Dataset, serving: Serving) -> pd.DataFrame:
    """Score the challenger's own test images with the champion of before; empty, if there is none or the gate is off.

    Returns:
        `image_id`, `label`, `kind`, `anomaly_score`.

    Raises:
        UserError: The champion can't be used.
    """
    from cygnet.model.rows import iterate_rows

    if incumbent is None or serving.gate.mode == "off":
        return pd.DataFrame()
    parts = []
    for rows in iterate_rows(training_set, ["test"], serving.batch_size):
        try:
            scores = incumbent.predict(list(rows["image"]), cropped=True)
        except UnusableVersionError as error:
            msg = f"{error.message} To serve without comparing with a champion, pass --params=serving.gate.mode=off."
            raise UserError(msg) from error
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

    A challenger that did not answer, or not for every image, is refused whatever the gate's mode.

    Returns:
        The content of `serving_report.json`. `passed` says whether the gate's limits are kept (None: mode `off`,
        nothing was compared), `reasons` which are not, `decision` what follows: `promote` or `refuse`.
    """
    from cygnet.model.evaluation.evaluate import auroc, describe_normal, describe_scores

    gate = serving.gate
    report: dict[str, Any] = {
        "model": {"name": challenger.name, "version": challenger.version},
        "requests": len(answers.request_bytes),
        "retries": sum(answers.retries),
        "request_bytes": _mean_and_max(answers.request_bytes),
        "latency_ms": _p50_and_p95(answers.latency_ms),
        "normal": None,
        "abnormal": None,
        "false_alarm_frac": None,
        "auroc": None,
        "champion": None,
        "max_abs_score_difference": None,
        "parity": None,
        "gate": gate.model_dump(),
    }
    failure = answers.failure or _unscored(answers.scores)
    if failure is not None:
        return {**report, "passed": False, "reasons": [failure], "decision": "refuse"}
    drawn = answers.scores[answers.scores["kind"] != KIND_NULL]
    normal = drawn[drawn["label"] == NORMAL]
    report["normal"] = describe_normal(normal["anomaly_score"])
    report["abnormal"] = describe_scores(drawn.loc[drawn["label"] == ABNORMAL, "anomaly_score"])
    report["false_alarm_frac"] = float(normal["is_anomalous"].mean())
    report["auroc"] = auroc(drawn)
    report["max_abs_score_difference"] = _largest_difference(answers.scores, predictions)
    report["parity"] = challenger.metadata.get("parity")
    if incumbent is not None and not incumbent_scores.empty:
        incumbent_drawn = incumbent_scores[incumbent_scores["kind"] != KIND_NULL]
        report["champion"] = {"version": incumbent.version, "auroc": auroc(incumbent_drawn)}
    if gate.mode == "off":
        return {**report, "passed": None, "reasons": [], "decision": "promote"}
    reasons = refusal_reasons(report, gate)
    decision = "refuse" if reasons and gate.mode == "enforce" else "promote"
    return {**report, "passed": not reasons, "reasons": reasons, "decision": decision}


def refusal_reasons(report: dict[str, Any], gate: Gate) -> list[str]:
    """Name every limit that the challenger misses, its own check of parity included."""
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
    if not report["normal"]["p99"] <= gate.max_normal_p99:
        reasons.append(
            f"the 99th percentile of normal images' scores, {report['normal']['p99']:.4f}, is above "
            f"{gate.max_normal_p99:g} (serving.gate.max_normal_p99)"
        )
    if not report["false_alarm_frac"] <= gate.max_false_alarm_frac:
        reasons.append(
            f"{report['false_alarm_frac']:.1%} of the normal images are called anomalous, allowed are "
            f"{gate.max_false_alarm_frac:.1%} (serving.gate.max_false_alarm_frac)"
        )
    champion = report["champion"]
    if champion and not report["auroc"] >= champion["auroc"] - gate.max_auroc_loss:
        reasons.append(
            f"AUROC {report['auroc']:.4f} is more than {gate.max_auroc_loss:g} (serving.gate.max_auroc_loss) below the "
            f"champion's {champion['auroc']:.4f} (version {champion['version']}) on the same images"
        )
    parity = report["parity"]
    if parity and not parity["passed"]:
        reasons.append(f"the model failed its own check of parity: {', '.join(parity['reasons'])}")
    return reasons


def decide(
    challenger: ModelVersion, incumbent: ModelVersion | None, serving_report: dict[str, Any]
) -> tuple[VersionTags, Decision, Decision]:
    """Draw from the report what follows for the challenger.

    Returns:
        What the registry notes at the version, and the decision: once for the endpoint, once for `promote`.

    Raises:
        UserError: The report is about another version.
    """
    if serving_report["model"] != {"name": challenger.name, "version": challenger.version}:
        tested = serving_report["model"]["version"]
        msg = (
            f"{challenger.name} version {challenger.version} is not promoted: the report is about version {tested}. "
            "Run `kedro run --pipeline=serving` again."
        )
        raise UserError(msg)
    is_promoted = serving_report["decision"] == "promote"
    tags = {
        "cygnet_gate_mode": serving_report["gate"]["mode"],
        "cygnet_gate_passed": json.dumps(serving_report["passed"]),
        "cygnet_gate_decision": serving_report["decision"],
        "cygnet_gate_reasons": "; ".join(serving_report["reasons"]),
    }
    if is_promoted and incumbent is not None and incumbent.version != challenger.version:
        tags[PREVIOUS_CHAMPION] = incumbent.version
    decision = Decision(challenger, is_promoted, tuple(serving_report["reasons"]))
    return VersionTags(challenger, tags), decision, decision


def promote(decision: Decision) -> ModelVersion:
    """Make the challenger the champion.

    Raises:
        UserError: It was refused, with the reasons.
    """
    name = f"{decision.version.name} version {decision.version.version}"
    if not decision.is_promoted:
        msg = f"{name} is not promoted: {'; '.join(decision.reasons)}."
        raise UserError(msg)
    if decision.reasons:
        logger.warning("%s is promoted, though %s.", name, "; ".join(decision.reasons))
    logger.info("%s is the champion.", name)
    return decision.version


def _unscored(scores: pd.DataFrame) -> str | None:
    """Say how many images were answered without a score, and what the model says about the first; None: none."""
    unscored = scores[scores["anomaly_score"].isna()]
    if unscored.empty:
        return None
    error = unscored.iloc[0].get("error")
    said = f", about {unscored.iloc[0]['image_id']}: {error}" if error else ""
    return f"the endpoint answered {len(unscored)} of {len(scores)} images without a score{said}"


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
