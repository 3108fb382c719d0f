"""What a model was trained on, in the MLflow run: name, path, digest and schema of the training table."""

from typing import Any

import mlflow
import mlflow.data.pandas_dataset
import pandas as pd
from mlflow.data.spark_dataset_source import SparkDatasetSource

from cygnet.datasets.base import WriteOnly
from cygnet.storage import is_remote


class LineageDataset(WriteOnly[pd.DataFrame]):
    """Logs a table's rows (without pixels) as an input of the active MLflow run."""

    def __init__(self, *, name: str, source: str, context: str, metadata: dict[str, Any] | None = None) -> None:
        """Describe the input.

        Args:
            name: Name of the table, as MLflow shows it.
            source: Its path.
            context: What it is used for, as MLflow shows it.
            metadata: For kedro-viz.
        """
        self._name = name
        self._source = source
        self._context = context
        self.metadata = metadata

    def save(self, data: pd.DataFrame) -> None:
        """Log the rows' digest and schema."""
        source = SparkDatasetSource(self._source) if is_remote(self._source) else self._source
        rows = mlflow.data.pandas_dataset.from_pandas(data, source=source, name=self._name)
        mlflow.log_input(rows, context=self._context)

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "source": self._source, "context": self._context}
