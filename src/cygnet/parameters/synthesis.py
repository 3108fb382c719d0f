"""`conf/*/parameters_synthesis.yml`."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from cygnet.kinds import KINDS
from cygnet.parameters.base import Fraction, Parameters, Seed


class PolygonShape(Parameters):
    """An irregular polygon around a circle of the patch's area."""

    vertices: tuple[Annotated[int, Field(ge=3)], Annotated[int, Field(le=64)]]
    radius_factor: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=10)]]
    min_radius_px: float = Field(gt=0, le=128)


class FramePolygons(Parameters):
    """The reference's frame rule: a share of the pixels, split at random over salt and pepper patches."""

    amount_frac: tuple[Fraction, Annotated[float, Field(gt=0, le=1)]]
    salt_vs_pepper: Fraction
    salt_patches: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(le=100)]]
    pepper_patches: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(le=100)]]


class ImagePolygons(Parameters):
    """The reference's 256-pixel rule: one patch near the centre, some more in the edge bands."""

    patch_area_px: float = Field(gt=0, le=65536)
    salt_vs_pepper: Fraction
    centre_band_frac: tuple[Fraction, Fraction]
    edge_patches: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(le=100)]]
    edge_band_frac: float = Field(gt=0, le=0.5)


class Polygon(Parameters):
    """Settings of kind `polygon`: the chosen preset and both presets' numbers."""

    preset: Literal["image", "frame"]
    shape: PolygonShape
    image: ImagePolygons
    frame: FramePolygons


class Spots(Parameters):
    """Settings of the kinds beside `polygon`: how many spots, how large, and what severity 0 and 1 mean for each."""

    spots: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(le=100)]]
    radius_frac: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=0.5)]]
    soft_shift_levels: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=255)]]
    paste_jitter_levels: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(le=255)]]
    perlin_opacity: tuple[Fraction, Fraction]
    blend_opacity: tuple[Fraction, Fraction]
    blur_sigma_frac: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=0.1)]]
    shift_frac: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=0.5)]]


def _known(kind: str) -> str:
    if kind not in KINDS:
        raise PydanticCustomError("unknown_kind", "unknown kind of anomaly", {"known": list(KINDS)})
    return kind


KindName = Annotated[str, AfterValidator(_known)]
"""A key of `cygnet.kinds.KINDS`."""

PerFrame = Annotated[int, Field(ge=0, le=100)]


class Kinds(Parameters):
    """How many anomalies of each kind are drawn on each normal frame, by split."""

    train: dict[KindName, PerFrame]
    validation: dict[KindName, PerFrame]
    test: dict[KindName, PerFrame]

    @model_validator(mode="after")
    def _null_is_a_control(self) -> Self:
        if self.train.get("null"):
            msg = "`null` is a control without an anomaly and can't be trained on: use it in validation and test"
            raise ValueError(msg)
        return self


class SplitSeeds(Parameters):
    """One seed per split: the anomalies of `test` do not change with those of `train`."""

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
    """`params:synthesis`: which anomalies are drawn, how many, how."""

    seeds: SplitSeeds
    kinds: Kinds
    severity: tuple[Fraction, Fraction]
    polygon: Polygon
    spots: Spots
