"""What is recorded of region and ignored part: polygons, or the mask itself; a mistake is one sentence."""

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cygnet.area import MOST_SIDE_PX, read_area
from cygnet.errors import UserError
from cygnet.parameters.scene import SceneParameters
from cygnet.scene import read_scene, shape_name
from cygnet.vision.codec import decode_mask
from cygnet.vision.region import EVERYWHERE, area_mask
from support.toys import IMAGES_SCENE, base_parameters

TRIANGLE = [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]
SQUARE = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]


def scene(region: Any = None, ignore: Any = None) -> SceneParameters:
    """The default parameters with a region and an ignored part."""
    return SceneParameters.model_validate({**base_parameters()["scene"], "region": region, "ignore": ignore})


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """Give a mask image with one grey level inside: the right half of 640 x 360."""
    path = tmp_path / "mask.png"
    image = np.zeros((360, 640), np.uint8)
    image[:, 320:] = 7
    cv2.imwrite(str(path), image)
    return path


def test_nothing_given_is_everywhere() -> None:
    assert read_area(scene()) == EVERYWHERE


def test_one_polygon_is_a_list_of_one() -> None:
    assert read_area(scene(TRIANGLE)) == read_area(scene([TRIANGLE]))
    assert read_area(scene(TRIANGLE)) != read_area(scene(SQUARE))


def test_a_mask_is_recorded_itself_and_its_path_is_not_needed_again(mask: Path) -> None:
    area = read_area(scene(str(mask), [TRIANGLE]))
    mask.unlink()
    drawn = area_mask(area, 360, 640)
    assert drawn[300, 600] == 255
    assert drawn[300, 100] == 0
    assert drawn[100, 340] == 0  # in the triangle
    assert str(mask) not in str(area)


def test_a_large_mask_is_recorded_small(tmp_path: Path) -> None:
    image = np.zeros((2160, 3840), np.uint8)
    cv2.circle(image, (1000, 1000), 700, 255, -1)
    cv2.imwrite(str(tmp_path / "large.png"), image)
    region, _ = read_area(scene(str(tmp_path / "large.png")))
    assert region is not None
    assert len(region) < 10_000
    assert decode_mask(base64.b64decode(region)).shape == (576, MOST_SIDE_PX)


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "can't be read"), (b"no image", "is no image"), (b"", "is no image"), ("zeros", "is 0 everywhere")],
)
def test_a_mask_that_is_none_is_told_in_one_sentence(content: bytes | str | None, told: str, tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    if content == "zeros":
        cv2.imwrite(str(path), np.zeros((9, 16), np.uint8))
    elif isinstance(content, bytes):
        path.write_bytes(content)
    for given in ({"region": str(path)}, {"ignore": str(path)}):
        with pytest.raises(UserError, match=told) as refused:
            read_area(scene(**given))
        assert str(path) in refused.value.message
        assert f"scene.{next(iter(given))}" in refused.value.message


def test_an_area_of_which_nothing_is_left_is_told(mask: Path) -> None:
    for region, ignore in ((None, SQUARE), (TRIANGLE, SQUARE), (str(mask), str(mask))):
        with pytest.raises(UserError, match="leave nothing to look at"):
            read_area(scene(region, ignore))


def test_two_masks_must_have_one_aspect_ratio(mask: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "tall.png"), np.full((640, 360), 255, np.uint8))
    with pytest.raises(UserError, match="differ in aspect ratio"):
        read_area(scene(str(mask), str(tmp_path / "tall.png")))


def test_a_shape_is_named_by_what_it_is_and_its_content() -> None:
    one, two = (shape_name(read_area(scene(region))[0]) for region in (TRIANGLE, [TRIANGLE, SQUARE]))
    assert one is not None
    assert two is not None
    assert one.startswith("1 polygon(s) [")
    assert two.startswith("2 polygon(s) [")
    assert one.split("[")[1] != two.split("[")[1]
    assert shape_name(None) is None


def test_a_scene_that_was_recorded_before_there_were_regions_looks_everywhere() -> None:
    recorded = {**vars(IMAGES_SCENE)}
    del recorded["region"], recorded["ignore"]
    assert read_scene(recorded) == IMAGES_SCENE
    assert read_scene({**recorded, "training_jpeg_quality": 95, "camera": "fixed"}).area == EVERYWHERE
