"""`conf/*/parameters_watch.yml`."""

from typing import Annotated

from pydantic import Field

from cygnet.parameters.base import Parameters

TimeoutS = Annotated[float, Field(gt=0, le=300)]
RetryS = Annotated[float, Field(gt=0, le=60)]
EveryS = Annotated[float, Field(gt=0, le=3600)]


class WatchSource(Parameters):
    """How long a source may be silent, and when it is tried again."""

    timeout_s: TimeoutS
    retry_s: RetryS
    settle_s: float = Field(ge=0, le=3600)


class WatchAlerts(Parameters):
    """How alerts are sent."""

    timeout_s: TimeoutS
    retry_s: RetryS


class Watch(Parameters):
    """`params:watch`: how a live source is read, and how often what it gives is stored and told."""

    duration_s: Annotated[float, Field(gt=0, le=31_536_000)] | None
    part_s: EveryS
    status_s: EveryS
    buffer_frames: int = Field(ge=1, le=256)
    source: WatchSource
    alerts: WatchAlerts
