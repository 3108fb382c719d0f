"""The detector: a ViT backbone with a 2-class head on its CLS token and a linear head on every patch.

The image's head says whether there is an anomaly, the patches' head where: it is trained from the masks. Labels are
0 = abnormal and 1 = normal, in the config as everywhere.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cygnet.model.preprocessing import Preprocessing
from cygnet.tables import LABELS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS = "model.safetensors"
ID2LABEL = {label: name for name, label in LABELS.items()}


class Detector(nn.Module):
    """From raw pixels to the logits of the image and of its patches. `D` is the backbone's width."""

    def __init__(self, backbone: "PreTrainedModel", preprocessing: Preprocessing) -> None:
        super().__init__()
        backbone.config.id2label, backbone.config.label2id = ID2LABEL, LABELS
        self.backbone = backbone
        self.preprocessing = preprocessing
        self.classifier = nn.Linear(backbone.config.hidden_size, len(LABELS))
        self.patch_head = nn.Linear(backbone.config.hidden_size, 1)
        for head in (self.classifier, self.patch_head):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        nn.init.constant_(self.patch_head.bias, -3.0)  # few patches are abnormal

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take `(B, S, S, 3)` uint8 RGB; give logits `(B, 2)` and patch logits `(B, G, G)`, G = S / patch size."""
        pixels = self.preprocessing.normalise(images)  # (B, 3, S, S) float32
        hidden = self.backbone(pixels, interpolate_pos_encoding=True).last_hidden_state  # (B, 1 + more + G * G, D)
        side = images.shape[1] // self.backbone.config.patch_size  # G
        patches = hidden[:, -side * side :]  # (B, G * G, D)
        return self.classifier(hidden[:, 0]), self.patch_head(patches).reshape(-1, side, side)

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        """Write the Hugging Face config, all weights in one safetensors file, and the preprocessing."""
        self.backbone.save_pretrained(folder)
        heads = {f"classifier.{name}": value for name, value in self.classifier.state_dict().items()}
        heads |= {f"patch_head.{name}": value for name, value in self.patch_head.state_dict().items()}
        weights = {**load_file(folder / WEIGHTS), **heads}
        save_file(
            {name: value.to(dtype).contiguous() for name, value in weights.items()}, folder / WEIGHTS, {"format": "pt"}
        )
        self.preprocessing.save(folder)
