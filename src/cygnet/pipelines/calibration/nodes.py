"""Nodes of calibration. The report is written before anything is registered; a refusal registers nothing."""

import logging
from dataclasses import replace

import pandas as pd
import pyarrow.dataset as pad
from mlflow.exceptions import MlflowException
from pyspark.sql import DataFrame

from cygnet.endpoints.versions import PREVIOUS_CHAMPION, Decision, ModelVersion, UnusableVersionError, VersionTags
from cygnet.errors import UserError
from cygnet.model.evaluation.alarm_rate import Recalibration, rate_upper_bound, recalibrate, written_rate
from cygnet.model.scoring.score_parts import ScoreParts
from cygnet.model.serving.packaging import PackagedDetector, fetch_detector
from cygnet.parameters.scoring import Scoring
from cygnet.parameters.serving import Gate
from cygnet.pipelines.calibration.gate import AurocComparison, check_verdict, judge, measure_auroc
from cygnet.pipelines.scoring.nodes import score_frames
from cygnet.pipelines.scoring.spark_scoring import collect_scored
from cygnet.pipelines.serving.gate import note_decision
from cygnet.progress import spell
from cygnet.reports import AdaptationReport, CalibrationReport

logger = logging.getLogger(__name__)

FRAME_COLUMNS = [
    "frame_id",
    "source",
    "media",
    "frame_index",
    "timestamp_s",
    "classifier_margin",
    "normality_distance",
    "motion",
]


def score_normal_video(
    videos: pd.DataFrame, calibrated_champion: ModelVersion, score_parts: ScoreParts, scoring: Scoring
) -> DataFrame:
    """Score every frame as the pipeline scoring does; arguments and errors as its `score_frames`.

    Raises:
        UserError: A folder says that its images are abnormal.
    """
    abnormal = videos[videos["label"] == "abnormal"]
    if len(abnormal):
        msg = (
            f"Every frame must be normal here, but {abnormal['path'].iloc[0]} lies in a folder of abnormal images: "
            "pass the folder of normal ones, --params=video=PATH."
        )
        raise UserError(msg)
    return score_frames(videos, calibrated_champion, score_parts, scoring)[0]


def list_normal_frames(normal_scores: DataFrame) -> pd.DataFrame:
    """List what the network says of the frames that have a score: `FRAME_COLUMNS`, by source, in time order.

    Raises:
        UserError: No frame has one.
    """
    return collect_scored(normal_scores, FRAME_COLUMNS)


def read_champion(calibrated_champion: ModelVersion) -> PackagedDetector:
    """Read network, calibration, example and metadata of the champion.

    Raises:
        UserError: It can't be used by this version of Cygnet.
    """
    try:
        return fetch_detector(calibrated_champion.uri)
    except (ValueError, OSError, MlflowException) as error:
        raise UnusableVersionError(calibrated_champion, error) from error


def recalibrate_champion(
    normal_frames: pd.DataFrame, champion_detector: PackagedDetector, scoring: Scoring, target_fpr: float
) -> Recalibration:
    """Calibrate on the normal frames: see `cygnet.model.evaluation.alarm_rate.recalibrate`.

    Args:
        normal_frames: What `list_normal_frames` gave.
        champion_detector: The champion; its calibration promises a false-positive rate.
        scoring: `max_alarms_per_hour`, `events`, `smoothing_s`, and `threshold`, which replaces the new one if given.
        target_fpr: Share of normal frames that may be called anomalous, > 0 and < 1, by a champion that promises none.
    """
    old = champion_detector.scorer.calibration
    promised_fpr = target_fpr if old.target_fpr is None else old.target_fpr
    found = recalibrate(normal_frames, old, promised_fpr, scoring)
    logger.info(
        "Threshold %.4f (was %.4f). Alarms in %s of normal video: %d, which proves at most %s per hour with "
        "95 %% confidence. Anomalous frames: %.1f %% (were %.1f %%).",
        found.calibration.threshold,
        old.threshold,
        spell(3600 * found.threshold_hours),
        found.alarms,
        written_rate(rate_upper_bound(found.alarms, found.threshold_hours)),
        100 * found.anomalous_frac,
        100 * found.old_anomalous_frac,
    )
    if scoring.threshold is not None:
        logger.warning(
            "The pipeline scoring ignores this threshold for as long as scoring.threshold is %g: set that to null.",
            scoring.threshold,
        )
    return found


def compare_auroc(
    predictions: pad.Dataset, champion_detector: PackagedDetector, recalibration: Recalibration
) -> AurocComparison:
    """Measure both calibrations on the test rows of `predictions`: see `cygnet.pipelines.calibration.gate`."""
    recorded = champion_detector.metadata.get("auroc_test")
    return measure_auroc(predictions, recorded, recalibration.old, recalibration.calibration)


def write_calibration_report(
    recalibration: Recalibration,
    auroc_comparison: AurocComparison,
    calibrated_champion: ModelVersion,
    scoring: Scoring,
    gate: Gate,
) -> CalibrationReport:
    """Sum up, and decide: see `cygnet.pipelines.calibration.gate`.

    Returns:
        The content of `calibration_report.json`.
    """
    return {
        **judge(auroc_comparison, calibrated_champion, gate, "predictions"),
        "sources": recalibration.sources,
        "crop": scoring.crop,
        "interval_s": scoring.interval_s,
        "frames": recalibration.frames,
        "hours": recalibration.hours,
        "threshold_frames": recalibration.threshold_frames,
        "threshold_hours": recalibration.threshold_hours,
        "rule": "target_fpr" if scoring.max_alarms_per_hour is None else "max_alarms_per_hour",
        "old_threshold": recalibration.old.threshold,
        "new_threshold": recalibration.calibration.threshold,
        "promised_fpr": recalibration.promised_fpr,
        "old_anomalous_frac": recalibration.old_anomalous_frac,
        "anomalous_frac": recalibration.anomalous_frac,
        "max_alarms_per_hour": scoring.max_alarms_per_hour,
        "alarms": recalibration.alarms,
        "alarms_per_hour": recalibration.alarms / recalibration.threshold_hours,
        "alarms_per_hour_upper_bound": rate_upper_bound(recalibration.alarms, recalibration.threshold_hours),
    }


def package_recalibrated(
    champion_detector: PackagedDetector, recalibration: Recalibration, calibration_report: CalibrationReport
) -> PackagedDetector:
    """Give the champion another calibration.

    Raises:
        UserError: It was refused, with the reasons.
    """
    check_verdict(calibration_report, "calibration")
    calibration = recalibration.calibration
    metadata = {
        **champion_detector.metadata,
        "threshold": calibration.threshold,
        "threshold_rule": calibration.rule,
        "promised_fpr": calibration.target_fpr,
        "auroc_test": calibration_report["auroc"],
        "recalibrated_version": calibration_report["model"]["version"],
    }
    scorer = champion_detector.scorer.with_calibration(calibration)
    return replace(champion_detector, scorer=scorer, metadata=metadata)


def promote_successor(
    successor: ModelVersion, calibrated_champion: ModelVersion, report: CalibrationReport | AdaptationReport
) -> tuple[VersionTags, Decision, ModelVersion]:
    """Make the new version the champion; its tags name the one before, to which a rollback goes back."""
    tags = {**note_decision(report), PREVIOUS_CHAMPION: calibrated_champion.version}
    decision = Decision(successor, is_promoted=True, reasons=tuple(report["reasons"]))
    logger.info(
        "%s version %s is the champion; `kedro run --pipeline=rollback` gives version %s its place back.",
        successor.name,
        successor.version,
        calibrated_champion.version,
    )
    return VersionTags(successor, tags), decision, successor
