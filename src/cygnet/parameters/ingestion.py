"""`conf/*/parameters_ingestion.yml`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from cygnet.parameters.base import Fraction, Parameters, Quality


class Split(Parameters):
    """Shares of each source's decoded span, in time order; the rest of the span is `test`."""

    train_frac: float = Field(gt=0, lt=1)
    validation_frac: float = Field(gt=0, lt=1)
    gap_s: float = Field(ge=0)

    @model_validator(mode="after")
    def _test_is_left(self) -> Self:
        if self.train_frac + self.validation_frac >= 1:
            msg = f"train_frac + validation_frac = {self.train_frac + self.validation_frac:g} leaves nothing to test"
            raise ValueError(msg)
        return self


class Ingestion(Parameters):
    """`params:ingestion`: sampling, labels, crop, split."""

    interval_s: float = Field(gt=0, le=3600)
    default_label: Literal["normal", "abnormal"]
    crop_horizontal_bias: Fraction
    frame_jpeg_quality: Quality
    image_jpeg_quality: Quality
    split: Split
