"""The model as MLflow serves it: models-from-code, so this file is its code and `Scorer`'s folder its weights.

A request has a column `image`: the bytes of a JPEG, PNG, WebP, BMP or TIFF (base64 in JSON), and may have parameters:

- `cropped`: false, the default, if they are whole frames, which are cropped and resized as ingestion does; true for
  images of the scene that are cropped already.
- `threshold`: a score from 0 to 1 to use in place of the model's own.
- `heatmap`: true for a column more, `heatmap`: a grey PNG of each image's size as it was sent, upright, in which 255
  is a patch that is surely abnormal. Of a whole frame, what was not looked at is 0.

The answer has a row per image: `logit_abnormal`, `logit_normal` (calibrated), `anomaly_score`, `is_anomalous`,
`threshold`, `model_version`, `error`. An image that can't be decoded has an `error` and nulls for scores.

`model_version` is the number in the registry where the model was fetched by `models:/name/...`, because MLflow leaves a
note of it beside the model then. A model does not know under which number it was registered; fetched in another way,
it tells its MLflow id (`m-...`), which leads to its run and to the version.
"""

import dataclasses
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
from cygnet.model.serving.scorer import Limits, Scorer, scores_of

REGISTERED = "registered_model_meta"


class ServedDetector(PythonModel):
    """Answers requests with a `Scorer`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the scorer once, before the first request."""
        folder = Path(context.artifacts["detector"])
        self.scorer = Scorer.load(folder)
        self.version = read_version(folder.parents[1])
        if "mlflow.pyfunc.scoring_server.app" in sys.modules:  # this process is a server, of this model alone
            take_requests_within(self.scorer.limits)

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow passes it by name
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Score every image of a request.

        Raises:
            RequestError: It has too many rows or pixels, or a threshold that is no score: answered with status 400.
        """
        cells, most = model_input[COLUMN].tolist(), self.scorer.limits.request_rows
        if len(cells) > most:
            msg = f"The request has {len(cells)} images, at most {most} are taken: send fewer at once."
            raise RequestError(msg)
        params = params or {}
        cropped, threshold = bool(params.get("cropped")), params.get("threshold")
        if threshold is None:
            threshold = self.scorer.calibration.threshold
        elif not 0 <= threshold <= 1:
            msg = f"The parameter threshold is {threshold}: it must be from 0 to 1, or null for the model's own."
            raise RequestError(msg)

        errors: list[str | None] = [None] * len(cells)
        logits, maps = self.scorer.infer(self._decode(cells, errors, cropped=cropped))
        scored = [place for place, error in enumerate(errors) if error is None]
        scores = scores_of(logits, dataclasses.replace(self.scorer.calibration, threshold=threshold))
        if bool(params.get("heatmap")):
            scores["heatmap"] = [
                self.scorer.draw_heatmap(encoded_image(cells[place]), anomaly_map, cropped=cropped)
                for place, anomaly_map in zip(scored, maps, strict=True)
            ]
        if len(scored) < len(cells):  # float32 has no null, only NaN, which is no JSON
            scores = scores.astype(object).set_axis(scored).reindex(range(len(cells))).replace({np.nan: None})
        return scores.assign(threshold=threshold, model_version=self.version, error=pd.Series(errors, dtype=object))

    def _decode(self, cells: list[Any], errors: list[str | None], *, cropped: bool) -> Iterator[np.ndarray]:
        """Decode one image after the other, so that large ones are not in memory together; note what fails.

        The pixels of a request are limited together: a few megabytes can hold enough of them for minutes of decoding.
        """
        total_px, most_px = 0, self.scorer.limits.request_px
        for place, cell in enumerate(cells):
            try:
                encoded = encoded_image(cell)
                total_px += self.scorer.count_px(encoded)
                if total_px > most_px:
                    msg = f"The request's images have more than {most_px} pixels together: send fewer at once."
                    raise RequestError(msg)
                yield self.scorer.decode(encoded, cropped=cropped)
            except ValueError as error:
                errors[place] = f"The image can't be used: {error}."


def read_version(folder: Path) -> str:
    """Read which version the model in a folder is: see this module's docstring."""
    if (folder / REGISTERED).exists():
        return str(read_yaml(folder, REGISTERED)["model_version"])
    return str(Model.load(folder).model_id)


def take_requests_within(limits: Limits) -> None:
    """Let MLflow's server in this process receive and read bodies by `cygnet.model.serving.request`, which says why."""
    from mlflow.pyfunc import scoring_server
    from starlette.requests import Request

    async def body(request: Request) -> bytes:
        return await receive_body(request, limits)

    def invocations(
        data: bytes,
        content_type: str | None,
        model: Any,
        input_schema: Any,  # noqa: ARG001 - what is read fits the signature
    ) -> scoring_server.InvocationsResponse:
        cells, params = read_body(data, content_type, limits)
        answer = model.predict(pd.DataFrame({COLUMN: pd.Series(cells, dtype=object)}), params=params)
        result = io.StringIO()
        scoring_server.predictions_to_json(answer, result)
        return scoring_server.InvocationsResponse(result.getvalue(), 200, "application/json")

    Request.body = body  # type: ignore[assignment,method-assign]
    scoring_server.invocations = invocations


set_model(ServedDetector())
