"""`conf/*/parameters_synthesis.yml`."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from cygnet.anomaly_kinds import KINDS
from cygnet.parameters.base import Between, Fraction, Parameters, Seed, Share

Count = Annotated[int, Field(ge=0, le=100)]


class PolygonShape(Parameters):
    """An irregular polygon around a circle with the area of the patch."""

    vertices: Between[Annotated[int, Field(ge=3, le=64)]]
    radius_factor: Between[Annotated[float, Field(gt=0, le=10)]]
    min_radius_px: float = Field(gt=0, le=128)


class FramePolygons(Parameters):
    """The reference's rule for whole frames: a share of the pixels, divided at random among salt and pepper patches."""

    amount_frac: tuple[Fraction, Share]
    salt_vs_pepper: Fraction
    salt_patches: Between[Count]
    pepper_patches: Between[Count]


class ImagePolygons(Parameters):
    """The reference's rule for 256-pixel images: one patch near the centre, more in bands along the edges."""

    patch_area_px: float = Field(gt=0, le=65536)
    salt_vs_pepper: Fraction
    centre_band_frac: Between[Fraction]
    edge_patches: Between[Count]
    edge_band_frac: float = Field(gt=0, le=0.5)


class Polygon(Parameters):
    """Settings of kind `polygon`: the selected preset, and the numbers of both."""

    preset: Literal["image", "frame"]
    shape: PolygonShape
    image: ImagePolygons
    frame: FramePolygons


class Spots(Parameters):
    """Settings of the kinds that change spots: number and size, and each kind's values at severity 0 and 1."""

    spots: Between[Annotated[int, Field(ge=1, le=100)]]
    radius_frac: Between[Annotated[float, Field(gt=0, le=0.5)]]
    soft_shift_levels: Between[Annotated[float, Field(gt=0, le=255)]]
    paste_jitter_levels: Between[Annotated[float, Field(ge=0, le=255)]]
    perlin_opacity: Between[Fraction]
    blend_opacity: Between[Fraction]
    blur_sigma_frac: Between[Annotated[float, Field(gt=0, le=0.1)]]
    shift_frac: Between[Annotated[float, Field(gt=0, le=0.5)]]


def _known(kind: str) -> str:
    if kind not in KINDS:
        raise PydanticCustomError("unknown_kind", "unknown kind of anomaly", {"known": list(KINDS)})
    return kind


KindName = Annotated[str, AfterValidator(_known)]
"""A key of `cygnet.anomaly_kinds.KINDS`."""


class Kinds(Parameters):
    """Number of anomalies of each kind on each normal frame, by split."""

    train: dict[KindName, Count]
    validation: dict[KindName, Count]
    test: dict[KindName, Count]

    @model_validator(mode="after")
    def _null_is_a_control(self) -> Self:
        if self.train.get("null"):
            msg = "`null` is a control without an anomaly and can't be used in train: use it in validation and test"
            raise ValueError(msg)
        return self


class SplitSeeds(Parameters):
    """One seed per split: changing the anomalies of `train` leaves those of `test` as they are."""

    train: Seed
    validation: Seed
    test: Seed

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if len({self.train, self.validation, self.test}) < 3:
            msg = f"the three seeds must differ, they are {self.train}, {self.validation} and {self.test}"
            raise ValueError(msg)
        return self


class Synthesis(Parameters):
    """`params:synthesis`: which anomalies are drawn, how many, and how."""

    seeds: SplitSeeds
    kinds: Kinds
    severity: Between[Fraction]
    polygon: Polygon
    spots: Spots
