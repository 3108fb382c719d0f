"""Twins: one scene twice, normal and with anomalies, and everything else the same.

Both go through the same affine map, exposure, blur, noise, resampling and JPEG encoding, with the same draws. So
neither background, border nor encoding tells them apart: the anomaly alone does. It is either in the scene, and goes
the same way, or on the picture, drawn when all but the encoding is done: there a white patch stays white.
"""

from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np

from cygnet.kinds import KINDS
from cygnet.parameters.pretraining import Twins
from cygnet.parameters.synthesis import Synthesis
from cygnet.vision.anomalies import FEWEST_CHANGED_PX, changed_mask, make_kinds
from cygnet.vision.codec import decode_image, encode_jpeg
from cygnet.vision.scenes import draw_scene
from cygnet.vision.spots import BORDER

MOST_DRAWS = 10

Draw = Callable[[np.random.Generator, np.ndarray], np.ndarray]
"""`(rng, image)` to the image with anomalies, a copy: both `(S, S, 3)` uint8 BGR."""


def draw_twins(
    rng: np.random.Generator, size_px: int, ease: float, settings: Twins, textures: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a scene twice, the second time with anomalies: in the scene or, as often, on the picture.

    Args:
        rng: The pair's generator.
        size_px: S.
        ease: 0-1: 1 draws the largest and plainest anomalies only, 0 all that the settings allow.
        settings: Kinds with their weights, number and size of the anomalies.
        textures: What the scene is made of, keys of `cygnet.vision.scenes.TEXTURES`.

    Returns:
        The normal and the abnormal image, `(S, S, 3)` uint8 BGR, and the mask `(S, S)` uint8, 255 = abnormal.
    """
    draw = draw_by_weight(settings, ease)
    while True:
        scene = draw_scene(rng, size_px, textures)
        twins = make_twins(rng, scene, draw, on_picture=rng.random() < 0.5)
        if twins is not None:
            return twins


def draw_by_weight(settings: Twins, ease: float = 0.0) -> Draw:
    """Give what draws one kind, chosen by its weight; see `draw_twins`."""
    return partial(_draw_by_weight, ease=ease, settings=settings)


def draw_as_synthesis(synthesis: Synthesis, donor: np.ndarray) -> Draw:
    """Give what draws one kind of anomaly by the rules of `synthesis`, each as often as `kinds.train` has it.

    Args:
        synthesis: Kinds, severity and the settings of each kind.
        donor: `(S, S, 3)` uint8 BGR, another frame of the same split.
    """
    draws = make_kinds(synthesis)
    kinds = [kind for kind, count in synthesis.kinds.train.items() for _ in range(count)]

    def draw(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
        kind = kinds[int(rng.integers(len(kinds)))]
        return draws[kind](image, donor, rng, float(rng.uniform(*synthesis.severity)))[0]

    return draw


def make_twins(
    rng: np.random.Generator, scene: np.ndarray, draw: Draw, *, on_picture: bool = True, varied: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Make twins of a scene `(S, S, 3)` uint8 BGR as `draw_twins` does, or None where no anomaly shows on it.

    With `varied` false they are only encoded once more.
    """
    if on_picture:
        (normal,), _ = _vary(rng, [scene], np.zeros(scene.shape[:2], np.uint8), varied=varied)
        drawn = _draw_until_it_shows(rng, normal, draw)
        if drawn is None:
            return None
        abnormal, mask = drawn
    else:
        drawn = _draw_until_it_shows(rng, scene, draw)
        if drawn is None:
            return None
        (normal, abnormal), mask = _vary(rng, [scene, drawn[0]], drawn[1], varied=varied)
    normal, abnormal = _encode(rng, normal, abnormal)
    return normal, abnormal, mask


def vary_alone(rng: np.random.Generator, image: np.ndarray, *, varied: bool) -> np.ndarray:
    """Vary and encode one image `(S, S, 3)` uint8 BGR as twins are, with nothing drawn on it."""
    images, _ = _vary(rng, [image], np.zeros(image.shape[:2], np.uint8), varied=varied)
    return _encode(rng, *images)[0]


def _draw_until_it_shows(
    rng: np.random.Generator, image: np.ndarray, draw: Draw
) -> tuple[np.ndarray, np.ndarray] | None:
    """Draw on a copy; give it and the mask of what changed, or None where nothing shows again and again."""
    fewest_px = FEWEST_CHANGED_PX * (image.shape[0] / 256) ** 2
    for _ in range(MOST_DRAWS):
        abnormal = draw(rng, image)
        mask = changed_mask(image, abnormal)
        if np.count_nonzero(mask) >= fewest_px:
            return abnormal, mask
    return None


def _draw_by_weight(rng: np.random.Generator, scene: np.ndarray, ease: float, settings: Twins) -> np.ndarray:
    """Draw one kind on a copy; a scene has no other frames, so it is its own donor."""
    names = list(settings.kinds)
    weights = np.array(list(settings.kinds.values()), float)
    kind = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    severity = ease + (1 - ease) * rng.random()
    smallest, largest = settings.spots.radius_frac
    radius_frac = (smallest + ease * 0.6 * (largest - smallest), largest)
    spots = settings.spots.model_copy(update={"radius_frac": radius_frac})
    return KINDS[kind].load()(scene, scene, rng, severity, spots)


def _vary(
    rng: np.random.Generator, images: list[np.ndarray], mask: np.ndarray, *, varied: bool
) -> tuple[list[np.ndarray], np.ndarray]:
    """Vary all images by the same draws: what cameras and our own augmentation do to them.

    The mask goes through flips and the affine map alone. Of anomalies in the scene, about 3 in 1000 leave the image or
    drown (measured on 1,500): so often is their label wrong.
    """
    if not varied:
        return images, mask
    size_px = mask.shape[0]
    stack = np.concatenate(images, axis=2)  # (S, S, 3 or 6): every draw falls on all
    stack, mask = _move(rng, stack, mask)
    if rng.random() < 0.4:
        gain, gamma = rng.uniform(0.75, 1.25), rng.uniform(0.75, 1.3)
        levels = np.clip(255 * (np.arange(256) / 255 * gain) ** gamma, 0, 255).astype(np.uint8)
        stack = levels[stack]
    if rng.random() < 0.3:
        fewer_px = round(size_px * rng.uniform(0.6, 0.95))
        small = [cv2.resize(image, (fewer_px, fewer_px), interpolation=cv2.INTER_AREA) for image in _apart(stack)]
        stack = np.concatenate(
            [cv2.resize(image, mask.shape, interpolation=cv2.INTER_CUBIC) for image in small], axis=2
        )
    elif rng.random() < 0.3:
        stack = cv2.blur(stack, (2, 2)) if rng.random() < 0.5 else cv2.blur(stack, (3, 3))
    if rng.random() < 0.5:
        noise = np.rint(rng.normal(0, rng.uniform(0.5, 7), stack.shape[:2])).astype(np.int16)[..., None]
        stack = np.clip(stack.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    return _apart(stack), mask


def _encode(rng: np.random.Generator, *images: np.ndarray) -> list[np.ndarray]:
    """Send all through JPEG of one quality."""
    quality = int(rng.integers(60, 99))
    return [decode_image(encode_jpeg(image, quality)) for image in images]


def _move(rng: np.random.Generator, stack: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flip and bend `(S, S, 3 or 6)` and its mask."""
    size_px = mask.shape[0]
    if rng.random() < 0.5:
        stack, mask = np.ascontiguousarray(stack[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
    if rng.random() < 0.5:
        stack, mask = np.ascontiguousarray(stack[::-1]), np.ascontiguousarray(mask[::-1])
    if rng.random() < 0.5:
        linear = np.eye(2) + rng.uniform(-0.3, 0.3, (2, 2)) * [[1, 1], [rng.random() < 0.5, 1]]
        centre = np.full(2, (size_px - 1) / 2)
        matrix = np.column_stack([linear, centre - linear @ centre + rng.uniform(-0.05, 0.05, 2) * size_px])
        mask = cv2.warpAffine(mask, matrix, mask.shape, flags=cv2.INTER_NEAREST, borderMode=BORDER)
        bent = [cv2.warpAffine(image, matrix, mask.shape, borderMode=BORDER) for image in _apart(stack)]
        stack = np.concatenate(bent, axis=2)
    return stack, mask


def _apart(stack: np.ndarray) -> list[np.ndarray]:
    """Part `(S, S, 3 or 6)` into images: OpenCV's warps and encoders take no more than four channels."""
    return [np.ascontiguousarray(stack[..., start : start + 3]) for start in range(0, stack.shape[2], 3)]
