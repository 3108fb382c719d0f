"""The model that everybody serves first: pixels as nested lists of floats in, plain float32 torch, logits out.

What the reference does. It has the weights that `cygnet.model.network.detector.Detector` saved in its folder.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from torch.nn.functional import interpolate

from cygnet.model.network.detector import Detector


class PlainModel(PythonModel):
    """Takes `(B, H, H, 3)` floats 0-1 as JSON."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights; float32, the attention of the backbone as it comes."""
        detector = Detector.load(Path(context.artifacts["detector"])).eval()
        self.backbone, self.classifier = detector.backbone, detector.classifier
        self.size_px = detector.preprocessing.size_px

    def predict(self, context: PythonModelContext, model_input: Any, params: Any = None) -> list[list[float]]:  # noqa: ARG002
        """Give the two logits of every image."""
        pixels = torch.from_numpy(np.asarray(model_input, np.float32)).permute(0, 3, 1, 2)
        with torch.no_grad():
            pixels = interpolate(pixels, (self.size_px, self.size_px), mode="bilinear", antialias=True)
            tokens = self.backbone((pixels - 0.5) / 0.5).last_hidden_state
            logits: list[list[float]] = self.classifier(tokens[:, 0]).tolist()
        return logits


set_model(PlainModel())
