"""Twins: one scene twice, normal and with anomalies, and everything else the same.

Both go through the same affine map, exposure, blur, noise, resampling and JPEG encoding, with the same draws. So
neither background, border nor encoding tells them apart: the anomaly alone does.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from cygnet.parameters import PolygonShape, Spots, Twins
from cygnet.vision.anomalies import FEWEST_CHANGED_PX, changed_mask
from cygnet.vision.codec import decode_image, encode_jpeg
from cygnet.vision.kinds import BORDER, KINDS, draw_spots
from cygnet.vision.polygons import PEPPER, SALT, fill_patch
from cygnet.vision.scenes import draw_scene

POLYGON_SHAPE = PolygonShape(vertices=(5, 9), radius_factor=(0.5, 1.5), min_radius_px=1.5)
MOST_DRAWS = 10


def draw_twins(
    rng: np.random.Generator, size_px: int, ease: float, settings: Twins, textures: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a scene twice, the second time with anomalies.

    Args:
        rng: The pair's generator.
        size_px: S.
        ease: 0-1: 1 draws the largest and plainest anomalies only, 0 all that the settings allow.
        settings: Kinds with their weights, number and size of the anomalies.
        textures: What the scene is made of, keys of `cygnet.vision.scenes.TEXTURES`.

    Returns:
        The normal and the abnormal image, `(S, S, 3)` uint8 BGR, and the mask `(S, S)` uint8, 255 = abnormal.
    """
    while True:
        twins = make_twins(rng, draw_scene(rng, size_px, textures), ease, settings)
        if twins is not None:
            return twins


def make_twins(
    rng: np.random.Generator, scene: np.ndarray, ease: float, settings: Twins, *, moved: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Make twins of a scene `(S, S, 3)` uint8 BGR as `draw_twins` does, or None where no anomaly shows on it.

    With `moved` false they stay where they are: no flips, no affine map.
    """
    fewest_px = FEWEST_CHANGED_PX * (scene.shape[0] / 256) ** 2
    for _ in range(MOST_DRAWS):
        abnormal = _draw_anomalies(rng, scene, ease, settings)
        mask = changed_mask(scene, abnormal)
        if np.count_nonzero(mask) >= fewest_px:
            return _vary(rng, scene, abnormal, mask, moved=moved)
    return None


def _draw_anomalies(rng: np.random.Generator, scene: np.ndarray, ease: float, settings: Twins) -> np.ndarray:
    """Draw one kind, chosen by its weight, on a copy; a scene has no other frames, so it is its own donor."""
    names = list(settings.kinds)
    weights = np.array(list(settings.kinds.values()), float)
    kind = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    severity = ease + (1 - ease) * rng.random()
    smallest, largest = settings.spots.radius_frac
    radius_frac = (smallest + ease * 0.6 * (largest - smallest), largest)
    spots = settings.spots.model_copy(update={"radius_frac": radius_frac})
    if kind == "polygon":
        return _draw_salt_and_pepper(rng, scene, spots)
    return draw_spots(KINDS[kind], scene, scene, rng, severity, spots)


def _draw_salt_and_pepper(rng: np.random.Generator, scene: np.ndarray, spots: Spots) -> np.ndarray:
    """Draw patches of kind `polygon` on a copy, as many and as large as the spots of the other kinds."""
    drawn = scene.copy()
    size_px = scene.shape[0]
    for _ in range(int(rng.integers(spots.spots[0], spots.spots[1] + 1))):
        radius_px = rng.uniform(*spots.radius_frac) * size_px
        centre_px = (rng.uniform(0, size_px), rng.uniform(0, size_px))
        value = SALT if rng.random() < 0.5 else PEPPER
        fill_patch(drawn, rng, centre_px, np.pi * radius_px**2, value, POLYGON_SHAPE)
    return drawn


def _vary(
    rng: np.random.Generator, normal: np.ndarray, abnormal: np.ndarray, mask: np.ndarray, *, moved: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vary both twins by the same draws: what cameras, codecs and our own augmentation do to an image.

    The mask goes through flips and the affine map alone. In about 3 of 1000 pairs the anomaly leaves the image or
    drowns (measured on 1,500): so often is the label wrong.
    """
    size_px = mask.shape[0]
    both = np.concatenate([normal, abnormal], axis=2)  # (S, S, 6): every draw falls on both
    if moved:
        both, mask = _move(rng, both, mask)
    if rng.random() < 0.4:
        gain, gamma = rng.uniform(0.75, 1.25), rng.uniform(0.75, 1.3)
        levels = np.clip(255 * (np.arange(256) / 255 * gain) ** gamma, 0, 255).astype(np.uint8)
        both = levels[both]
    if rng.random() < 0.3:
        fewer_px = round(size_px * rng.uniform(0.6, 0.95))
        small = [cv2.resize(image, (fewer_px, fewer_px), interpolation=cv2.INTER_AREA) for image in _apart(both)]
        pair = [cv2.resize(image, mask.shape, interpolation=cv2.INTER_CUBIC) for image in small]
        both = np.concatenate(pair, axis=2)
    elif rng.random() < 0.3:
        both = cv2.blur(both, (2, 2)) if rng.random() < 0.5 else cv2.blur(both, (3, 3))
    if rng.random() < 0.5:
        noise = np.rint(rng.normal(0, rng.uniform(0.5, 7), both.shape[:2])).astype(np.int16)[..., None]
        both = np.clip(both.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    quality = int(rng.integers(60, 99))
    normal, abnormal = (decode_image(encode_jpeg(image, quality)) for image in _apart(both))
    return normal, abnormal, mask


def _move(rng: np.random.Generator, both: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flip and bend `(S, S, 6)` and its mask."""
    size_px = mask.shape[0]
    if rng.random() < 0.5:
        both, mask = np.ascontiguousarray(both[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
    if rng.random() < 0.5:
        both, mask = np.ascontiguousarray(both[::-1]), np.ascontiguousarray(mask[::-1])
    if rng.random() < 0.5:
        linear = np.eye(2) + rng.uniform(-0.3, 0.3, (2, 2)) * [[1, 1], [rng.random() < 0.5, 1]]
        centre = np.full(2, (size_px - 1) / 2)
        matrix = np.column_stack([linear, centre - linear @ centre + rng.uniform(-0.05, 0.05, 2) * size_px])
        mask = cv2.warpAffine(mask, matrix, mask.shape, flags=cv2.INTER_NEAREST, borderMode=BORDER)
        pair = [cv2.warpAffine(image, matrix, mask.shape, borderMode=BORDER) for image in _apart(both)]
        both = np.concatenate(pair, axis=2)
    return both, mask


def _apart(both: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Part `(S, S, 6)` into the twins: OpenCV's warps and encoders take no more than four channels."""
    return np.ascontiguousarray(both[..., :3]), np.ascontiguousarray(both[..., 3:])
