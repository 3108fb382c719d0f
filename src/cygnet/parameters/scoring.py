"""`conf/*/parameters_scoring.yml`."""

from typing import Annotated, Literal

from pydantic import Field

from cygnet.parameters.base import Parameters


class Events(Parameters):
    """When an event begins, ends, and is worth telling: see `cygnet.model.evaluation.events`."""

    close_frac: Annotated[float, Field(gt=0, le=1)]
    max_gap_s: float = Field(ge=0)
    min_duration_s: float = Field(ge=0)


Crop = Literal["square", "letterbox", "tiles"]


class Scoring(Parameters):
    """`params:scoring`: which frames are scored, where they are looked at, and what is made of the scores."""

    interval_s: Annotated[float, Field(gt=0, le=3600)] | None
    crop: Crop
    threshold: Annotated[float, Field(gt=0, le=1)] | None
    events: Events
    annotated_video: bool
