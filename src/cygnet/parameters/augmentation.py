"""`conf/*/parameters_augmentation.yml`."""

from typing import Annotated, Literal

from pydantic import Field

from cygnet.parameters.base import Parameters, Quality, Seed


class Counts(Parameters):
    """Rows of `train` per class after balancing."""

    normal: int = Field(ge=1, le=10_000_000)
    abnormal: int = Field(ge=1, le=10_000_000)


class ReferenceAugmentation(Parameters):
    """Flips, quarter turns and an affine squash-and-skew: for scenes without an up and a left."""

    horizontal_flip: bool
    vertical_flip: bool
    quarter_turns: bool
    affine_probability: Annotated[float, Field(gt=0, le=1)]
    affine_shear: Annotated[float, Field(gt=0, le=1)]


class FixedCameraAugmentation(Parameters):
    """What a fixed camera really varies in: small shifts, gain, gamma, sensor noise."""

    shift_px: Annotated[float, Field(gt=0, le=64)]
    gain: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=4)]]
    gamma: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=4)]]
    noise_std: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(le=64)]]


class Augmentation(Parameters):
    """`params:augmentation`: how `train` is varied and balanced."""

    seed: Seed
    counts: Counts
    jpeg_quality: Quality
    preset: Literal["reference", "fixed_camera"]
    reference: ReferenceAugmentation
    fixed_camera: FixedCameraAugmentation
