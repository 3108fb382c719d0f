"""What a shown frame promises: what the detector sees, no more, at most so large."""

import base64
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from cygnet.vision.codec import encode_png
from cygnet.vision.shown import shown_frame
from support.toys import IMAGES_SCENE

WHOLE = replace(IMAGES_SCENE, view="whole")


def ramp(height: int, width: int) -> np.ndarray:
    """Give a frame whose grey levels grow from left to right."""
    return np.repeat(np.linspace(0, 250, width).astype(np.uint8)[None, :, None], height, 0).repeat(3, 2)


@pytest.mark.parametrize(("size", "shown"), [((90, 160), (45, 80)), ((160, 90), (80, 45)), ((40, 60), (40, 60))])
def test_the_longer_side_is_bounded_and_nothing_is_enlarged(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert shown_frame(encode_png(ramp(*size)), WHOLE, 80).shape == (*shown, 3)


@pytest.mark.parametrize(("view", "shown"), [("whole", (40, 80)), ("tiles", (40, 80)), ("square", (40, 40))])
def test_only_square_leaves_out_what_it_does_not_see(view: str, shown: tuple[int, int]) -> None:
    frame = ramp(40, 80)
    image = shown_frame(encode_png(frame), replace(WHOLE, view=view, crop_horizontal_bias=1.0), 100)
    assert image.shape[:2] == shown
    assert np.array_equal(image, frame[:, 80 - shown[1] :])


@pytest.mark.parametrize("is_mask", [False, True], ids=["polygon", "mask image"])
def test_nothing_outside_the_area_is_shown(is_mask: bool) -> None:
    frame = ramp(40, 80)
    left = np.zeros((40, 80), np.uint8)
    left[:, :40] = 255
    mask = base64.b64encode(cv2.imencode(".png", left)[1].tobytes()).decode()
    region = mask if is_mask else json.dumps([[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]])
    image = shown_frame(encode_png(frame), replace(WHOLE, region=region), 80)
    assert np.array_equal(image[:, :39], frame[:, :39])
    assert (image[:, 41:] == 128).all()
