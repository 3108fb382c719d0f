"""Wiring of rollback: traffic first, then the alias."""

from kedro.pipeline import Pipeline, node

from cygnet.pipelines.rollback.nodes import roll_back


def create_pipeline() -> Pipeline:
    """Put the previous champion back."""
    return Pipeline(
        [node(roll_back, "previous_champion", ["live_endpoint", "champion"], name="roll_back", tags="registry")],
        tags="rollback",
    )
