"""The backbone: a Vision Transformer with a 2-class head, from a checkpoint or from its configuration.

Labels are 0 = abnormal and 1 = normal, in the model's own config as everywhere.
"""

import json
import logging
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError

from cygnet.errors import UserError
from cygnet.model.preprocessing import FILE_NAME, Preprocessing
from cygnet.parameters import SmallViT, Training
from cygnet.tables import LABELS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ViTModel

VIT_FAMILY = ("vit", "deit", "dinov2", "dinov2_with_registers")

ID2LABEL = {label: name for name, label in LABELS.items()}


def load_backbone(training: Training) -> "tuple[PreTrainedModel, Preprocessing]":
    """Load the checkpoint with a new 2-class head, or initialise a small ViT; seeded.

    Args:
        training: `checkpoint` (hub id, folder, or None), `small_vit`, `seed`.

    Returns:
        The model (pixel values `(B, 3, S, S)` float32 to logits `(B, 2)`) and its preprocessing.

    Raises:
        UserError: The checkpoint can't be had, is of another architecture, or is not safetensors.
    """
    torch.manual_seed(training.seed)
    if training.checkpoint is None:
        return _initialise(training.small_vit)
    return _load(training.checkpoint)


def initial_vit(small_vit: SmallViT) -> "ViTModel":
    """Make a ViT from its configuration, with weights from torch's random state."""
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


def _initialise(small_vit: SmallViT) -> "tuple[PreTrainedModel, Preprocessing]":
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=small_vit.image_size_px,
        patch_size=small_vit.patch_size_px,
        hidden_size=small_vit.hidden_size,
        intermediate_size=4 * small_vit.hidden_size,
        num_hidden_layers=small_vit.layers,
        num_attention_heads=small_vit.heads,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        id2label=ID2LABEL,
        label2id=LABELS,
    )
    return ViTForImageClassification(config), Preprocessing(small_vit.image_size_px)


def _load(checkpoint: str) -> "tuple[PreTrainedModel, Preprocessing]":
    from transformers import AutoConfig, AutoModelForImageClassification
    from transformers.utils import logging as transformers_logging

    try:
        config = AutoConfig.from_pretrained(checkpoint)
        if config.model_type not in VIT_FAMILY:
            msg = f"it is a '{config.model_type}', allowed are {', '.join(VIT_FAMILY)}"
            raise ValueError(msg)
        transformers_logging.set_verbosity_error()  # the new head is meant to be new
        model = AutoModelForImageClassification.from_pretrained(
            checkpoint,
            num_labels=len(LABELS),
            id2label=ID2LABEL,
            label2id=LABELS,
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        msg = (
            f"training.checkpoint '{checkpoint}' can't be used: {reason}. Give the hub id or the folder of a ViT with "
            "config.json and model.safetensors, or null for a small ViT made from its configuration."
        )
        raise UserError(msg) from error
    return model, _preprocessing(checkpoint, int(config.image_size))


def _preprocessing(checkpoint: str, size_px: int) -> Preprocessing:
    from transformers.utils.hub import cached_file

    path = cached_file(checkpoint, FILE_NAME, _raise_exceptions_for_missing_entries=False)
    if path is None:
        logging.getLogger(__name__).warning("%s has no %s: pixels are scaled to -1..1.", checkpoint, FILE_NAME)
        return Preprocessing(size_px)
    with open(path) as file:  # noqa: PTH123 - a path in the hub's cache
        numbers = json.load(file)
    return Preprocessing(size_px, tuple(numbers["image_mean"]), tuple(numbers["image_std"]))
