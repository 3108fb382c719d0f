"""What a model was trained on, in the MLflow run: name, place, digest and schema of the training table."""

from typing import Any

import mlflow
import mlflow.data.pandas_dataset
import pandas as pd
from kedro.io import AbstractDataset
from mlflow.data.spark_dataset_source import SparkDatasetSource

from cygnet.storage import is_remote


class LineageDataset(AbstractDataset[pd.DataFrame, None]):
    """Logs a table's rows (without pixels) as an input of the active MLflow run; write-only."""

    def __init__(self, *, name: str, source: str, context: str, metadata: dict[str, Any] | None = None) -> None:
        """Describe the input: `name` and `context` as MLflow shows them, `source` the table's place."""
        self._name = name
        self._source = source
        self._context = context
        self.metadata = metadata

    def save(self, data: pd.DataFrame) -> None:
        """Log the rows' digest and schema."""
        source = SparkDatasetSource(self._source) if is_remote(self._source) else self._source
        rows = mlflow.data.pandas_dataset.from_pandas(data, source=source, name=self._name)
        mlflow.log_input(rows, context=self._context)

    def load(self) -> None:
        """Refuse: lineage is only written."""
        raise NotImplementedError

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "source": self._source, "context": self._context}
