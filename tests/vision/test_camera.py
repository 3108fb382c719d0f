"""What the measure of a moving camera promises: a pan counts all, what passes and light count little."""

import numpy as np
import pytest

from cygnet.vision.camera import changing_frac

RNG = np.random.default_rng(0)
WALL = np.kron(RNG.integers(0, 256, (24, 48, 3), np.uint8), np.ones((16, 16, 1), np.uint8))  # twice as wide as a view


def views(shift_px: int, frames: int = 20) -> list[np.ndarray]:
    return [WALL[:256, 128 + number * shift_px :][:, :256].copy() for number in range(frames)]


def test_a_still_view_does_not_change_whatever_noise_it_has() -> None:
    noisy = [np.clip(view + RNG.normal(0, 5, view.shape), 0, 255).astype(np.uint8) for view in views(0)]
    assert changing_frac(noisy) < 0.01
    assert changing_frac(views(0, 1)) == 0


def test_a_pan_changes_nearly_all_of_it() -> None:
    assert changing_frac(views(16)) > 0.8


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_something_that_passes_counts_with_its_share(share: float) -> None:
    frames = views(0, 41)
    for number, frame in enumerate(frames):
        start = number * 6
        frame[: round(256 * share), start : start + 20] = 255 - frame[: round(256 * share), start : start + 20]
    assert changing_frac(frames) < share / 4


def test_a_cloud_over_all_of_it_counts_nothing() -> None:
    frames = [np.clip(view * 0.5 + 40 + number, 0, 255).astype(np.uint8) for number, view in enumerate(views(0))]
    assert changing_frac(frames) < 0.01
