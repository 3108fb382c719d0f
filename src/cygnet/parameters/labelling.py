"""`conf/*/parameters_labelling.yml`."""

from typing import Literal

from pydantic import Field

from cygnet.parameters.base import Fraction, Parameters, Quality


class LabellingBudget(Parameters):
    """What one run may spend."""

    requests: int = Field(ge=0, le=1_000_000)
    tokens: int = Field(ge=0, le=1_000_000_000)
    tokens_per_request: int = Field(ge=1, le=1_000_000)


class LabellingEndpoint(Parameters):
    """Which model is asked, and how requests are sent to it."""

    url: str | None
    model: str | None
    azure_api_version: str | None
    detail: Literal["auto", "low", "high"]
    max_output_tokens: int = Field(ge=50, le=100_000)
    timeout_s: float = Field(gt=0, le=3600)
    retries: int = Field(ge=0, le=20)
    backoff_s: float = Field(ge=0, le=60)
    in_flight: int = Field(ge=1, le=64)


class Labelling(Parameters):
    """`params:labelling`: which frames a vision model is asked about, what, where, and for how much."""

    prompt: str
    max_frames: int = Field(ge=1, le=10_000)
    agreement_frames: int = Field(ge=0, le=10_000)
    review_below: Fraction
    budget: LabellingBudget
    endpoint: LabellingEndpoint
    image_px: int = Field(ge=64, le=4096)
    image_jpeg_quality: Quality
