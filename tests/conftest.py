"""Fixtures for all tests: small generated data, and one Spark session for those tests that need one."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from cygnet.parameters import PIPELINE_PARAMETERS, Parameters
from toys import base_parameters


@pytest.fixture(autouse=True, scope="module")
def own_path() -> Iterator[None]:
    """Restore the import path: MLflow puts a loaded model's own `cygnet` first, and new processes inherit that."""
    path = list(sys.path)
    yield
    sys.path[:] = path


@pytest.fixture(scope="session")
def parameters() -> dict[str, Parameters]:
    """Give the parameters of conf/base, by pipeline."""
    base = base_parameters()
    return {name: model.model_validate(base[name]) for name, model in PIPELINE_PARAMETERS.items()}


@pytest.fixture
def scene() -> Callable[..., np.ndarray]:
    """Give a maker of busy little scenes: `scene(seed)` is `(256, 256, 3)` uint8 without black or white areas."""

    def make(seed: int = 0, size_px: int = 256) -> np.ndarray:
        rng = np.random.default_rng(seed)
        coarse = rng.integers(60, 190, (8, 8, 3)).astype(np.uint8)
        smooth = cv2.resize(coarse, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
        return np.clip(smooth.astype(int) + rng.integers(-6, 7, smooth.shape), 12, 243).astype(np.uint8)

    return make


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    """Give a writer of little videos: frame i has about the grey level 40 + 2 i, by which it can be told."""

    def write(name: str = "video.mp4", frames: int = 30, frames_per_s: float = 10.0, codec: str = "mp4v") -> Path:
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), frames_per_s, (96, 64))
        assert writer.isOpened()
        for index in range(frames):
            writer.write(np.full((64, 96, 3), 40 + 2 * index, np.uint8))
        writer.release()
        return path

    return write
