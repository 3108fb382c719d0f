"""`conf/*/parameters_scoring.yml`."""

from typing import Annotated, Literal

from pydantic import Field

from cygnet.parameters.base import Parameters, Share
from cygnet.parameters.scene import View


class Events(Parameters):
    """When an event starts and ends, and which events are reported: see `cygnet.model.evaluation.events`."""

    close_frac: Share
    max_gap_s: float = Field(ge=0)
    min_duration_s: float = Field(ge=0)


Crop = Literal["square", "letterbox", "tiles"]


class Scoring(Parameters):
    """`params:scoring`: which frames are scored, which part of them, and what follows from the scores."""

    interval_s: Annotated[float, Field(gt=0, le=3600)] | None
    crop: Crop | None
    threshold: Share | None
    max_alarms_per_hour: Annotated[float, Field(gt=0, le=3600)] | None
    smoothing_s: float = Field(ge=0, le=60)
    events: Events
    annotated_video: bool

    @property
    def view(self) -> View | None:
        """What `scene.view` calls `crop`."""
        return "whole" if self.crop == "letterbox" else self.crop
