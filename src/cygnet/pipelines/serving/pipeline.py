"""Wiring of serving. `incumbent` is the champion when the run starts, None the first time.

`write_report` needs nothing that `decide` makes, so it runs before `promote`, which raises for a refused challenger.
"""

from kedro.pipeline import Pipeline, node

from cygnet.pipelines.serving.nodes import (
    ask_endpoint,
    choose_test_rows,
    decide,
    promote,
    rescore_incumbent,
    write_serving_report,
)
from cygnet.report.run_page import describe_data, draw_pictures, write_report


def create_pipeline() -> Pipeline:
    """Serve, ask, compare, report, decide, promote or raise."""
    return Pipeline(
        [
            node(choose_test_rows, ["training_set", "params:serving.parity"], "asked_rows", name="choose_test_rows"),
            node(
                ask_endpoint,
                ["endpoint", "challenger", "asked_rows", "params:serving.batch_size", "params:serving.client"],
                "endpoint_answers",
                name="ask_endpoint",
            ),
            node(
                rescore_incumbent,
                ["incumbent", "challenger", "training_set", "params:serving.batch_size", "params:serving.gate"],
                "incumbent_scores",
                name="rescore_incumbent",
            ),
            node(
                write_serving_report,
                ["challenger", "endpoint_answers", "predictions", "incumbent_scores", "params:serving.gate"],
                "serving_report",
                name="write_serving_report",
                tags="report",
            ),
            node(
                describe_data,
                ["train_frames", "training_set", "rejects", "suspicious_frames"],
                "data_card",
                name="describe_data",
            ),
            node(
                draw_pictures,
                ["predictions", "training_set", "evaluation"],
                "report_pictures",
                name="draw_report_pictures",
            ),
            node(
                write_report,
                ["challenger", "evaluation", "serving_report", "data_card", "report_pictures"],
                "report",
                name="write_report",
                tags="report",
            ),
            node(
                decide,
                ["challenger", "incumbent", "serving_report"],
                ["decision_tags", "live_endpoint", "decision"],  # saved in this order: traffic first, then the alias
                name="decide",
                tags="registry",
            ),
            node(promote, "decision", "champion", name="promote", tags="registry"),
        ],
        tags="serving",
    )
