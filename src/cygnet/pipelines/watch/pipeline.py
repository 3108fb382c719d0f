"""Wiring of watch."""

from kedro.pipeline import Pipeline, node

from cygnet.pipelines.calibration.nodes import read_champion
from cygnet.pipelines.watch.nodes import prepare_scorer, watch_source, write_watch_report


def create_pipeline() -> Pipeline:
    """Score a live source with the champion until it is stopped, send alerts, and sum up."""
    return Pipeline(
        [
            node(read_champion, "champion", "champion_detector", name="read_watching_champion"),
            node(
                prepare_scorer,
                ["champion_detector", "champion", "params:scoring"],
                "live_scorer",
                name="prepare_scorer",
            ),
            node(
                watch_source,
                ["live", "live_scorer", "watch_parts", "alerts", "params:watch"],
                "watch_run",
                name="watch_source",
            ),
            node(
                write_watch_report,
                ["watch_run", "live_scorer"],
                "watch_report",
                name="write_watch_report",
                tags="report",
            ),
        ],
        tags="watch",
    )
