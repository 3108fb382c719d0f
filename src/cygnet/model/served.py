"""The model as MLflow serves it: models-from-code, so this file is its code and `Scorer`'s folder its weights.

A request has a column `image`: the bytes of a JPEG, PNG, WebP, BMP or TIFF (base64 in JSON). The parameter `cropped`
says what they are: `false`, the default, a whole frame, which is cropped and resized as ingestion does; `true`, an
image of the scene that is cropped already. The answer has a row per image: `logit_abnormal`, `logit_normal`
(calibrated), `anomaly_score`, `is_anomalous`.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from cygnet.model.scorer import Scorer


class ServedDetector(PythonModel):
    """Answers requests with a `Scorer`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the scorer once, before the first request."""
        self.scorer = Scorer.load(Path(context.artifacts["detector"]))

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow passes it by name
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Score every image of a request.

        Raises:
            MlflowException: An image is not decodable: answered with status 400.
        """
        cropped = bool((params or {}).get("cropped", False))
        try:
            images = [self.scorer.decode(encoded, cropped=cropped) for encoded in model_input["image"].fillna(b"")]
        except ValueError as error:
            msg = f"An image of the request can't be decoded: {error}"
            raise MlflowException(msg, error_code=INVALID_PARAMETER_VALUE) from error
        return self.scorer.score(images)


set_model(ServedDetector())
