"""The gate: the endpoint's answers compared with `predictions`, and these with fixed limits and the previous champion.

The endpoint is asked about a sample. Where it answers as `predictions` say, all of `predictions` tell what it is worth.
"""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.dataset as pad

from cygnet.parameters.serving import Gate
from cygnet.reports import (
    AdaptationReport,
    CalibrationReport,
    ChampionAuroc,
    LatencyMs,
    ParityReport,
    RequestBytes,
    RequestMetrics,
    ServedMetrics,
    ServingReport,
)
from cygnet.tables import ABNORMAL, NORMAL


@dataclass(frozen=True)
class Answers:
    """What an endpoint answered: a row per image, and figures of each request; or why it failed."""

    scores: pd.DataFrame  # image_id, frame_id, label, kind, what the model answers, anomaly_score by our own softmax
    request_bytes: list[int]
    latency_ms: list[float]
    retries: list[int]
    failure: str | None


@dataclass(frozen=True)
class IncumbentScores:
    """The previous champion, re-scored on the challenger's own test images."""

    version: str
    scores: pd.DataFrame  # image_id, frame_id, label, kind, anomaly_score


NOT_COMPARED = IncumbentScores("", pd.DataFrame())
"""There is no champion yet, or the gate is off. Kedro can't pass None from node to node."""


def measure_answers(
    answers: Answers, predictions: pad.Dataset, incumbent: IncumbentScores, parity: ParityReport | None
) -> ServedMetrics:
    """Compute the metrics that the gate checks.

    Args:
        answers: What the endpoint answered, a score for every image that it was asked about.
        predictions: The table.
        incumbent: The previous champion, or `NOT_COMPARED`.
        parity: What the challenger records of its own check of parity.
    """
    from cygnet.model.evaluation.counted import counted_rows
    from cygnet.model.evaluation.evaluate import auroc, describe_normal, describe_scores

    columns = ["image_id", "frame_id", "label", "kind", "anomaly_score", "is_anomalous"]
    offline = predictions.to_table(columns=columns, filter=pad.field("split") == "test").to_pandas()
    counted = counted_rows(offline)
    normal = counted[counted["label"] == NORMAL]
    champion: ChampionAuroc | None = None
    if incumbent.version:
        champion = {"version": incumbent.version, "auroc": auroc(counted_rows(incumbent.scores))}
    return {
        "normal": describe_normal(normal["anomaly_score"]),
        "abnormal": describe_scores(counted.loc[counted["label"] == ABNORMAL, "anomaly_score"]),
        "false_alarm_frac": float(normal["is_anomalous"].mean()),
        "auroc": auroc(counted),
        "max_abs_score_difference": _largest_difference(answers.scores, offline),
        "parity": parity,
        "champion": champion,
    }


def refusal_reasons(metrics: ServedMetrics, gate: Gate) -> list[str]:
    """Name every limit that the challenger misses, its own check of parity included."""
    reasons = []
    difference = metrics["max_abs_score_difference"]
    if difference is None:
        reasons.append("the endpoint was asked about images that the test rows of predictions lack")
    elif difference > gate.max_abs_score_difference:
        reasons.append(
            f"the endpoint's scores differ from predictions by up to {difference:.2g}, "
            f"allowed are {gate.max_abs_score_difference:g} (serving.gate.max_abs_score_difference)"
        )
    if not metrics["auroc"] >= gate.min_auroc:
        reasons.append(f"AUROC {metrics['auroc']:.4f} is below {gate.min_auroc:g} (serving.gate.min_auroc)")
    if not metrics["normal"]["p99"] <= gate.max_normal_p99:
        reasons.append(
            f"the 99th percentile of normal images' scores, {metrics['normal']['p99']:.4f}, is above "
            f"{gate.max_normal_p99:g} (serving.gate.max_normal_p99)"
        )
    if not metrics["false_alarm_frac"] <= gate.max_false_alarm_frac:
        reasons.append(
            f"{100 * metrics['false_alarm_frac']:.1f} % of the normal images are called anomalous, allowed are "
            f"{100 * gate.max_false_alarm_frac:.1f} % (serving.gate.max_false_alarm_frac)"
        )
    champion = metrics["champion"]
    if champion and not metrics["auroc"] >= champion["auroc"] - gate.max_auroc_loss:
        reasons.append(
            f"AUROC {metrics['auroc']:.4f} is more than {gate.max_auroc_loss:g} (serving.gate.max_auroc_loss) below "
            f"the champion's {champion['auroc']:.4f} (version {champion['version']}) on the same images"
        )
    parity = metrics["parity"]
    if parity and not parity["passed"]:
        reasons.append(f"the model failed its own check of parity: {', '.join(parity['reasons'])}")
    return reasons


def note_decision(report: ServingReport | CalibrationReport | AdaptationReport) -> dict[str, str]:
    """Give the tags by which the registry notes what was decided about a version."""
    return {
        "cygnet_gate_mode": str(report["gate"]["mode"]),
        "cygnet_gate_passed": json.dumps(report["passed"]),
        "cygnet_gate_decision": report["decision"],
        "cygnet_gate_reasons": "; ".join(report["reasons"]),
    }


def describe_requests(answers: Answers) -> RequestMetrics:
    """Sum up the requests: their images, how many, attempts beyond the first, bytes and milliseconds."""
    return {
        "images": len(answers.scores),
        "requests": len(answers.request_bytes),
        "retries": sum(answers.retries),
        "request_bytes": _mean_and_max(answers.request_bytes),
        "latency_ms": _p50_and_p95(answers.latency_ms),
    }


def unscored(scores: pd.DataFrame) -> str | None:
    """Say how many images were answered without a score, and what the model says about the first; None: none."""
    unscored = scores[scores["anomaly_score"].isna()]
    if unscored.empty:
        return None
    error = unscored.iloc[0].get("error")
    said = f", about {unscored.iloc[0]['image_id']}: {error}" if error else ""
    return f"the endpoint answered {len(unscored)} of {len(scores)} images without a score{said}"


def _largest_difference(scores: pd.DataFrame, offline: pd.DataFrame) -> float | None:
    """Largest absolute difference of the scores over what was asked; None if `predictions` lack such an image."""
    both = scores.merge(offline, on="image_id", how="left", suffixes=("_served", "_offline"))
    difference = (both["anomaly_score_served"] - both["anomaly_score_offline"]).abs()
    return None if difference.isna().any() else float(difference.max())


def _mean_and_max(values: list[int]) -> RequestBytes | None:
    return {"mean": float(np.mean(values)), "max": int(np.max(values))} if values else None


def _p50_and_p95(values: list[float]) -> LatencyMs | None:
    return {"p50": float(np.percentile(values, 50)), "p95": float(np.percentile(values, 95))} if values else None
