"""Wiring of synthesis."""

from kedro.pipeline import Pipeline, node

from cygnet.pipelines.synthesis.nodes import draw_anomalies


def create_pipeline() -> Pipeline:
    """Draw the asked-for kinds of anomaly on every normal image."""
    return Pipeline(
        [node(draw_anomalies, ["images", "params:synthesis"], "anomalies", name="draw_anomalies", tags="spark")],
        tags="synthesis",
    )
