"""The augmentation policy: how train images may vary, in the table `training_set` and in the pairs that fitting draws.

`scene.camera` selects the policy, unless `augmentation.preset` names one, and everything that varies an image takes it
from here. With `fixed_camera` nothing flips, turns or shears; with `reference`, only what its switches allow.

- `augment` makes the copies of the table. The variant number decides what a copy gets, which keeps any two copies of
  one content different: the first variants are the exact symmetries that the policy allows (each combination of flips
  and quarter turns once, in an order that depends on the content); every later copy also gets a transform with
  continuous settings, which no other copy repeats.
- `vary` varies one image, or a pair with the same random draws.

An image and its mask always go through the same map. The border is reflect-101 everywhere: black corners lowered a
detector's AUROC from 1.000 to 0.990 (measured on the swan).
"""

from collections.abc import Sequence

import cv2
import numpy as np

from cygnet.parameters.augmentation import Augmentation, FixedCameraAugmentation, ReferenceAugmentation
from cygnet.vision.rng import generator

QUARTER_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}
BORDER = cv2.BORDER_REFLECT_101
LARGEST_DISTORTION = 0.45
"""Upper bound on the entries of a random linear map's deviation from the identity. From 0.5 on it could mirror."""

LARGEST_TURN_DEG = 15.0
NORMAL_GAIN = (0.85, 1.15)
"""How far `vary_normal` goes, either way: what a camera that is carried, or a photograph of the next product, shows."""

Policy = ReferenceAugmentation | FixedCameraAugmentation
"""The settings of the selected preset."""

Pair = tuple[np.ndarray, np.ndarray | None]
"""Image `(H, H, 3)` uint8 and its mask `(H, H)` uint8, or None for a normal image."""


def select_policy(augmentation: Augmentation, camera: str) -> Policy:
    """Return the settings of the preset that `augmentation.preset` names; of null, the one for this `scene.camera`."""
    preset = augmentation.preset or ("fixed_camera" if camera == "fixed" else "reference")
    return augmentation.fixed_camera if preset == "fixed_camera" else augmentation.reference


def augment(pair: Pair, content: str, variant: int, policy: Policy, seed: int) -> Pair:
    """Make one variant of an image.

    Args:
        pair: The square image and its mask.
        content: Key of the image's content: rows with the same pixels share it, and must not share a variant.
        variant: 0, 1, 2, ...: different for any two rows of one content.
        policy: What may vary.
        seed: Of all draws.
    """
    rng = generator(seed, content, variant)
    if isinstance(policy, FixedCameraAugmentation):
        return vary_camera(pair, rng, policy)
    symmetries = list_symmetries(policy)
    order = generator(seed, content).permutation(len(symmetries))
    turned = apply_symmetry(pair, symmetries[order[variant % len(symmetries)]])
    if variant >= len(symmetries) or rng.random() < policy.affine_probability:
        return squash_and_skew(turned, rng.uniform(-policy.affine_shear, policy.affine_shear))
    return turned


def vary(
    images: Sequence[np.ndarray], mask: np.ndarray, rng: np.random.Generator, policy: Policy
) -> tuple[list[np.ndarray], np.ndarray]:
    """Vary images and their mask with the same random draws.

    By `fixed_camera` they vary exactly as the table's images do. By `reference` they get its flips and an affine map,
    and what cameras do: exposure, resampling, blur and sensor noise. The mask takes the geometric part only.

    Args:
        images: `(S, S, 3)` uint8 each.
        mask: `(S, S)` uint8.
        rng: Source of all random draws.
        policy: What may vary.

    Returns:
        The varied images, and the mask moved as they are.
    """
    stack = np.concatenate(images, axis=2)  # (S, S, 3 N): every draw applies to all
    if isinstance(policy, FixedCameraAugmentation):
        stack, moved = vary_camera((stack, mask), rng, policy)
        return _unstack(stack), mask if moved is None else moved
    stack, mask = _flip_and_distort(stack, mask, rng, policy)
    return _unstack(_degrade(stack, rng)), mask


def vary_normal(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn an image `(H, H, 3)` uint8 and change its brightness, as another angle and another exposure would."""
    centre_px = (image.shape[0] - 1) / 2
    turn = cv2.getRotationMatrix2D((centre_px, centre_px), rng.uniform(-LARGEST_TURN_DEG, LARGEST_TURN_DEG), 1.0)
    levels = np.rint(np.clip(np.arange(256) * rng.uniform(*NORMAL_GAIN), 0, 255)).astype(np.uint8)
    return levels[_warp(image, turn)]


def list_symmetries(reference: ReferenceAugmentation) -> list[tuple[bool, int]]:
    """List the distinct combinations of the allowed flips and turns: (flip left-right first, quarter turns after).

    A vertical flip is a horizontal one and a half turn. The largest set has 8 members, the symmetries of the square.
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
    """Skew sideways by `shear` and squash, recentred, until the skewed square fits.

    Args:
        pair: The image and its mask.
        shear: Pixels sideways per pixel of height, -1 to 1.
    """
    centre_px = (pair[0].shape[0] - 1) / 2
    scale = 1 / (1 + abs(shear))
    linear = np.array([[scale, scale * shear], [0.0, 1.0]])
    offset = centre_px - linear @ [centre_px, centre_px]
    return _warp_pair(pair, np.column_stack([linear, offset]))


def vary_camera(pair: Pair, rng: np.random.Generator, preset: FixedCameraAugmentation) -> Pair:
    """Shift by a few pixels, then vary gain, gamma and sensor noise; the mask only shifts.

    The image may be a stack `(S, S, 3 N)` of N images: all get the same shift, exposure and noise.
    """
    shift_px = rng.uniform(-preset.shift_px, preset.shift_px, size=2)
    image, mask = _warp_pair(pair, np.column_stack([np.eye(2), shift_px]))
    gain, gamma = rng.uniform(*preset.gain), rng.uniform(*preset.gamma)
    noise = rng.normal(0, rng.uniform(*preset.noise_std), (*image.shape[:2], 3))
    exposed = 255 * np.clip(image / 255 * gain, 0, 1) ** gamma + np.tile(noise, image.shape[2] // 3)
    return np.clip(np.rint(exposed), 0, 255).astype(np.uint8), mask


def _flip_and_distort(
    stack: np.ndarray, mask: np.ndarray, rng: np.random.Generator, reference: ReferenceAugmentation
) -> tuple[np.ndarray, np.ndarray]:
    """Flip and distort `(S, S, 3 N)` and its mask; the draws do not depend on which flips are allowed."""
    if rng.random() < 0.5 and reference.horizontal_flip:
        stack, mask = np.ascontiguousarray(stack[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
    if rng.random() < 0.5 and reference.vertical_flip:
        stack, mask = np.ascontiguousarray(stack[::-1]), np.ascontiguousarray(mask[::-1])
    if rng.random() < reference.affine_probability:
        size_px, most = mask.shape[0], min(reference.affine_shear, LARGEST_DISTORTION)
        linear = np.eye(2) + rng.uniform(-most, most, (2, 2)) * [[1, 1], [rng.random() < 0.5, 1]]
        centre = np.full(2, (size_px - 1) / 2)
        matrix = np.column_stack([linear, centre - linear @ centre + rng.uniform(-0.05, 0.05, 2) * size_px])
        stack, mask = _warp(stack, matrix), _warp_mask(mask, matrix)
    return stack, mask


def _degrade(stack: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vary exposure, sharpness and sensor noise of `(S, S, 3 N)`, each of them sometimes."""
    size_px = stack.shape[0]
    if rng.random() < 0.4:
        gain, gamma = rng.uniform(0.75, 1.25), rng.uniform(0.75, 1.3)
        levels = np.clip(255 * (np.arange(256) / 255 * gain) ** gamma, 0, 255).astype(np.uint8)
        stack = levels[stack]
    if rng.random() < 0.3:
        fewer_px = round(size_px * rng.uniform(0.6, 0.95))
        small = [cv2.resize(image, (fewer_px, fewer_px), interpolation=cv2.INTER_AREA) for image in _unstack(stack)]
        stack = np.concatenate(
            [cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_CUBIC) for image in small], axis=2
        )
    elif rng.random() < 0.3:
        stack = cv2.blur(stack, (2, 2)) if rng.random() < 0.5 else cv2.blur(stack, (3, 3))
    if rng.random() < 0.5:
        noise = np.rint(rng.normal(0, rng.uniform(0.5, 7), stack.shape[:2])).astype(np.int16)[..., None]
        stack = np.clip(stack.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    return stack


def _warp_pair(pair: Pair, matrix: np.ndarray) -> Pair:
    image, mask = pair
    return _warp(image, matrix), None if mask is None else _warp_mask(mask, matrix)


def _warp(stack: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Warp `(H, H, 3 N)` by a `(2, 3)` affine matrix."""
    size = stack.shape[1::-1]
    images = _unstack(stack)
    return np.concatenate([cv2.warpAffine(image, matrix, size, borderMode=BORDER) for image in images], axis=2)


def _warp_mask(mask: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Warp a mask `(H, H)` by a `(2, 3)` affine matrix; it stays binary."""
    return cv2.warpAffine(mask, matrix, mask.shape[::-1], flags=cv2.INTER_NEAREST, borderMode=BORDER)


def _unstack(stack: np.ndarray) -> list[np.ndarray]:
    """Split `(S, S, 3 N)` into N images: OpenCV's warps and encoders take at most four channels."""
    return [np.ascontiguousarray(stack[..., start : start + 3]) for start in range(0, stack.shape[2], 3)]
