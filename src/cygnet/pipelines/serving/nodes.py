"""Nodes of serving. The report is always written; the decision follows from it."""

import logging

import pandas as pd
import pyarrow.dataset as pad

from cygnet.endpoints.client import Endpoint, EndpointError
from cygnet.endpoints.versions import PREVIOUS_CHAMPION, Decision, ModelVersion, UnusableVersionError, VersionTags
from cygnet.errors import UserError
from cygnet.parameters.serving import Client, Gate, Parity
from cygnet.pipelines.serving.gate import (
    NOT_COMPARED,
    Answers,
    IncumbentScores,
    describe_requests,
    measure_answers,
    note_decision,
    refusal_reasons,
    unscored,
)
from cygnet.progress import tracked
from cygnet.reports import ServingReport
from cygnet.scene import PARAMETERS

logger = logging.getLogger(__name__)


ROUNDS_AT_ONCE = 8
"""Images read into memory at once, as a multiple of the images in flight."""


def choose_test_rows(training_set: pad.Dataset, parity: Parity) -> pad.Dataset:
    """Choose the test rows that the endpoint is asked about: some of each kind tell whether it scores as offline."""
    from cygnet.model.training_set import sample_rows

    return sample_rows(training_set, "test", parity.images_per_kind)


def ask_endpoint(
    endpoint: Endpoint, challenger: ModelVersion, asked_rows: pad.Dataset, batch_size: int, client: Client
) -> Answers:
    """Serve the challenger and ask it about test images, in small batches, over REST.

    The score is computed here, by softmax of the returned logits. A failure is a result too: it goes into the report.
    """
    from cygnet.model.serving.scorer import softmax_abnormal
    from cygnet.model.training_set import count_rows, iterate_rows

    parts: list[pd.DataFrame] = []
    request_bytes: list[int] = []
    latency_ms: list[float] = []
    retries: list[int] = []
    failure = None
    rows_at_once = batch_size * client.in_flight * ROUNDS_AT_ONCE
    try:
        with endpoint.serve(challenger, client) as served:
            request_bytes, latency_ms, retries = served.request_bytes, served.latency_ms, served.retries
            batches, count = iterate_rows(asked_rows, ["test"], rows_at_once), count_rows(asked_rows, ["test"])
            for rows in tracked(batches, "Asking the endpoint", "images", count, len):
                answer = served.score(list(rows["image"]), cropped=True, batch_size=batch_size)
                answer["anomaly_score"] = softmax_abnormal(*answer[["logit_abnormal", "logit_normal"]].to_numpy().T)
                keys = rows[["image_id", "frame_id", "label", "kind"]].reset_index(drop=True)
                parts.append(pd.concat([keys, answer], axis=1))
    except EndpointError as error:
        failure = error.message
    scores = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return Answers(scores, request_bytes, latency_ms, retries, failure)


def rescore_incumbent(
    incumbent: ModelVersion | None, challenger: ModelVersion, training_set: pad.Dataset, batch_size: int, gate: Gate
) -> IncumbentScores:
    """Score the challenger's own test images with the previous champion.

    Returns:
        Its scores, or `NOT_COMPARED`.

    Raises:
        UserError: The champion can't be used.
    """
    from cygnet.model.training_set import count_rows, iterate_rows

    if incumbent is None or gate.mode == "off":
        return NOT_COMPARED
    before, now = incumbent.made_with(), challenger.made_with()
    for key in PARAMETERS.values():
        if before.get(key) != now.get(key):
            logger.warning(
                "The champion, version %s, was made with %s %s, the challenger with %s: it is compared on images "
                "unlike those it was trained on.",
                incumbent.version,
                key,
                before.get(key),
                now.get(key),
            )
    parts = []
    batches, count = iterate_rows(training_set, ["test"], batch_size), count_rows(training_set, ["test"])
    for rows in tracked(batches, "Scoring with the champion", "images", count, len):
        try:
            scores = incumbent.predict(list(rows["image"]), cropped=True)
        except UnusableVersionError as error:
            msg = f"{error.message} To serve without comparing with a champion, pass --params=serving.gate.mode=off."
            raise UserError(msg) from error
        keys = rows[["image_id", "frame_id", "label", "kind"]].reset_index(drop=True)
        parts.append(pd.concat([keys, scores[["anomaly_score"]]], axis=1))
    return IncumbentScores(incumbent.version, pd.concat(parts, ignore_index=True))


def write_serving_report(
    challenger: ModelVersion,
    answers: Answers,
    predictions: pad.Dataset,
    incumbent_scores: IncumbentScores,
    gate: Gate,
) -> ServingReport:
    """Compare what the endpoint answered with `predictions`, the gate's limits and the champion.

    A challenger that did not answer, or not for every image, is refused whatever the gate's mode.

    Returns:
        The content of `serving_report.json`. `passed` says whether the challenger passes the gate (None: mode
        `off`, nothing was compared), `reasons` which it misses, `decision` what follows: `promote` or `refuse`.
    """
    report: ServingReport = {
        "model": {"name": challenger.name, "version": challenger.version},
        **describe_requests(answers),
        "normal": None,
        "abnormal": None,
        "false_alarm_frac": None,
        "auroc": None,
        "champion": None,
        "max_abs_score_difference": None,
        "parity": None,
        "gate": gate.model_dump(),
        "passed": False,
        "reasons": [],
        "decision": "refuse",
    }
    failure = answers.failure or unscored(answers.scores)
    if failure is not None:
        return {**report, "reasons": [failure]}
    metrics = measure_answers(answers, predictions, incumbent_scores, challenger.metadata.get("parity"))
    if gate.mode == "off":
        return {**report, **metrics, "passed": None, "decision": "promote"}
    reasons = refusal_reasons(metrics, gate)
    is_refused = bool(reasons) and gate.mode == "enforce"
    return {
        **report,
        **metrics,
        "passed": not reasons,
        "reasons": reasons,
        "decision": "refuse" if is_refused else "promote",
    }


def decide(
    challenger: ModelVersion, incumbent: ModelVersion | None, serving_report: ServingReport
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
    tags = note_decision(serving_report)
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
    return decision.version
