"""Nodes of adaptation. Scoring, reading and promotion are those of calibration; a refusal registers nothing."""

import logging
from dataclasses import replace
from functools import partial

import pandas as pd
import pyarrow.dataset as pad

from cygnet.endpoints.versions import ModelVersion
from cygnet.model.evaluation.predictions import measure_rows
from cygnet.model.scoring.frame_scores import FrameScoring
from cygnet.model.scoring.outside import Adaptation, adapt, see_again
from cygnet.model.serving.packaging import PackagedDetector
from cygnet.model.serving.scorer import scores_of
from cygnet.model.training_set import check_classes, read_keys, sample_rows
from cygnet.parameters.scoring import Scoring
from cygnet.parameters.serving import Gate
from cygnet.pipelines.calibration.gate import AurocComparison, check_verdict, judge
from cygnet.reports import AdaptationReport
from cygnet.tables import KIND_NULL

logger = logging.getLogger(__name__)

TEST_IMAGES_PER_KIND = 32
"""Test images of each kind that both subspaces are compared on; the network runs on each twice."""


def adapt_champion(
    videos: pd.DataFrame, normal_frames: pd.DataFrame, champion_detector: PackagedDetector, scoring: Scoring
) -> Adaptation:
    """Add axes to the champion's subspace: see `cygnet.model.scoring.outside`.

    Args:
        videos: The table of sources.
        normal_frames: What `list_normal_frames` gave.
        champion_detector: The champion.
        scoring: `interval_s` and `crop`, by which the frames were scored.

    Raises:
        UserError: The frames show another scene, nothing lies outside, or the champion has no subspace in its score.
    """
    scorer = champion_detector.scorer
    seen = FrameScoring(
        parts_folder="",
        scorer_folder="",
        view=scoring.view or scorer.scene.view,
        interval_s=scoring.interval_s,
        scene=scorer.scene,
    )
    adaptation = adapt(normal_frames, scorer, partial(see_again, sources=videos, scoring=seen))
    logger.info(
        "%d axes added to the normal subspace, from %d false alarms in %d frames.",
        adaptation.axes,
        adaptation.distant_frames,
        adaptation.adapting_frames,
    )
    if adaptation.old_anomalous_frac is not None:
        logger.info(
            "Anomalous among the frames that gave no axes: %.1f %% (were %.1f %%).",
            100 * (adaptation.anomalous_frac or 0),
            100 * adaptation.old_anomalous_frac,
        )
    return adaptation


def compare_subspaces(
    training_set: pad.Dataset, champion_detector: PackagedDetector, adaptation: Adaptation
) -> AurocComparison:
    """Measure both subspaces on the same test images, of each kind at most `TEST_IMAGES_PER_KIND`.

    Raises:
        UserError: A class has none.
    """
    from cygnet.model.evaluation.evaluate import auroc

    check_classes(read_keys(training_set, "test"), "test")
    images = sample_rows(training_set, "test", TEST_IMAGES_PER_KIND).filter(pad.field("kind") != KIND_NULL)
    scorers = (champion_detector.scorer, adaptation.scorer)
    rows = [measure_rows(scorer, images, ["test"]) for scorer in scorers]
    calibration = champion_detector.scorer.calibration
    old, new = (auroc(each.assign(anomaly_score=scores_of(each, calibration)["anomaly_score"])) for each in rows)
    return AurocComparison(old, new)


def write_adaptation_report(
    adaptation: Adaptation,
    auroc_comparison: AurocComparison,
    calibrated_champion: ModelVersion,
    scoring: Scoring,
    gate: Gate,
) -> AdaptationReport:
    """Sum up, and decide: see `cygnet.pipelines.calibration.gate`; axes that help no other frame are refused too.

    Returns:
        The content of `adaptation_report.json`.
    """
    return {
        **judge(auroc_comparison, calibrated_champion, gate, "training_set", _find_no_use(adaptation)),
        "sources": adaptation.sources,
        "crop": scoring.crop,
        "interval_s": scoring.interval_s,
        "frames": adaptation.frames,
        "adapting_frames": adaptation.adapting_frames,
        "distant_frames": adaptation.distant_frames,
        "strange_frac": adaptation.strange_frac,
        "axes": adaptation.axes,
        "old_anomalous_frac": adaptation.old_anomalous_frac,
        "anomalous_frac": adaptation.anomalous_frac,
    }


def package_adapted(
    champion_detector: PackagedDetector, adaptation: Adaptation, adaptation_report: AdaptationReport
) -> PackagedDetector:
    """Give the champion the larger subspace.

    `auroc_test` stays: by it calibration knows that `predictions` are of this champion's network and calibration.

    Raises:
        UserError: It was refused, with the reasons.
    """
    check_verdict(adaptation_report, "subspace")
    metadata = {**champion_detector.metadata, "adapted_version": adaptation_report["model"]["version"]}
    return replace(champion_detector, scorer=adaptation.scorer, metadata=metadata)


def _find_no_use(adaptation: Adaptation) -> list[str]:
    """Give the reason against axes that leave as many of the other frames anomalous as before, if any were."""
    before, after = adaptation.old_anomalous_frac, adaptation.anomalous_frac
    if not before or after is None or after < before:
        return []
    return [
        f"the {adaptation.axes} new axes change nothing on the frames that gave none, of which {100 * after:.1f} % are "
        f"anomalous and {100 * before:.1f} % were: give video of the same camera and view, calibrate where the "
        "classifier raises the false alarms, or train a detector for this scene"
    ]
