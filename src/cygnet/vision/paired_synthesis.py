"""Pairs: the same scene twice, once normal and once with anomalies.

Both vary by the same augmentation policy with the same random draws, and are encoded as JPEG of one quality. Neither
background, border nor encoding tells them apart, only the anomaly. It is either part of the scene, and varies with it,
or drawn on the picture, after everything but the encoding: there a white patch stays white.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from cygnet.anomaly_kinds import KINDS
from cygnet.parameters.augmentation import ReferenceAugmentation
from cygnet.parameters.pretraining import PairSynthesis
from cygnet.parameters.synthesis import Synthesis
from cygnet.vision.anomalies import FEWEST_CHANGED_PX, changed_mask, make_kinds
from cygnet.vision.codec import decode_image, encode_jpeg
from cygnet.vision.procedural_scenes import draw_scene
from cygnet.vision.region import fill_outside, restore_outside
from cygnet.vision.transforms import Policy, vary

MOST_DRAWS = 10
PROCEDURAL = ReferenceAugmentation(
    horizontal_flip=True, vertical_flip=True, quarter_turns=True, affine_probability=0.5, affine_shear=0.3
)
"""How procedural scenes vary: they have no up and no left. Constant, because the carried checkpoint depends on it."""

Draw = Callable[[np.random.Generator, np.ndarray], np.ndarray]
"""`(rng, image)` to the image with anomalies, a copy: both `(S, S, 3)` uint8 BGR."""


def draw_pair(
    rng: np.random.Generator, size_px: int, ease: float, settings: PairSynthesis, textures: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a scene twice, once with anomalies: in the scene or, equally often, on the picture.

    Args:
        rng: The pair's generator.
        size_px: S.
        ease: 0-1; 1 draws only the largest and plainest anomalies, 0 all that the settings allow.
        settings: Kinds with their weights, number and size of the anomalies.
        textures: What the scene is made of, keys of `cygnet.vision.procedural_scenes.TEXTURES`.

    Returns:
        The normal and the abnormal image, `(S, S, 3)` uint8 BGR, and the mask `(S, S)` uint8, 255 = abnormal.
    """
    draw = draw_by_weight(settings, ease)
    while True:
        scene = draw_scene(rng, size_px, textures)
        pair = make_pair(rng, scene, draw, PROCEDURAL, on_picture=rng.random() < 0.5)
        if pair is not None:
            return pair


def draw_by_weight(settings: PairSynthesis, ease: float = 0.0) -> Draw:
    """Return a function that draws one kind, chosen by its weight; see `draw_pair`."""
    return partial(_draw_by_weight, ease=ease, settings=settings)


def draw_as_synthesis(synthesis: Synthesis, donor: np.ndarray) -> Draw:
    """Return a function that draws one kind of anomaly by the rules of `synthesis`, chosen by its count in `train`.

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


def make_pair(
    rng: np.random.Generator, scene: np.ndarray, draw: Draw, policy: Policy | None, *, on_picture: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Make a pair of a scene `(S, S, 3)` uint8 BGR as `draw_pair` does, or None where no anomaly shows on it.

    Args:
        rng: The pair's generator.
        scene: The image that both are made of; it stays as it is.
        draw: Draws the anomaly.
        policy: What else may vary, alike in both; None: they are only encoded once more.
        on_picture: Whether the anomaly is drawn after everything else has varied; else it varies with the scene. Of
            anomalies in the scene, about 3 in 1000 leave the image or fade out (measured on 1,500): that is how often
            the label is wrong.
    """
    area = np.full(scene.shape[:2], 255, np.uint8)
    if on_picture:
        return make_pair_inside(rng, scene, area, draw, policy)
    drawn = _draw_until_it_shows(rng, scene, area, draw)
    if drawn is None:
        return None
    (normal, abnormal), mask = _vary(rng, [scene, drawn[0]], drawn[1], policy)
    normal, abnormal = _encode(rng, normal, abnormal)
    return normal, abnormal, mask


def make_pair_inside(
    rng: np.random.Generator, scene: np.ndarray, area: np.ndarray, draw: Draw, policy: Policy | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Make a pair as `make_pair` does on the picture; the anomaly changes nothing outside an area `(S, S)` uint8.

    The area varies as the scene does.
    """
    (normal,), moved_area = _vary(rng, [scene], area, policy)
    normal = fill_outside(normal, moved_area)
    drawn = _draw_until_it_shows(rng, normal, moved_area, draw)
    if drawn is None:
        return None
    abnormal, mask = drawn
    normal, abnormal = _encode(rng, normal, abnormal)
    return normal, abnormal, mask


def vary_alone(rng: np.random.Generator, image: np.ndarray, policy: Policy | None) -> np.ndarray:
    """Vary and encode one image `(S, S, 3)` uint8 BGR as pairs are, with nothing drawn on it."""
    images, _ = _vary(rng, [image], np.zeros(image.shape[:2], np.uint8), policy)
    return _encode(rng, *images)[0]


def _draw_until_it_shows(
    rng: np.random.Generator, image: np.ndarray, area: np.ndarray, draw: Draw
) -> tuple[np.ndarray, np.ndarray] | None:
    """Draw inside the area; return image and changed mask, or None if nothing shows in `MOST_DRAWS` attempts."""
    fewest_px = FEWEST_CHANGED_PX * (image.shape[0] / 256) ** 2
    for _ in range(MOST_DRAWS):
        abnormal = restore_outside(image, draw(rng, image), area)
        mask = changed_mask(image, abnormal)
        if np.count_nonzero(mask) >= fewest_px:
            return abnormal, mask
    return None


def _draw_by_weight(rng: np.random.Generator, scene: np.ndarray, ease: float, settings: PairSynthesis) -> np.ndarray:
    """Draw one kind on a copy; a scene has no other frames and is its own donor."""
    names = list(settings.kinds)
    weights = np.array(list(settings.kinds.values()), float)
    kind = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    severity = ease + (1 - ease) * rng.random()
    smallest, largest = settings.spots.radius_frac
    radius_frac = (smallest + ease * 0.6 * (largest - smallest), largest)
    spots = settings.spots.model_copy(update={"radius_frac": radius_frac})
    return KINDS[kind].load()(scene, scene, rng, severity, spots)


def _vary(
    rng: np.random.Generator, images: list[np.ndarray], mask: np.ndarray, policy: Policy | None
) -> tuple[list[np.ndarray], np.ndarray]:
    return (images, mask) if policy is None else vary(images, mask, rng, policy)


def _encode(rng: np.random.Generator, *images: np.ndarray) -> list[np.ndarray]:
    """Encode all as JPEG of one quality, and decode them."""
    quality = int(rng.integers(60, 99))
    return [decode_image(encode_jpeg(image, quality)) for image in images]
