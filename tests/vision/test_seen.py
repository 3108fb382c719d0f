"""What is told of a frame: how many images, which share of its pixels, and how large a square."""

import json
from dataclasses import replace

import pytest

from cygnet.vision.seen import measure_seen
from support.toys import IMAGES_SCENE

LEFT_QUARTER = json.dumps([[[0, 0], [0.25, 0], [0.25, 1], [0, 1]]])


@pytest.mark.parametrize(
    ("view", "tiles", "side_px", "seen_frac"),
    [("square", 1, 360, 360 / 640), ("whole", 1, 640, 1), ("tiles", 2, 360, 1)],
)
def test_a_view_sees_its_share(view: str, tiles: int, side_px: int, seen_frac: float) -> None:
    seen = measure_seen(replace(IMAGES_SCENE, view=view), 360, 640)
    assert (seen.tiles, seen.side_px) == (tiles, side_px)
    assert seen.seen_frac == pytest.approx(seen_frac)


def test_a_region_is_all_that_is_seen_and_spares_tiles() -> None:
    seen = measure_seen(replace(IMAGES_SCENE, view="tiles", region=LEFT_QUARTER), 360, 640)
    assert seen.tiles == 1
    assert seen.seen_frac == pytest.approx(0.25, abs=0.01)
    rest = measure_seen(replace(IMAGES_SCENE, view="tiles", ignore=LEFT_QUARTER), 360, 640)
    assert rest.tiles == 2
    assert rest.seen_frac == pytest.approx(0.75, abs=0.01)


def test_nothing_left_to_see_is_a_value_error() -> None:
    right = json.dumps([[[0.9, 0], [1, 0], [1, 1]]])
    with pytest.raises(ValueError, match=r"scene\.view square, .* leave nothing of 640x360 pixels"):
        measure_seen(replace(IMAGES_SCENE, region=right), 360, 640)
