"""`conf/*/parameters_pretraining.yml`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from cygnet.anomaly_kinds import SEEN_KINDS
from cygnet.parameters.base import Fraction, Parameters, Seed, Share
from cygnet.parameters.synthesis import KindName, Spots
from cygnet.parameters.training import SmallViT


class PairSynthesis(Parameters):
    """The anomalies on procedural scenes: weights of the kinds, number and size."""

    kinds: dict[KindName, Share] = Field(min_length=1)
    spots: Spots

    @model_validator(mode="after")
    def _kinds_may_be_seen(self) -> Self:
        unseen = [kind for kind in self.kinds if kind not in SEEN_KINDS]
        if unseen:
            allowed = ", ".join(SEEN_KINDS)
            msg = f"kinds must not have {', '.join(unseen)}, kept unseen for evaluation; allowed are {allowed}"
            raise ValueError(msg)
        return self


Texture = Literal["noise", "stretched_noise", "cells", "leaves", "grating", "bricks", "waves", "gradient"]


class Pretraining(Parameters):
    """`params:pretraining`: how the carried checkpoint is made from procedural scenes."""

    seed: Seed
    vit: SmallViT
    images: int = Field(ge=1, le=1_000_000_000)
    batch_size: int = Field(ge=2, le=4096, multiple_of=2)
    workers: int = Field(ge=0, le=256)
    learning_rate: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0, le=1)
    warmup_steps: int = Field(ge=0)
    decay_frac: Fraction
    average: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    patch_loss_weight: float = Field(ge=0, le=100)
    small_size_px: int = Field(ge=32, le=1024)
    small_size_frac: Fraction
    input_size_px: int = Field(ge=32, le=1024)
    oversampling: int = Field(ge=1, le=4)
    curriculum_images: int = Field(ge=0)
    easy_frac: Fraction
    textures: list[Texture] = Field(min_length=1)
    held_out_textures: list[Texture] = Field(min_length=1)
    held_out_images: int = Field(ge=16, le=100_000)
    swan_frames: int = Field(ge=1, le=1000)
    save_every_steps: int = Field(ge=1)
    twins: PairSynthesis

    @model_validator(mode="after")
    def _patches_fill_images(self) -> Self:
        for name, side_px in (("small_size_px", self.small_size_px), ("input_size_px", self.input_size_px)):
            if side_px % self.vit.patch_size_px:
                msg = f"{name} {side_px} is not a multiple of vit.patch_size_px {self.vit.patch_size_px}"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _held_out_textures_are_unseen(self) -> Self:
        seen = set(self.textures) & set(self.held_out_textures)
        if seen:
            msg = f"held_out_textures must not be among textures, but both have {', '.join(sorted(seen))}"
            raise ValueError(msg)
        return self
