"""Augmentation of an image and its mask: the same map and the same border for both, whatever the class.

The variant number says what a copy gets, so that no two copies of one content are the same image: the preset's first
variants are its exact symmetries (flips and quarter turns, each combination once, in an order drawn by content); from
then on every copy also has a transform with continuous settings, which no other draw repeats.

The border is reflect-101 everywhere: black corners took a detector from AUROC 1.000 to 0.990 (measured on the swan).
"""

import cv2
import numpy as np

from cygnet.parameters.augmentation import Augmentation, FixedCameraAugmentation, ReferenceAugmentation
from cygnet.vision.rng import generator

QUARTER_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}

Pair = tuple[np.ndarray, np.ndarray | None]
"""Image `(H, H, 3)` uint8 and its mask `(H, H)` uint8, or None for a normal image."""


def augment(pair: Pair, content: str, variant: int, augmentation: Augmentation) -> Pair:
    """Make one variant of an image.

    Args:
        pair: The square image and its mask.
        content: What names the image's content: two rows with the same pixels share it, and must not share a variant.
        variant: 0, 1, 2, ...: no two rows of one content have the same.
        augmentation: The settings, with their seed.
    """
    rng = generator(augmentation.seed, content, variant)
    if augmentation.preset == "fixed_camera":
        return vary_camera(pair, rng, augmentation.fixed_camera)
    reference = augmentation.reference
    symmetries = list_symmetries(reference)
    order = generator(augmentation.seed, content).permutation(len(symmetries))
    turned = apply_symmetry(pair, symmetries[order[variant % len(symmetries)]])
    if variant >= len(symmetries) or rng.random() < reference.affine_probability:
        return squash_and_skew(turned, rng.uniform(-reference.affine_shear, reference.affine_shear))
    return turned


def list_symmetries(reference: ReferenceAugmentation) -> list[tuple[bool, int]]:
    """List the distinct combinations of the allowed flips and turns: (flip left-right first, quarter turns after).

    A vertical flip is a horizontal one and a half turn, so the largest set has 8 members: the square's symmetries.
    """
    turns = range(4) if reference.quarter_turns else range(1)
    half_turns = {(False, 0)}
    if reference.horizontal_flip:
        half_turns |= {(True, 0)}
    if reference.vertical_flip:
        half_turns |= {(not flip, turn + 2) for flip, turn in half_turns}
    return sorted({(flip, (turn + more) % 4) for flip, turn in half_turns for more in turns})


def apply_symmetry(pair: Pair, symmetry: tuple[bool, int]) -> Pair:
    """Flip left-right if asked, then turn counter-clockwise by quarter turns. Exact: pixels only move."""
    flip, turns = symmetry

    def move(array: np.ndarray) -> np.ndarray:
        flipped = cv2.flip(array, 1) if flip else array
        return cv2.rotate(flipped, QUARTER_TURNS[turns]) if turns else flipped

    image, mask = pair
    return move(image), None if mask is None else move(mask)


def squash_and_skew(pair: Pair, shear: float) -> Pair:
    """Skew sideways by `shear` and squash so that the skewed square still fits, recentred.

    Args:
        pair: The image and its mask.
        shear: Pixels sideways per pixel of height, -1 to 1.
    """
    centre_px = (pair[0].shape[0] - 1) / 2
    scale = 1 / (1 + abs(shear))
    linear = np.array([[scale, scale * shear], [0.0, 1.0]])
    offset = centre_px - linear @ [centre_px, centre_px]
    return _warp(pair, np.column_stack([linear, offset]))


def vary_camera(pair: Pair, rng: np.random.Generator, preset: FixedCameraAugmentation) -> Pair:
    """Shift by a few pixels, then vary gain, gamma and sensor noise; the mask only moves."""
    shift_px = rng.uniform(-preset.shift_px, preset.shift_px, size=2)
    image, mask = _warp(pair, np.column_stack([np.eye(2), shift_px]))
    gain, gamma = rng.uniform(*preset.gain), rng.uniform(*preset.gamma)
    noise = rng.normal(0, rng.uniform(*preset.noise_std), image.shape)
    exposed = 255 * np.clip(image / 255 * gain, 0, 1) ** gamma + noise
    return np.clip(np.rint(exposed), 0, 255).astype(np.uint8), mask


def _warp(pair: Pair, matrix: np.ndarray) -> Pair:
    image, mask = pair
    size = image.shape[1::-1]
    border = cv2.BORDER_REFLECT_101
    warped = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border)
    if mask is None:
        return warped, None
    return warped, cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_NEAREST, borderMode=border)
