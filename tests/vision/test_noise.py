"""What smooth noise promises."""

import numpy as np
import pytest

from cygnet.vision.noise import octaves
from cygnet.vision.rng import generator


def test_octaves_fill_the_range_from_0_to_1() -> None:
    field = octaves(generator(1), (40, 60), cells=4, count=3)
    assert (field.shape, field.dtype) == ((40, 60), np.float32)
    assert (field.min(), field.max()) == pytest.approx((0, 1), abs=1e-6)
