"""The run's metrics in MLflow, logged in batches.

An evaluation has some 1,600 figures, and the dataset of kedro-mlflow sends one request for each: 5.5 s on a local
store, against 0.2 s.
"""

import time
from collections.abc import Iterable
from typing import Any

from kedro_mlflow.io.metrics import MlflowMetricsHistoryDataset
from mlflow import MlflowClient
from mlflow.entities import Metric

MOST_PER_REQUEST = 1000
"""MLflow's own limit of `log_batch`."""


class MetricsDataset(MlflowMetricsHistoryDataset):
    """Saves metric name to `{"value", "step"}`, or to a list of them, into the active run."""

    def _save(self, data: dict[str, Any]) -> None:
        if not self._logging_activated:
            return
        now_ms = int(time.time() * 1000)
        metrics = [
            Metric(name, item["value"], now_ms, item["step"]) for name, items in data.items() for item in _list(items)
        ]
        client, run_id = MlflowClient(), self.run_id
        for start in range(0, len(metrics), MOST_PER_REQUEST):
            client.log_batch(run_id, metrics[start : start + MOST_PER_REQUEST])


def _list(items: Any) -> Iterable[dict[str, Any]]:
    return items if isinstance(items, list) else [items]
