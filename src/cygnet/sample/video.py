"""The sample video: its size, length and seed, and its frames."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cygnet.sample.scene import draw_frame


@dataclass(frozen=True)
class SampleVideo:
    """The settings of the sample video; `sample` in `conf/base/globals.yml` has the same defaults.

    Attributes:
        duration_s: Length in seconds.
        frames_per_s: Frames per second.
        width_px: Width of the frames, even.
        height_px: Height of the frames, even.
        seed: At least 0; see `cygnet.sample.scene.draw_frame`.
    """

    duration_s: float = 30.0
    frames_per_s: float = 15.0
    width_px: int = 640
    height_px: int = 360
    seed: int = 7

    def frame(self, time_s: float) -> NDArray[np.uint8]:
        """Draw the frame at a time in seconds: `(height_px, width_px, 3)` uint8 BGR."""
        return draw_frame(time_s, self.width_px, self.height_px, self.seed)

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Draw all `round(duration_s * frames_per_s)` frames, one by one."""
        for index in range(round(self.duration_s * self.frames_per_s)):
            yield self.frame(index / self.frames_per_s)
