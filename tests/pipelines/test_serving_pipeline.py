"""What the wiring of promotions and rollback promises: noted first, then the traffic, and the alias last."""

from typing import Any

import pytest
from kedro.io import AbstractDataset, DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner

from cygnet.endpoints.client import EndpointError
from cygnet.endpoints.versions import PREVIOUS_CHAMPION, ModelVersion
from cygnet.errors import UserError
from cygnet.hooks import UserErrorHooks
from cygnet.pipeline_registry import register_pipelines
from cygnet.pipelines import adaptation, calibration, rollback, serving

CHALLENGER, INCUMBENT = ModelVersion("cygnet", "7"), ModelVersion("cygnet", "3")
PASSED = {
    "model": {"name": "cygnet", "version": "7"},
    "passed": True,
    "reasons": [],
    "decision": "promote",
    "gate": {"mode": "enforce"},
}
REFUSED = {**PASSED, "passed": False, "reasons": ["too dull"], "decision": "refuse"}
GIVEN = {
    "challenger": CHALLENGER,
    "incumbent": INCUMBENT,
    "previous_champion": INCUMBENT,
    "recalibrated": CHALLENGER,
    "calibrated_champion": INCUMBENT,
    "calibration_report": PASSED,
    "adapted": CHALLENGER,
    "adaptation_report": PASSED,
}


class Recorder(AbstractDataset[Any, None]):
    """Notes what is saved, and fails if it is told to."""

    def __init__(self, name: str, saved: list[tuple[str, Any]], error: Exception | None = None) -> None:
        self.name, self.saved, self.error = name, saved, error

    def save(self, data: Any) -> None:
        """Note it."""
        if self.error is not None:
            raise self.error
        self.saved.append((self.name, data))

    def load(self) -> None:
        """Refuse."""
        raise NotImplementedError

    def _describe(self) -> dict[str, Any]:
        return {}


def run(
    pipeline: Pipeline, saved: list[tuple[str, Any]], report: dict[str, Any] = PASSED, error: Exception | None = None
) -> None:
    inputs = {name: MemoryDataset(value) for name, value in {**GIVEN, "serving_report": report}.items()}
    outputs = {name: Recorder(name, saved) for name in ("decision_tags", "champion")}
    SequentialRunner().run(
        pipeline, DataCatalog({**inputs, **outputs, "live_endpoint": Recorder("live_endpoint", saved, error)})
    )


DECIDING = serving.create_pipeline().only_nodes("decide", "promote")


CALIBRATING = calibration.create_pipeline().only_nodes("promote_recalibrated")
ADAPTING = adaptation.create_pipeline().only_nodes("promote_adapted")


@pytest.mark.parametrize("pipeline", [DECIDING, CALIBRATING, ADAPTING], ids=["serving", "calibration", "adaptation"])
def test_the_traffic_follows_before_the_alias(pipeline: Pipeline) -> None:
    saved: list[tuple[str, Any]] = []
    run(pipeline, saved)
    assert [name for name, _ in saved] == ["decision_tags", "live_endpoint", "champion"]
    assert saved[0][1].tags[PREVIOUS_CHAMPION] == INCUMBENT.version
    assert saved[1][1].is_promoted
    assert saved[2][1] == CHALLENGER


def test_a_refusal_is_noted_and_told_to_the_endpoint_before_it_is_raised() -> None:
    saved: list[tuple[str, Any]] = []
    with pytest.raises(UserError, match="is not promoted: too dull"):
        run(DECIDING, saved, REFUSED)
    assert [name for name, _ in saved] == ["decision_tags", "live_endpoint"]
    assert not saved[1][1].is_promoted


@pytest.mark.parametrize(
    "pipeline",
    [DECIDING, CALIBRATING, ADAPTING, rollback.create_pipeline()],
    ids=["serving", "calibration", "adaptation", "rollback"],
)
def test_the_alias_stays_where_the_traffic_did_not_follow(pipeline: Pipeline) -> None:
    saved: list[tuple[str, Any]] = []
    with pytest.raises(DatasetError) as failed:
        run(pipeline, saved, error=EndpointError("the update failed"))
    with pytest.raises(UserError, match="the update failed"):
        UserErrorHooks().on_pipeline_error(failed.value)
    assert "champion" not in dict(saved)


def test_a_rollback_gives_traffic_and_then_alias_to_the_champion_before() -> None:
    saved: list[tuple[str, Any]] = []
    run(rollback.create_pipeline(), saved)
    assert [(name, getattr(data, "version", data)) for name, data in saved] == [
        ("live_endpoint", INCUMBENT),
        ("champion", "3"),
    ]


@pytest.mark.parametrize("name", ["rollback", "calibration"])
def test_it_is_no_part_of_a_plain_run(name: str) -> None:
    pipelines = register_pipelines()
    assert not {node.name for node in pipelines[name].nodes} & {n.name for n in pipelines["__default__"].nodes}


@pytest.mark.parametrize("name", ["serving", "__default__"])
def test_the_report_is_written_before_a_refusal_is_raised(name: str) -> None:
    order = [node.name for node in register_pipelines()[name].nodes]
    assert order.index("serving.write_report") < order.index("serving.promote")
