"""What pretraining promises: each image from its own number, schedules by step, and a kill that changes nothing."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from cygnet.model.network.backbone import initial_vit
from cygnet.model.network.detector import Detector
from cygnet.model.network.preprocessing import Preprocessing
from cygnet.model.training.examples import batch_of_pairs
from cygnet.model.training.pretrain import PairBatches, pretrain
from cygnet.model.training.results import Pretrained
from cygnet.model.training.resume import StateStore
from cygnet.parameters.pretraining import Pretraining
from cygnet.parameters.training import SmallViT
from cygnet.tables import ABNORMAL, NORMAL

VIT = SmallViT(image_size_px=64, patch_size_px=16, hidden_size=32, layers=1, heads=2)


@pytest.fixture
def settings(parameters: dict[str, Pretraining]) -> Pretraining:
    """Give settings of a run of eight steps, the last two of them at full size."""
    changes = {
        "vit": VIT,
        "images": 64,
        "batch_size": 8,
        "workers": 0,
        "warmup_steps": 2,
        "small_size_px": 48,
        "small_size_frac": 0.75,
        "decay_frac": 0.5,
        "curriculum_images": 32,
        "save_every_steps": 1,
    }
    return parameters["pretraining"].model_copy(update=changes)


@pytest.fixture(params=["float32", "bfloat16"])
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Train in this precision, whatever the processor is good at."""
    monkeypatch.setattr("cygnet.model.network.hardware.has_bf16", lambda: request.param == "bfloat16")
    return request.param


class KilledAfter(StateStore):
    """Kills the run after so many states were saved."""

    def __init__(self, folder: Path, states: int) -> None:
        super().__init__(folder)
        self.left = states

    def save(self, key: str, state: dict[str, Any]) -> None:
        """Save, and be killed perhaps."""
        super().save(key, state)
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def run(settings: Pretraining, store: StateStore) -> Pretrained:
    torch.manual_seed(settings.seed)
    return pretrain(Detector(initial_vit(settings.vit), Preprocessing(64)), settings, store)


def assert_same(one: Pretrained, other: Pretrained) -> None:
    weights, others = one.detector.state_dict(), other.detector.state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    columns = ["step", "images", "loss", "learning_rate"]
    assert one.history[columns].equals(other.history[columns])


@pytest.mark.usefixtures("precision")
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(settings: Pretraining, tmp_path: Path) -> None:
    undisturbed = run(settings, StateStore(tmp_path / "one"))
    for states in (3, 4):  # killed after step 3, and again after step 7
        with pytest.raises(KeyboardInterrupt):
            run(settings, KilledAfter(tmp_path / "two", states))
    resumed = run(settings, StateStore(tmp_path / "two"))
    assert_same(resumed, undisturbed)
    assert resumed.images == undisturbed.images == 64


def test_the_same_run_again_gives_the_same_at_once(settings: Pretraining, tmp_path: Path) -> None:
    first, again = run(settings, StateStore(tmp_path)), run(settings, StateStore(tmp_path))
    assert_same(first, again)
    assert again.seconds == first.seconds


def test_settings_that_change_no_weight_may_change_in_between(settings: Pretraining, tmp_path: Path) -> None:
    undisturbed = run(settings, StateStore(tmp_path / "one"))
    with pytest.raises(KeyboardInterrupt):
        run(settings, KilledAfter(tmp_path / "two", 5))
    cv2.setNumThreads(2)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (0, 0), 5)  # with its threads, a forked worker would hang
    others = settings.model_copy(update={"workers": 1, "held_out_images": 99, "swan_frames": 1})
    assert_same(run(others, StateStore(tmp_path / "two")), undisturbed)


def test_other_settings_begin_anew(settings: Pretraining, tmp_path: Path) -> None:
    first = run(settings, StateStore(tmp_path))
    other = run(settings.model_copy(update={"label_smoothing": 0.1}), StateStore(tmp_path))
    assert len(other.history) == len(first.history)
    assert other.history["loss"].iloc[-1] != first.history["loss"].iloc[-1]


def test_a_batch_follows_from_the_seed_and_its_number_whoever_draws_it(settings: Pretraining) -> None:
    batches = PairBatches(settings)
    alone = batches[5]
    assert len(batches[0]) == len(batches[7]) == 3  # others are drawn in between
    worker = DataLoader(batches, batch_size=None, sampler=[6, 5], num_workers=1, multiprocessing_context="spawn")
    for drawn in (batches[5], list(worker)[1]):
        assert all(torch.equal(one, other) for one, other in zip(alone, drawn, strict=True))
    for other in (batches[6], PairBatches(settings.model_copy(update={"seed": 1}))[5]):
        assert not torch.equal(alone[0][:, :48, :48], other[0][:, :48, :48])


def test_images_do_not_depend_on_the_size_of_the_batch(settings: Pretraining) -> None:
    small, large = PairBatches(settings), PairBatches(settings.model_copy(update={"batch_size": 16}))
    assert torch.equal(torch.cat([small[2][0], small[3][0]]), large[1][0])


def test_small_images_come_first(settings: Pretraining) -> None:
    batches = PairBatches(settings)
    assert [batches[step][0].shape[1] for step in range(len(batches))] == [48] * 6 + [64] * 2


def test_half_of_a_batch_is_paired_with_the_other_half(settings: Pretraining) -> None:
    images, labels, coverage = PairBatches(settings)[7]
    assert (images.shape, images.dtype) == ((8, 64, 64, 3), torch.uint8)
    assert labels.tolist() == [NORMAL, ABNORMAL] * 4
    assert (coverage.shape, coverage.dtype) == ((8, 4, 4), torch.float32)
    assert not coverage[::2].any()
    assert (coverage[1::2].amax(dim=(1, 2)) > 0).all()
    unlike = (images[::2].int() - images[1::2].int()).abs().amax(dim=3) > 8
    assert 0 < unlike.float().mean() < 0.5


def test_a_batch_has_rgb_and_the_share_of_each_patch_that_is_masked() -> None:
    normal = np.full((32, 32, 3), (1, 2, 3), np.uint8)  # BGR
    mask = np.zeros((32, 32), np.uint8)
    mask[:8, 16:] = 255
    images, _, coverage = batch_of_pairs([(normal, normal, mask)], Preprocessing(32), 2)
    assert images[0, 0, 0].tolist() == [3, 2, 1]
    assert coverage.flatten().tolist() == pytest.approx([0, 0, 0, 0, 0, 0.5, 0, 0], abs=1 / 255)


def test_learning_rate_warms_up_stays_and_falls_to_zero(settings: Pretraining, tmp_path: Path) -> None:
    history = run(settings.model_copy(update={"learning_rate": 1e-3}), StateStore(tmp_path)).history
    assert history["learning_rate"].tolist() == pytest.approx([5e-4, 1e-3, 1e-3, 1e-3, 7.5e-4, 5e-4, 2.5e-4, 0])


def test_the_loss_falls_and_the_average_of_the_weights_is_what_is_given(settings: Pretraining, tmp_path: Path) -> None:
    changes = {
        "vit": SmallViT(image_size_px=48, patch_size_px=8, hidden_size=64, layers=2, heads=2),
        "images": 960,
        "batch_size": 12,
        "learning_rate": 3e-3,
        "save_every_steps": 10,
        "easy_frac": 1.0,
        "textures": ["gradient"],
        "twins": settings.twins.model_copy(update={"kinds": {"polygon": 1.0}}),
    }
    pretrained = run(settings.model_copy(update=changes), StateStore(tmp_path))
    assert pretrained.history["loss"].iloc[-1] < 0.9 * pretrained.history["loss"].iloc[0]
    assert not pretrained.detector.training
    state = torch.load(StateStore(tmp_path).path, weights_only=True)["state"]
    weights = pretrained.detector.state_dict()
    assert all(torch.equal(state["average"][name], weights[name]) for name in weights)
    assert any(not torch.equal(state["detector"][name], weights[name]) for name in weights)
