"""What the metrics promise: every value and step arrives, however many there are."""

import mlflow
import pytest

from cygnet.datasets.metrics import MetricsDataset


def test_all_metrics_and_steps_arrive(tracking: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cygnet.datasets.metrics.MAX_PER_REQUEST", 3)
    history = [{"value": 0.5, "step": 1}, {"value": 0.25, "step": 2}]
    MetricsDataset().save({"loss": history, **{f"test.{n}": {"value": n, "step": 0} for n in range(7)}})
    client, run = mlflow.MlflowClient(), mlflow.active_run()
    assert run is not None
    logged = client.get_metric_history(run.info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in logged] == [(1, 0.5), (2, 0.25)]
    metrics = client.get_run(run.info.run_id).data.metrics
    assert {metrics[f"test.{n}"] for n in range(7)} == set(range(7))


def test_without_a_run_no_metric_is_logged_and_no_run_is_made(tracking: None) -> None:
    mlflow.end_run()
    before = len(mlflow.search_runs(search_all_experiments=True))
    MetricsDataset().save({"loss": {"value": 0.5, "step": 0}})
    assert mlflow.active_run() is None
    assert len(mlflow.search_runs(search_all_experiments=True)) == before
