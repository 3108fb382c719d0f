"""Wiring of adaptation. As in calibration, `calibrated_champion` is the champion when the run starts."""

from kedro.pipeline import Pipeline, node

from cygnet.pipelines.adaptation.nodes import (
    adapt_champion,
    compare_subspaces,
    package_adapted,
    write_adaptation_report,
)
from cygnet.pipelines.calibration.nodes import (
    list_normal_frames,
    promote_successor,
    read_champion,
    score_normal_video,
)


def create_pipeline() -> Pipeline:
    """Score normal video, add axes, compare, report, register, promote or raise."""
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
                adapt_champion,
                ["videos", "normal_frames", "champion_detector", "params:scoring"],
                "adaptation",
                name="adapt_champion",
            ),
            node(
                compare_subspaces,
                ["training_set", "champion_detector", "adaptation"],
                "auroc_comparison",
                name="compare_subspaces",
            ),
            node(
                write_adaptation_report,
                ["adaptation", "auroc_comparison", "calibrated_champion", "params:scoring", "params:serving.gate"],
                "adaptation_report",
                name="write_adaptation_report",
                tags="report",
            ),
            node(
                package_adapted,
                ["champion_detector", "adaptation", "adaptation_report"],
                "adapted",
                name="package_adapted",
                tags="registry",
            ),
            node(
                promote_successor,
                ["adapted", "calibrated_champion", "adaptation_report"],
                ["decision_tags", "live_endpoint", "champion"],  # saved in this order: traffic first, then the alias
                name="promote_adapted",
                tags="registry",
            ),
        ],
        tags="adaptation",
    )
