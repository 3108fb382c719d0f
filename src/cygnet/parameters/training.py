"""`conf/*/parameters_training.yml`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cygnet.parameters.base import Fraction, Parameters, Seed, Share


class SmallViT(Parameters):
    """The configuration of a ViT that starts from random weights."""

    image_size_px: int = Field(ge=32, le=1024)
    patch_size_px: int = Field(ge=4, le=64)
    hidden_size: int = Field(ge=16, le=2048)
    layers: int = Field(ge=1, le=48)
    heads: int = Field(ge=1, le=64)

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.image_size_px % self.patch_size_px:
            msg = f"image_size_px {self.image_size_px} is not a multiple of patch_size_px {self.patch_size_px}"
            raise ValueError(msg)
        if self.hidden_size % self.heads:
            msg = f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}"
            raise ValueError(msg)
        return self


class Threshold(Parameters):
    """How the threshold is chosen on the second half of the validation frames."""

    rule: Literal["max_f1", "target_fpr"]
    target_fpr: Annotated[float, Field(gt=0, lt=1)]


class Evaluation(Parameters):
    """How the detector is evaluated on `test`, and how much the baselines may store."""

    seed: Seed
    resamples: int = Field(ge=100, le=100_000)
    normal_frames: int = Field(ge=1, le=10_000)
    memory_patches: int = Field(ge=1, le=1_000_000)


class Normality(Parameters):
    """What normal patches span, and how an image's distance to it is measured."""

    blocks_frac: tuple[Fraction, Fraction]
    explained_frac: Annotated[float, Field(gt=0, lt=1)]
    top_frac: Share
    suspicious_from: Annotated[float, Field(gt=0, le=1000)]

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.blocks_frac[0] > self.blocks_frac[1]:
            msg = f"blocks_frac {list(self.blocks_frac)} must not fall: the first block comes first"
            raise ValueError(msg)
        return self


ScoreName = Literal["combined", "classifier", "normality"]


class Training(Parameters):
    """`params:training`: the backbone and how it is fitted."""

    checkpoint: str | None
    image_size_px: Annotated[int, Field(ge=32, le=1024)] | None
    small_vit: SmallViT
    fitted: Literal["full", "last_blocks", "heads"]
    last_blocks: int = Field(ge=1, le=48)
    seed: Seed
    epochs: int = Field(ge=1, le=1000)
    patience: int = Field(ge=1, le=1000)
    batch_size: int = Field(ge=1, le=4096)
    optimizer: Literal["adamw", "muon"]
    learning_rate: Share
    layer_decay: Share
    weight_decay: float = Field(ge=0, le=1)
    warmup_frac: Fraction
    average: float = Field(ge=0, lt=1)
    fitted_fracs: list[Share] = Field(min_length=1, max_length=100)
    patch_loss_weight: float = Field(ge=0, le=100)
    twins: bool
    score: ScoreName
    normality: Normality
    threshold: Threshold
    evaluation: Evaluation
