"""Drawing polygon patches: one array and one `cv2.fillPoly` per patch against a PIL mask and image copy per patch.

Two rows: the rule for 256-pixel images with the most patches (one near the centre, six at the edges), and the rule for
whole frames at 1080p (2-18 patches, one percent of the pixels). Ours is `draw_polygons` and with it the copy of the
image. The baseline draws the same patches the way the reference does, as described: for every patch a new mask, a
polygon on it, and a composite that is a copy of the whole image. Neither side decodes, encodes or makes the anomaly's
mask, which the reference does not have; a third row is what the pipeline does per anomaly, the mask included in ours
alone. That the share of changed pixels is alike is checked.

Each result is dropped before the next draw, on both sides, as a pipeline drops an image once it is encoded. It matters:
with a list of all 200 results ours takes over twice as long (0.19 ms, not 0.08, and the first ratio is 7, not 16),
because fresh memory for an image costs more than its patches do.
"""

from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from benchmarks import plain
from benchmarks.inputs import crop_square, full_hd_frames
from benchmarks.measure import Result, Work, compare
from benchmarks.session import parameters_of
from cygnet.parameters.synthesis import Polygon, Synthesis
from cygnet.vision.anomalies import draw_anomaly, make_kinds
from cygnet.vision.polygons import draw_polygons

SEVERITY = 1.0
EDGE_PATCHES = 6
ASKED = 8


def run() -> list[Result]:
    synthesis = Synthesis.model_validate(parameters_of("synthesis"))
    frame = full_hd_frames()[0]
    image = cv2.resize(crop_square(frame, 0.4), (plain.SIZE_PX, plain.SIZE_PX), interpolation=cv2.INTER_AREA)
    return [
        _compare_drawing("7 polygon patches on 256x256", image, _image_preset(synthesis), _plain_image, 200),
        _compare_drawing("2-18 polygon patches on 1080p", frame, _frame_preset(synthesis), _plain_frame, 8),
        _compare_anomalies(image, synthesis),
    ]


def _image_preset(synthesis: Synthesis) -> Polygon:
    assert synthesis.polygon.image.edge_patches[1] == EDGE_PATCHES
    return synthesis.polygon.model_copy(update={"preset": "image"})


def _frame_preset(synthesis: Synthesis) -> Polygon:
    return synthesis.polygon.model_copy(update={"preset": "frame"})


def _plain_image(image: Image.Image) -> Image.Image:
    return plain.draw_patches(image, EDGE_PATCHES)


def _plain_frame(image: Image.Image) -> Image.Image:
    return plain.draw_share(image)


def _compare_drawing(
    what: str, image: np.ndarray, preset: Polygon, draw_plain: Callable[[Image.Image], Image.Image], draws: int
) -> Result:
    pil_image = Image.fromarray(image)
    rng = np.random.default_rng(0)
    _check_alike(
        image,
        lambda: np.asarray(draw_plain(pil_image)),
        lambda: draw_polygons(image, image, rng, SEVERITY, preset),
    )
    return compare(
        Work(what, items=draws, item="draw", target=ASKED),
        lambda: _repeat(lambda: draw_plain(pil_image), draws),
        lambda: _repeat(lambda: draw_polygons(image, image, rng, SEVERITY, preset), draws),
        repetitions=11,
    )


def _compare_anomalies(image: np.ndarray, synthesis: Synthesis, draws: int = 100) -> Result:
    pil_image = Image.fromarray(image)
    rng = np.random.default_rng(0)
    draw = make_kinds(synthesis)["polygon"]
    return compare(
        Work("7 on 256x256, our mask and checks included", items=draws, item="draw", target=ASKED),
        lambda: _repeat(lambda: _plain_image(pil_image), draws),
        lambda: _repeat(lambda: draw_anomaly(draw, image, image, rng, (SEVERITY, SEVERITY)), draws),
        repetitions=11,
    )


def _repeat(draw: Callable[[], object], draws: int) -> None:
    for _ in range(draws):
        draw()


def _check_alike(before: np.ndarray, *sides: Callable[[], np.ndarray], draws: int = 40) -> None:
    """Compare the mean share of changed pixels: it is random per draw, so only roughly equal."""
    shares = [np.mean([(draw() != before).any(axis=2).mean() for _ in range(draws)]) for draw in sides]
    assert 0.8 < shares[0] / shares[1] < 1.25, shares
