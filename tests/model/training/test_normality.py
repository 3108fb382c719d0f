"""What the subspace promises: the same for any order, partition and memory; small inside, large outside."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cygnet.model.network import hardware
from cygnet.model.network.detector import Detector
from cygnet.model.serving.blocks import FirstBlocks, block_runner
from cygnet.model.training.normality import Covariance, fit_normality, with_variants
from cygnet.tables import NORMAL
from support.toys import SMALL_VIT, toy_detector, toy_image


@pytest.fixture(scope="module")
def detector() -> Detector:
    """Give a detector that knows no normal frame."""
    return toy_detector(SMALL_VIT)


def vectors(count: int = 300, width: int = 12, rank: int = 3) -> torch.Tensor:
    """Points near a plane of `rank` dimensions, far from the origin."""
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(rank, width, generator=generator)
    points = torch.randn(count, rank, generator=generator) @ plane
    return points + 100 + 0.001 * torch.randn(count, width, generator=generator)


def projector(covariance: Covariance, explained_frac: float) -> torch.Tensor:
    axes = covariance.principal_axes(explained_frac)
    return axes @ axes.T


def counted(parts: list[torch.Tensor]) -> Covariance:
    covariance = Covariance()
    for part in parts:
        covariance.add(part)
    return covariance


def test_covariance_is_that_of_all_vectors_at_once() -> None:
    rows = vectors()
    covariance = counted(list(rows.split(7)))
    centred = rows.double() - rows.double().mean(0)
    _, axes = np.linalg.eigh((centred.T @ centred).numpy())
    torch.testing.assert_close(covariance.mean(), rows.double().mean(0), rtol=1e-12, atol=0)
    np.testing.assert_allclose(projector(covariance, 0.999), axes[:, -3:] @ axes[:, -3:].T, atol=1e-6)


def test_partition_and_order_change_nothing_but_rounding() -> None:
    rows = vectors()
    whole = counted([rows])
    for parts in (list(rows.split(11)), list(rows.flip(0).split(64)), [rows[200:], rows[:1], rows[1:200]]):
        other = counted(parts)
        assert other.count == whole.count
        torch.testing.assert_close(other.mean(), whole.mean(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(projector(other, 0.999), projector(whole, 0.999), rtol=0, atol=1e-8)


@pytest.mark.parametrize(("explained_frac", "axes"), [(0.999, 3), (0.3, 1), (1e-6, 1), (1 - 1e-12, 12)])
def test_no_more_axes_than_the_share_needs(explained_frac: float, axes: int) -> None:
    assert counted([vectors()]).principal_axes(explained_frac).shape == (12, axes)


def test_merged_parts_are_all_vectors_at_once() -> None:
    rows = vectors()
    parts = [counted([part + 50]) for part in rows.split(70)]
    untouched = [part.products.clone() for part in parts]
    merged, whole = Covariance.merged(parts), counted([rows + 50])
    assert merged.count == whole.count
    torch.testing.assert_close(merged.mean(), whole.mean(), rtol=1e-12, atol=0)
    torch.testing.assert_close(projector(merged, 0.999), projector(whole, 0.999), rtol=0, atol=1e-8)
    assert all(torch.equal(part.products, before) for part, before in zip(parts, untouched, strict=True))


def test_normal_patches_lie_inside_and_others_outside(detector: Detector, tmp_path: Path) -> None:
    frames = {f"toy/{seed:06d}": toy_image(NORMAL, seed) for seed in range(20)}
    fitted, _ = fit_normality(detector, frames.items(), list(frames), 0.9, tmp_path / "features")
    assert detector.normality.basis is not fitted.normality.basis  # what was given stays as it is
    changed = toy_image(NORMAL, 100)
    changed[:32, 32:] = 255 - changed[:32, 32:]
    with torch.inference_mode():
        seen, unseen, odd = (
            fitted(torch.from_numpy(fitted.preprocessing.resize(image)[None]))[2][0]
            for image in (toy_image(NORMAL, 3), toy_image(NORMAL, 99), changed)
        )
    assert unseen.max() < 3 * seen.max()
    assert odd.flatten().argmax() == 1
    assert odd.max() > 2 * unseen.max()


def test_variants_are_fitted_too_and_only_the_frames_themselves_are_kept(detector: Detector, tmp_path: Path) -> None:
    frames = {f"toy/{seed:06d}": toy_image(NORMAL, seed) for seed in range(12)}
    _, alone = fit_normality(detector, frames.items(), list(frames), 0.9, tmp_path / "alone")
    _, seen = fit_normality(detector, with_variants(frames.items()), list(frames), 0.9, tmp_path / "features")
    torch.testing.assert_close(seen.features, alone.features)
    assert [part.count for part in seen.counted] == [2 * part.count for part in alone.counted]
    made, again = list(with_variants(frames.items())), list(with_variants(reversed(frames.items())))
    for (name, image), (other, same) in zip(made[1::2], reversed(again[1::2]), strict=True):  # whatever the order
        assert (name, image.tobytes()) == (other, same.tobytes())


@pytest.mark.parametrize("count", [0, 2, 4])
def test_onnx_runtime_computes_blocks_as_torch_does(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "has_bf16", lambda: False)  # then ONNX Runtime computes them
    deep = toy_detector(SMALL_VIT.model_copy(update={"layers": 4}))
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = deep.run_blocks(images, count)
    for answered, by_torch in zip(block_runner(FirstBlocks(deep, count))(images), expected, strict=True):
        torch.testing.assert_close(answered, by_torch, rtol=1e-4, atol=1e-4)
