"""From a 256x256 image to the backbone's input: resizing and normalisation, written once.

Training, `predictions` and the served model all use it. The numbers come from the checkpoint's own
`preprocessor_config.json`, and travel with the model in a file of that name.

torch is imported where it is used: nodes name this module's classes in their annotations, and the command line must
start fast.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import cv2
import numpy as np

if TYPE_CHECKING:
    import torch

FILE_NAME = "preprocessor_config.json"


@dataclass(frozen=True)
class Preprocessing:
    """Input size of the backbone, and mean and standard deviation of each RGB channel for pixels scaled to 0-1."""

    size_px: int
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def resize(self, image: np.ndarray) -> np.ndarray:
        """Resize `(H, W, 3)` uint8 BGR to `(S, S, 3)` uint8 RGB."""
        interpolation = cv2.INTER_AREA if image.shape[0] > self.size_px else cv2.INTER_CUBIC
        resized = cv2.resize(image, (self.size_px, self.size_px), interpolation=interpolation)
        return cv2.cvtColor(resized, cv2.COLOR_BGR2RGB)

    def normalise(self, images: "torch.Tensor") -> "torch.Tensor":
        """Normalise `(B, S, S, 3)` uint8 RGB to `(B, 3, S, S)` float32."""
        import torch

        mean = torch.tensor(self.mean, device=images.device)
        std = torch.tensor(self.std, device=images.device)
        return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()

    def config(self) -> dict[str, Any]:
        """Return the content of `preprocessor_config.json`, with the names of Hugging Face's image processors."""
        return {
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "size": {"height": self.size_px, "width": self.size_px},
        }

    def save(self, folder: Path) -> None:
        """Write `preprocessor_config.json`."""
        (folder / FILE_NAME).write_text(json.dumps(self.config(), indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        config = json.loads((folder / FILE_NAME).read_text())
        return cls(config["size"]["height"], tuple(config["image_mean"]), tuple(config["image_std"]))
