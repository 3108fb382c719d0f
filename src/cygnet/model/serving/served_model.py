"""The model as MLflow serves it, by models-from-code: this file is its code, the folder of `Scorer` its weights.

A request has a column `image`: the bytes of a JPEG, PNG, WebP, BMP or TIFF (base64 in JSON), and may have parameters:

- `cropped`: false (the default) for whole frames, which are cropped and resized as in ingestion; true for images of the
  scene that are cropped already.
- `threshold`: a score from 0 to 1 to use instead of the model's own.
- `heatmap`: true for one more column, `heatmap`: a grey PNG of the size of each image as it was sent, upright. 255
  stands for a patch that is certainly abnormal. What the model does not see of a whole frame is 0.

The answer has a row per image: `logit_abnormal`, `logit_normal` (calibrated), `anomaly_score`, `is_anomalous`,
`threshold`, `model_version`, `error`. An image that can't be decoded has an `error` and null scores.

`model_version` is the number in the registry if the model was fetched as `models:/name/...`: MLflow then stores that
number beside the model, which does not contain it itself. Otherwise it is the model's MLflow id (`m-...`), which leads
to its run and to the version.
"""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import Model, set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.utils.yaml_utils import read_yaml

from cygnet.model.serving.request import COLUMN, RequestError, encoded_image, read_body, receive_body
from cygnet.model.serving.scorer import Limits, Scorer

REGISTERED = "registered_model_meta"


class ServedDetector(PythonModel):
    """Answers requests with a `Scorer`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the scorer once, before the first request."""
        folder = Path(context.artifacts["detector"])
        self.scorer = Scorer.load(folder)
        self.version = read_version(folder.parents[1])
        if "mlflow.pyfunc.scoring_server.app" in sys.modules:  # this process serves this model alone
            take_requests_within(self.scorer.limits)

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow passes it by name
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Score every image of a request.

        Raises:
            RequestError: It has too many rows or pixels, or a threshold outside 0-1: answered with status 400.
        """
        cells, most = model_input[COLUMN].tolist(), self.scorer.limits.request_rows
        if len(cells) > most:
            msg = f"The request has {len(cells)} images, at most {most} are allowed: send fewer at once."
            raise RequestError(msg)
        params = params or {}
        cropped, threshold = bool(params.get("cropped")), params.get("threshold")
        if threshold is None:
            threshold = self.scorer.calibration.threshold
        elif not 0 <= threshold <= 1:
            msg = f"The parameter threshold is {threshold}: it must be from 0 to 1, or null for the model's own."
            raise RequestError(msg)

        errors: list[str | None] = [None] * len(cells)
        scores, maps = self.scorer.score_frames(self._decode(cells, errors, cropped=cropped), threshold)
        scored = [row for row, error in enumerate(errors) if error is None]
        if bool(params.get("heatmap")):
            scores["heatmap"] = [
                self.scorer.draw_heatmap(encoded_image(cells[row]), of_image, cropped=cropped)
                for row, of_image in zip(scored, maps, strict=True)
            ]
        if len(scored) < len(cells):  # float32 has no null, and JSON has no NaN
            scores = scores.astype(object).set_axis(scored).reindex(range(len(cells))).replace({np.nan: None})
        return scores.assign(threshold=threshold, model_version=self.version, error=pd.Series(errors, dtype=object))

    def _decode(self, cells: list[Any], errors: list[str | None], *, cropped: bool) -> Iterator[list[np.ndarray]]:
        """Decode the images one by one, to keep only one large image in memory; write failures into `errors`.

        The total of a request's pixels is limited: a few megabytes can hold enough of them for minutes of decoding.
        """
        total_px, most_px = 0, self.scorer.limits.request_px
        for row, cell in enumerate(cells):
            try:
                encoded = encoded_image(cell)
                total_px += self.scorer.count_px(encoded)
                if total_px > most_px:
                    msg = f"The request's images have more than {most_px} pixels together: send fewer at once."
                    raise RequestError(msg)
                yield [self.scorer.decode(encoded)] if cropped else self.scorer.see(encoded)
            except ValueError as error:
                errors[row] = f"The image can't be used: {error}."


def read_version(folder: Path) -> str:
    """Read the version of the model in a folder: see this module's docstring."""
    if (folder / REGISTERED).exists():
        return str(read_yaml(folder, REGISTERED)["model_version"])
    return str(Model.load(folder).model_id)


def take_requests_within(limits: Limits) -> None:
    """Make MLflow's server in this process read requests by `cygnet.model.serving.request`, which says why."""
    from mlflow.pyfunc import scoring_server
    from starlette.requests import Request

    async def body(request: Request) -> bytes:
        return await receive_body(request, limits)

    def invocations(
        data: bytes,
        content_type: str | None,
        model: Any,
        input_schema: Any,  # noqa: ARG001 - `read_body` checks more than the signature
    ) -> scoring_server.InvocationsResponse:
        cells, params = read_body(data, content_type, limits)
        answer = model.predict(pd.DataFrame({COLUMN: pd.Series(cells, dtype=object)}), params=params)
        result = io.StringIO()
        scoring_server.predictions_to_json(answer, result)
        return scoring_server.InvocationsResponse(result.getvalue(), 200, "application/json")

    Request.body = body  # type: ignore[assignment,method-assign]
    scoring_server.invocations = invocations


set_model(ServedDetector())
