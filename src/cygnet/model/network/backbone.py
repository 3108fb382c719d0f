"""The detector that a fit starts from: the carried checkpoint, another one by hub id or folder, or an untrained ViT."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError

import cygnet
from cygnet.errors import UserError
from cygnet.model.network.detector import Detector
from cygnet.model.network.preprocessing import Preprocessing
from cygnet.parameters.training import SmallViT, Training

if TYPE_CHECKING:
    from transformers import ViTModel

CARRIED = Path(cygnet.__file__).parent / "checkpoints"
"""Checkpoints that the package carries, in folders named as in `training.checkpoint`."""


def load_detector(training: Training) -> Detector:
    """Load the checkpoint, or initialise a small ViT; new weights follow from the seed.

    Args:
        training: `checkpoint`, `image_size_px`, `small_vit`, `seed`.

    Raises:
        UserError: The checkpoint can't be loaded, has another architecture or shape, or is not in safetensors format.
    """
    torch.manual_seed(training.seed)
    if training.checkpoint is None:
        return Detector(initial_vit(training.small_vit), Preprocessing(training.small_vit.image_size_px))
    carried, folder = CARRIED / training.checkpoint, Path(training.checkpoint).expanduser()
    try:
        if training.checkpoint.startswith(("/", "./", "../", "~")) and not folder.is_dir():
            msg = "there is no such folder"
            raise NotADirectoryError(msg)
        source = next((path for path in (carried, folder) if path.is_dir()), training.checkpoint)
        return Detector.load(source, training.image_size_px)
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".:")
        msg = (
            f"training.checkpoint '{training.checkpoint}' can't be used: {reason}. Give the hub id or the folder of a "
            "ViT with config.json and model.safetensors, the name of one that Cygnet carries "
            f"({', '.join(sorted(path.name for path in CARRIED.iterdir()))}), or null for a small ViT made from its "
            "configuration."
        )
        raise UserError(msg) from error


def initial_vit(small_vit: SmallViT) -> "ViTModel":
    """Make a ViT from its configuration, with weights drawn from torch's global random state."""
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        image_size=small_vit.image_size_px,
        patch_size=small_vit.patch_size_px,
        hidden_size=small_vit.hidden_size,
        intermediate_size=4 * small_vit.hidden_size,
        num_hidden_layers=small_vit.layers,
        num_attention_heads=small_vit.heads,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return ViTModel(config, add_pooling_layer=False)
