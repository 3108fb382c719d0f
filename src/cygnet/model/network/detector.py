"""The detector: a ViT backbone with two parts, a classifier of what was drawn and a distance to what is normal.

The classifier has a linear head on every patch, trained on the masks, which tells where an anomaly is, and a 2-class
head on the CLS token, to which the most abnormal patches are added: together they tell whether there is one. The
distance is that of each patch's features to a subspace of normal ones. Labels are 0 = abnormal and 1 = normal, in the
config as everywhere.
"""

import inspect
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from cygnet.model.network.normality import Subspace
from cygnet.model.network.preprocessing import FILE_NAME, Preprocessing
from cygnet.tables import LABELS

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

VIT_FAMILY = ("vit", "deit", "dinov2", "dinov2_with_registers")
WEIGHTS = "model.safetensors"
HEADS = ("classifier.weight", "classifier.bias", "patch_head.weight", "patch_head.bias")
POOLING = "pooling"
NORMALITY = ("normality.mean", "normality.basis", "normality.blocks")
MIDDLE_BLOCKS_FRAC = (0.5, 0.67)
"""Shares of the blocks between which features for normality are taken, until it is fitted: see
`training.normality.blocks_frac`."""
POOLED_FRAC = 0.03
"""Share of the patches, the most abnormal ones, that the image's logits take in."""
ID2LABEL = {label: name for name, label in LABELS.items()}


class Detector(nn.Module):
    """From raw pixels to the logits of the image and of its patches, and the patches' distances to what is normal.

    In the comments B is the batch, S the side in pixels, G = S / patch size, T = 1 CLS token + registers + G * G
    patches, D the backbone's width.
    """

    def __init__(self, backbone: "PreTrainedModel", preprocessing: Preprocessing) -> None:
        super().__init__()
        backbone.config.id2label, backbone.config.label2id = ID2LABEL, dict(LABELS)
        self.backbone: Any = backbone
        self.preprocessing = preprocessing
        self.classifier = nn.Linear(backbone.config.hidden_size, len(LABELS))  # of the CLS token
        self.patch_head = nn.Linear(backbone.config.hidden_size, 1)
        for head in (self.classifier, self.patch_head):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        nn.init.constant_(self.patch_head.bias, -3.0)  # few patches are abnormal
        self.pooling = nn.Parameter(torch.ones(()))  # weight of the most abnormal patches in the image's logits
        self.use_middle_blocks(MIDDLE_BLOCKS_FRAC)

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, first to last; each family has its own name for them."""
        return next(module for module in self.backbone.modules() if isinstance(module, nn.ModuleList))

    @property
    def has_heads(self) -> bool:
        """Whether the heads have been trained."""
        return bool(self.patch_head.weight.any())

    def use_middle_blocks(self, blocks_frac: tuple[float, float]) -> None:
        """Take the features for `normality` from blocks between these shares of the depth; it must be fitted anew."""
        first, last = (max(1, round(share * len(self.blocks))) for share in blocks_frac)
        self.normality = Subspace(self.backbone.config.hidden_size, first, last)

    def keep_blocks(self, count: int) -> None:
        """Cut off the blocks after the first `count`."""
        del self.blocks[count:]
        config = self.backbone.config
        config.num_hidden_layers = count
        if hasattr(config, "stage_names"):  # DINOv2 names its blocks in the config
            config.stage_names = config.stage_names[: count + 1]
            config.out_features = config.stage_names[-1:]

    @property
    def patches_per_side(self) -> int:
        """G, for images of the preprocessing's size."""
        return int(self.preprocessing.size_px // self.backbone.config.patch_size)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Take `(B, S, S, 3)` uint8 RGB; return logits `(B, 2)`, patch logits and patch distances `(B, G, G)`."""
        tokens, features = self.run_blocks(images, len(self.blocks))
        return *self.finish(tokens, len(self.blocks)), self.normality(features)

    def run_blocks(self, images: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed `(B, S, S, 3)` uint8 RGB with interpolated positions, and run the first `count` blocks.

        Returns:
            Tokens `(B, T, D)` in the dtype of the blocks, or under autocast in its dtype; and the features for
            `normality`, `(B, G * G, D)` float32, zeros if `count` ends before its first block.
        """
        pixels = self.preprocessing.normalise(images)  # (B, 3, S, S) float32
        embeddings = self.backbone.embeddings
        if "interpolate_pos_encoding" in inspect.signature(embeddings.forward).parameters:
            tokens: torch.Tensor = embeddings(pixels, interpolate_pos_encoding=True)  # (B, T, D)
        else:  # DINOv2 always interpolates
            tokens = embeddings(pixels)
        tokens = self._as_blocks(tokens)
        first, last = self.normality.first_block, self.normality.last_block
        features = torch.zeros_like(take_patches(tokens), dtype=torch.float32)
        for number, block in enumerate(self.blocks[:count], 1):
            tokens = block(tokens)
            if first <= number <= last:
                features = features + take_patches(tokens).float()
        return tokens, features / (last - first + 1)

    def finish(self, tokens: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the rest after the first `count` blocks: tokens `(B, T, D)` to logits `(B, 2)` and `(B, G, G)`."""
        tokens = self._as_blocks(tokens)
        for block in self.blocks[count:]:
            tokens = block(tokens)
        layernorm = self.backbone.layernorm
        tokens = layernorm(tokens if torch.is_autocast_enabled(tokens.device.type) else tokens.to(layernorm.weight))
        patch_logits = self.patch_head(take_patches(tokens)).flatten(1)  # (B, G * G)
        count = int(patch_logits.shape[1])
        side = math.isqrt(count)  # G
        largest = patch_logits.topk(max(1, round(POOLED_FRAC * count)), dim=1)[0]
        pooled = self.pooling * (largest.mean(1) - self.patch_head.bias)  # (B,)
        logits = self.classifier(tokens[:, 0]) + torch.stack([pooled, -pooled], dim=1) / 2
        return logits, patch_logits.reshape(-1, side, side)

    def _as_blocks(self, tokens: torch.Tensor) -> torch.Tensor:
        """Convert to the dtype of autocast where it is on, else to that of the blocks.

        Adding and normalising in 16 bits moves half the bytes.
        """
        device = tokens.device.type
        if torch.is_autocast_enabled(device):
            return tokens.to(torch.get_autocast_dtype(device))
        return tokens.to(next(self.blocks.parameters()).dtype)

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        """Write the Hugging Face config, all weights in one safetensors file, and the preprocessing."""
        _quieten()
        self.backbone.save_pretrained(folder, max_shard_size="100GB")
        weights = load_file(folder / WEIGHTS)  # named as Hugging Face names them on disk
        state = self.state_dict()
        weights |= {name: state[name] for name in (*HEADS, POOLING)}
        weights = {name: value.to("cpu", dtype).contiguous() for name, value in weights.items()}
        if self.normality.basis.numel():
            weights |= {name: state[name].cpu().contiguous() for name in NORMALITY}
        save_file(weights, folder / WEIGHTS, {"format": "pt"})
        self.preprocessing.save(folder)

    @classmethod
    def load(cls, checkpoint: str | Path, size_px: int | None = None) -> Self:
        """Load a checkpoint of the ViT family, with its heads if it carries both and our labels.

        Args:
            checkpoint: A folder, or an id on the Hugging Face hub.
            size_px: Side of the input; None for the size in the checkpoint's preprocessing.

        Raises:
            OSError: The checkpoint can't be read or downloaded.
            SafetensorError: The weights are not in safetensors format.
            ValueError: It has another architecture, does not take square RGB images, or its weights do not fit its
                config or are not finite.
        """
        _quieten()
        config = _read_config(checkpoint)
        backbone, info = _load_backbone(checkpoint, config)
        detector = cls(backbone, _preprocessing(checkpoint, config, size_px))
        heads = _read_heads(checkpoint, config)
        shapes = {name: value.shape for name, value in detector.state_dict().items()}
        of_heads = [(name, head.shape, shapes[name]) for name, head in heads.items() if head.shape != shapes[name]]
        for name, is_shape, config_shape in sorted([*info["mismatched_keys"], *of_heads]):
            msg = f"its {name} has the shape {tuple(is_shape)}, by its config {tuple(config_shape)}"
            raise ValueError(msg)
        more = [name for name in info["unexpected_keys"] if re.search(r"(^|\.)layers?\.\d+\.", name)]
        if more:
            msg = f"its weights have {min(more)}, and its config only {len(detector.blocks)} layers"
            raise ValueError(msg)
        detector.load_state_dict(heads, strict=False)
        for name, value in _read_weights(checkpoint, NORMALITY).items():
            setattr(detector.normality, name.removeprefix("normality."), value)
        for name, value in detector.state_dict().items():
            if not value.isfinite().all():
                msg = f"its {name} has values that are not finite"
                raise ValueError(msg)
        return detector


def _read_config(checkpoint: str | Path) -> "PretrainedConfig":
    """Read the config of a ViT on square RGB images.

    Raises:
        OSError: It can't be read or downloaded.
        ValueError: It is of another architecture, or of other images.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(checkpoint)
    except StrictDataclassError as error:  # a value of a wrong type
        raise ValueError(" ".join(str(error).split())) from error
    if config.model_type not in VIT_FAMILY:
        msg = f"it is a '{config.model_type}', allowed are {', '.join(VIT_FAMILY)}"
        raise ValueError(msg)
    for name, is_right, right in (
        ("image_size", isinstance(config.image_size, int), "one number of pixels"),
        ("patch_size", isinstance(config.patch_size, int), "one number of pixels"),
        ("num_channels", config.num_channels == 3, "3"),
    ):
        if not is_right:
            msg = f"its {name} is {getattr(config, name)}, allowed is {right}"
            raise ValueError(msg)
    return config


def _load_backbone(checkpoint: str | Path, config: "PretrainedConfig") -> tuple["PreTrainedModel", dict[str, Any]]:
    """Load the backbone in float32; return it with what transformers tells of keys that do not fit.

    Raises:
        ValueError: Weights are missing, or can't be converted.
    """
    from transformers import AutoModel

    without_pooler = {"add_pooling_layer": False} if config.model_type in {"vit", "deit"} else {}
    try:
        backbone, info = AutoModel.from_pretrained(
            checkpoint,
            config=config,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # `load` tells it in one line
            **without_pooler,
        )
    except RuntimeError as error:  # weights that transformers can't convert
        raise ValueError(str(error)) from error
    if info["missing_keys"]:
        msg = f"its weights lack {min(info['missing_keys'])}"
        raise ValueError(msg)
    return backbone, info


def take_patches(tokens: torch.Tensor) -> torch.Tensor:
    """Take the patches `(B, G * G, D)` out of tokens `(B, T, D)`."""
    side = math.isqrt(tokens.shape[1] - 1)  # distillation token and registers are fewer than 2 G + 1
    return tokens[:, -side * side :]


def _quieten() -> None:
    """Silence progress bars, and warnings about weights of other heads, which are left out on purpose."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def _preprocessing(checkpoint: str | Path, config: "PretrainedConfig", size_px: int | None) -> Preprocessing:
    """Read the checkpoint's own preprocessing; without one, pixels are scaled to -1..1."""
    from transformers.utils.hub import cached_file

    path = cached_file(str(checkpoint), FILE_NAME, _raise_exceptions_for_missing_entries=False)
    numbers = json.loads(Path(path).read_text()) if path else {}
    size = numbers.get("crop_size") or numbers.get("size") or config.image_size
    side_px = size_px or (size["height"] if isinstance(size, dict) and "height" in size else config.image_size)
    if side_px % config.patch_size:
        msg = f"its patches of {config.patch_size} px do not fill a side of {side_px} px"
        raise ValueError(msg)
    none = (0.5, 0.5, 0.5)
    return Preprocessing(side_px, tuple(numbers.get("image_mean", none)), tuple(numbers.get("image_std", none)))


def _read_heads(checkpoint: str | Path, config: "PretrainedConfig") -> dict[str, torch.Tensor]:
    """Read both heads, if the checkpoint has both and our labels; otherwise nothing.

    Heads that were trained before patches counted for the image go on without them.
    """
    heads = _read_weights(checkpoint, HEADS)
    if not heads or {int(label): name for label, name in (config.id2label or {}).items()} != ID2LABEL:
        return {}
    heads |= {POOLING: torch.zeros(())} | _read_weights(checkpoint, (POOLING,))
    return {name: value.float() for name, value in heads.items()}


def _read_weights(checkpoint: str | Path, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Read these weights, if the checkpoint has all of them; otherwise nothing."""
    from transformers.utils.hub import cached_file

    path = cached_file(str(checkpoint), WEIGHTS, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return {}
    with safe_open(path, "pt") as weights:
        return {name: weights.get_tensor(name) for name in names} if set(names) <= set(weights.keys()) else {}
