"""Wiring of calibration. `calibrated_champion` is the champion when the run starts, `champion` the one it makes."""

from kedro.pipeline import Pipeline, node

from cygnet.pipelines.calibration.nodes import (
    compare_auroc,
    list_normal_frames,
    package_recalibrated,
    promote_successor,
    read_champion,
    recalibrate_champion,
    score_normal_video,
    write_calibration_report,
)


def create_pipeline() -> Pipeline:
    """Score normal video, calibrate, compare, report, register, promote or raise."""
    return Pipeline(
        [
            node(
                score_normal_video,
                ["videos", "calibrated_champion", "normal_score_parts", "params:scoring"],
                "normal_scores",
                name="score_normal_video",
                tags="spark",
            ),
            node(list_normal_frames, "normal_scores", "normal_frames", name="list_normal_frames", tags="spark"),
            node(read_champion, "calibrated_champion", "champion_detector", name="read_champion"),
            node(
                recalibrate_champion,
                ["normal_frames", "champion_detector", "params:scoring", "params:training.threshold.target_fpr"],
                "recalibration",
                name="recalibrate_champion",
            ),
            node(
                compare_auroc,
                ["predictions", "champion_detector", "recalibration"],
                "auroc_comparison",
                name="compare_auroc",
            ),
            node(
                write_calibration_report,
                ["recalibration", "auroc_comparison", "calibrated_champion", "params:scoring", "params:serving.gate"],
                "calibration_report",
                name="write_calibration_report",
                tags="report",
            ),
            node(
                package_recalibrated,
                ["champion_detector", "recalibration", "calibration_report"],
                "recalibrated",
                name="package_recalibrated",
                tags="registry",
            ),
            node(
                promote_successor,
                ["recalibrated", "calibrated_champion", "calibration_report"],
                ["decision_tags", "live_endpoint", "champion"],  # saved in this order: traffic first, then the alias
                name="promote_recalibrated",
                tags="registry",
            ),
        ],
        tags="calibration",
    )
