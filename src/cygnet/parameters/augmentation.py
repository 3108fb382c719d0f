"""`conf/*/parameters_augmentation.yml`."""

from typing import Annotated, Literal

from pydantic import Field

from cygnet.parameters.base import Between, Parameters, Quality, Seed, Share


class Counts(Parameters):
    """Rows of `train` per class after balancing."""

    normal: int = Field(ge=1, le=10_000_000)
    abnormal: int = Field(ge=1, le=10_000_000)


class ReferenceAugmentation(Parameters):
    """Flips, quarter turns and an affine map that squashes and skews: for scenes without a preferred orientation."""

    horizontal_flip: bool
    vertical_flip: bool
    quarter_turns: bool
    affine_probability: Share
    affine_shear: Share


class FixedCameraAugmentation(Parameters):
    """Variation of a fixed camera: small shifts, gain, gamma, sensor noise."""

    shift_px: float = Field(gt=0, le=64)
    gain: Between[Annotated[float, Field(gt=0, le=4)]]
    gamma: Between[Annotated[float, Field(gt=0, le=4)]]
    noise_std: Between[Annotated[float, Field(ge=0, le=64)]]


class Augmentation(Parameters):
    """`params:augmentation`: how `train` is varied and balanced."""

    seed: Seed
    counts: Counts
    jpeg_quality: Quality
    preset: Literal["reference", "fixed_camera"] | None
    reference: ReferenceAugmentation
    fixed_camera: FixedCameraAugmentation
