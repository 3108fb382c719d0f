"""What fitting promises: repeatable, stopping in time, keeping the best epoch, and able to learn."""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from transformers import ViTConfig, ViTModel

from cygnet.errors import UserError
from cygnet.model.evaluation.calibrate import TEMPERATURE_BOUNDS, fit_temperature, negative_log_likelihood
from cygnet.model.network.backbone import load_detector
from cygnet.model.network.detector import Detector
from cygnet.model.training.examples import Examples, batch_of_pairs
from cygnet.model.training.fit import Splits, fit, interpolate
from cygnet.model.training.results import Fitted
from cygnet.model.training.resume import StateStore
from cygnet.model.training.settings import FitSettings
from cygnet.parameters.augmentation import Augmentation
from cygnet.parameters.synthesis import Synthesis
from cygnet.parameters.training import SmallViT, Training
from cygnet.tables import NORMAL
from cygnet.vision.paired_synthesis import PROCEDURAL, draw_as_synthesis, make_pair, vary_alone
from cygnet.vision.rng import generator
from support.fits import NOT_READ, PREPROCESSING, bright_and_dark, change, drawing
from support.toys import toy_image

TWO_BLOCKS = SmallViT(image_size_px=32, patch_size_px=16, hidden_size=32, layers=2, heads=2)


@pytest.fixture(params=["float32", "bfloat16"])
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Fit in this precision, whatever the processor is good at."""
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr("cygnet.model.network.hardware.has_bf16", lambda: request.param == "bfloat16")
    yield request.param
    AcceleratorState._reset_state(reset_partial_state=True)


def spotted(per_class: int, synthesis: Synthesis) -> Examples:
    """Dark images, and the same with anomalies."""
    images = [toy_image(NORMAL, 500 + place, 32) for place in range(per_class)]
    drawn = [
        make_pair(generator(place), image, draw_as_synthesis(synthesis, image), PROCEDURAL)
        for place, image in enumerate(images)
    ]
    images, labels, coverage = batch_of_pairs([pair for pair in drawn if pair], PREPROCESSING, 2)
    return Examples(images.flip(3), labels, coverage, np.arange(len(labels)), "spotted", PREPROCESSING)


@pytest.fixture
def run(settings: FitSettings, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Fitted]:
    """Give a fit on little: `run(train, validation, epochs=2)` changes parameters of training.

    Each fit has a folder of its own for its state, unless one is given.
    """

    def fit_on(
        train: Examples,
        validation: Examples,
        settings: FitSettings = settings,
        folder: Path | None = None,
        **changes: object,
    ) -> Fitted:
        changed = dataclasses.replace(settings, training=settings.training.model_copy(update=changes))
        place = folder or tmp_path_factory.mktemp("state")
        return fit(load_detector(changed.training), Splits(train, validation), changed, StateStore(place), place)

    return fit_on


def probabilities(fitted: Fitted, examples: Examples) -> np.ndarray:
    """Softmax in float32 of the kept detector, `(N, 2)`."""
    with torch.inference_mode():
        logits, *_ = fitted.detector.eval()(examples.take(torch.arange(len(examples.labels)))[0])
    return torch.softmax(logits.double(), dim=1).numpy()


def calibrated_nll(fitted: Fitted, examples: Examples) -> float:
    """NLL of the kept detector at the temperature that suits these examples best."""
    logits, labels = np.log(probabilities(fitted, examples)), examples.labels.numpy()
    return negative_log_likelihood(logits / fit_temperature(logits, labels), labels)


@pytest.mark.usefixtures("precision")
def test_same_seed_gives_the_same_history_and_weights(run: Callable[..., Fitted], training: Training) -> None:
    train, validation = bright_and_dark(12), bright_and_dark(4, 100)
    one, again, other = (run(train, validation, epochs=2, seed=seed) for seed in (training.seed, training.seed, 9))
    pd.testing.assert_frame_equal(one.history, again.history, check_exact=True)
    weights, weights_again = one.detector.state_dict(), again.detector.state_dict()
    assert all(torch.equal(weights[name], weights_again[name]) for name in weights)
    assert one.history["train_loss"].tolist() != other.history["train_loss"].tolist()


def test_random_numbers_drawn_before_change_nothing(run: Callable[..., Fitted]) -> None:
    histories = []
    for drawn in (0, 5):
        torch.rand(drawn)
        histories.append(run(bright_and_dark(12), bright_and_dark(4, 100), epochs=1).history)
    pd.testing.assert_frame_equal(*histories, check_exact=True)


@pytest.mark.parametrize("patience", [1, 3])
def test_fitting_stops_when_validation_gets_no_better(patience: int, run: Callable[..., Fitted]) -> None:
    train, misleading = bright_and_dark(12), bright_and_dark(4, 100, swapped=True)
    fitted = run(train, misleading, epochs=12, patience=patience)
    assert fitted.history["is_best"].tolist() == [True] + [False] * patience
    assert fitted.history["epoch"].tolist() == list(range(patience + 1))
    assert fitted.images == 24 * patience


def test_best_epoch_is_kept(precision: str, run: Callable[..., Fitted]) -> None:
    train, misleading = bright_and_dark(12), bright_and_dark(4, 100, swapped=True)
    fitted = run(train, misleading, epochs=12, patience=2)
    tolerance = 1e-5 if precision == "float32" else 0.01
    nll = fitted.history["validation_nll"]
    assert nll.iloc[-1] > nll.min() + 5 * tolerance
    assert calibrated_nll(fitted, misleading) == pytest.approx(nll.min(), abs=tolerance)


def test_weights_between_checkpoint_and_fitted_are_kept_where_validation_is_better(run: Callable[..., Fitted]) -> None:
    train, misleading = bright_and_dark(12), bright_and_dark(4, 100, swapped=True)
    for validation, kept_frac in ((bright_and_dark(4, 100), 1.0), (misleading, 0.25)):
        ends = run(train, validation, epochs=2)
        between = run(train, validation, epochs=2, fitted_fracs=[0.25, 1.0])
        assert ends.history["fitted_frac"].tolist() == [1.0] * 3
        assert between.history["fitted_frac"].tolist() == [1.0, kept_frac, kept_frac]
        assert between.history["train_loss"].tolist()[1:] == ends.history["train_loss"].tolist()[1:]
        assert (between.history["validation_nll"] <= ends.history["validation_nll"]).all()


def test_shares_are_tried_downwards_until_the_nll_rises(
    run: Callable[..., Fitted], monkeypatch: pytest.MonkeyPatch
) -> None:
    interpolated: list[float] = []
    tried: list[float] = []
    nlls = {1.0: 0.5, 0.75: 0.4, 0.5: 0.45, 0.25: 0.1}

    def validate(*_args: object) -> dict[str, float]:
        tried.append(interpolated[-1])
        return {"validation_nll": nlls[tried[-1]], "validation_auroc": 0.5}

    def note(kept: Detector, initial: list[torch.Tensor], ema: Detector, fitted_frac: float) -> None:
        interpolated.append(fitted_frac)
        interpolate(kept, initial, ema, fitted_frac)

    monkeypatch.setattr("cygnet.model.training.fit._Fit._measure", validate)
    monkeypatch.setattr("cygnet.model.training.fit.interpolate", note)
    fitted = run(bright_and_dark(4), bright_and_dark(4, 100), epochs=1, fitted_fracs=[0.25, 0.75, 1.0, 0.5])
    assert tried == [1.0, 1.0, 0.75, 0.5]  # of epoch 0, and of epoch 1
    assert fitted.history["fitted_frac"].tolist() == [1.0, 0.75]


def test_interpolated_weights_lie_on_the_line(training: Training) -> None:
    start, end, kept = (load_detector(training) for _ in range(3))
    initial = [value.detach().clone() for value in start.parameters()]
    with torch.no_grad():
        for value in end.parameters():
            value.add_(1.0)
    interpolate(kept, initial, end, 0.25)
    assert all(torch.allclose(value, first + 0.25) for value, first in zip(kept.parameters(), initial, strict=True))
    interpolate(kept, initial, end, 1.0)
    assert all(torch.equal(value, last) for value, last in zip(kept.parameters(), end.parameters(), strict=True))


def test_epoch_0_is_the_checkpoint_as_it_came(run: Callable[..., Fitted]) -> None:
    history = run(bright_and_dark(4), bright_and_dark(4, 100), epochs=1).history
    assert history["epoch"].tolist() == [0, 1]
    assert history["validation_nll"][0] == pytest.approx(math.log(2))  # new heads know nothing
    assert math.isnan(history["train_loss"][0])


def test_validation_nll_weighs_the_classes_alike(settings: FitSettings, tmp_path: Path) -> None:
    both = bright_and_dark(8, 100)
    few = torch.cat([torch.arange(0, 16, 2), torch.tensor([1, 3])])  # 8 abnormal, 2 normal
    lopsided = Examples(both.images[few], both.labels[few], both.coverage[few], few.numpy(), "lopsided", PREPROCESSING)
    detector = load_detector(settings.training)
    detector.classifier.bias.data = torch.tensor([1.0, -1.0])  # right about most, wrong about the few
    one_epoch = dataclasses.replace(settings, training=settings.training.model_copy(update={"epochs": 1}))
    splits = Splits(bright_and_dark(4), lopsided)
    history = fit(detector, splits, one_epoch, StateStore(tmp_path), tmp_path).history
    entropy = np.log1p(np.exp(np.array([-2.0, 2.0]) / TEMPERATURE_BOUNDS[1]))
    assert history["validation_nll"][0] == pytest.approx(entropy.mean(), abs=0.01)


def test_overconfidence_alone_rejects_no_epoch(
    run: Callable[..., Fitted], settings: FitSettings, tmp_path: Path
) -> None:
    right, wrong = bright_and_dark(12, 100), bright_and_dark(4, 200, swapped=True)
    parts = [(right.images, wrong.images), (right.labels, wrong.labels), (right.coverage, wrong.coverage)]
    images, labels, coverage = (torch.cat(part) for part in parts)
    noisy = Examples(images, labels, coverage, np.arange(len(labels)), "noisy", PREPROCESSING)
    detector = run(bright_and_dark(12), noisy, epochs=2).detector
    nlls = []
    for factor in (4.0, 8.0):
        scaled = copy.deepcopy(detector)
        for value in (*scaled.classifier.parameters(), scaled.pooling):
            value.data *= factor
        one_epoch = dataclasses.replace(settings, training=settings.training.model_copy(update={"epochs": 1}))
        splits = Splits(bright_and_dark(4), noisy)
        history = fit(scaled, splits, one_epoch, StateStore(tmp_path), tmp_path).history
        nlls.append(history["validation_nll"][0])
    assert 0.3 < nlls[0] < math.log(2)
    assert nlls[1] == pytest.approx(nlls[0], abs=0.005)


@pytest.mark.usefixtures("precision")
def test_separable_classes_are_learned(run: Callable[..., Fitted]) -> None:
    validation = bright_and_dark(8, 100)
    fitted = run(bright_and_dark(24), validation, epochs=6)
    decided = probabilities(fitted, validation).argmax(axis=1)
    assert decided.tolist() == validation.labels.tolist()
    assert fitted.history["validation_nll"].min() < 0.1
    assert fitted.history["validation_auroc"].max() == 1


def test_a_fit_varies_by_the_policy(
    run: Callable[..., Fitted], settings: FitSettings, augmentation: Augmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def note(rng: np.random.Generator, image: np.ndarray, policy: object) -> np.ndarray:
        seen.append(policy)
        return vary_alone(rng, image, policy)

    monkeypatch.setattr("cygnet.model.training.loader.vary_alone", note)
    for policy in (augmentation.fixed_camera, augmentation.reference):
        seen.clear()
        chosen = dataclasses.replace(settings, policy=policy)
        run(bright_and_dark(8), bright_and_dark(4, 100), chosen, epochs=1, twins=True)
        assert {type(each) for each in seen} == {type(None), type(policy)}


def test_pairs_are_counted_among_the_images(run: Callable[..., Fitted]) -> None:
    fitted = run(bright_and_dark(12), bright_and_dark(4, 100), twins=True)
    assert fitted.images == 2 * (12 + 2 * 12)


@pytest.mark.parametrize("train_kinds", [{}, {"polygon": 0, "scar": 0}])
def test_without_a_kind_for_train_rows_come_alone(
    train_kinds: dict[str, int], settings: FitSettings, run: Callable[..., Fitted]
) -> None:
    kinds = settings.synthesis.kinds.model_copy(update={"train": train_kinds})
    labelled = dataclasses.replace(settings, synthesis=settings.synthesis.model_copy(update={"kinds": kinds}))
    fitted = run(bright_and_dark(12), bright_and_dark(4, 100), labelled, twins=True)
    assert fitted.images == 2 * 24


def test_what_rows_do_not_show_is_learned_from_pairs(settings: FitSettings, run: Callable[..., Fitted]) -> None:
    spots = drawing(settings.synthesis, "perlin", radius_frac=(0.2, 0.3), perlin_opacity=(1.0, 1.0))
    train, validation = bright_and_dark(24), spotted(24, spots)
    drawn = dataclasses.replace(settings, synthesis=spots)
    with_pairs, without = (run(train, validation, drawn, epochs=8, patience=8, twins=twins) for twins in (True, False))
    assert with_pairs.history["validation_nll"].min() < 0.5
    assert without.history["validation_nll"].min() > 0.6


class Killed(BaseException):
    """What a test raises in the middle of a fit."""


def with_dropout(folder: Path) -> str:
    """Save a checkpoint that drops tokens' values at random while it is fitted."""
    sizes = {"image_size": 32, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = ViTConfig(**sizes, intermediate_size=64, hidden_dropout_prob=0.2)
    torch.manual_seed(0)
    Detector(ViTModel(config, add_pooling_layer=False), PREPROCESSING).save(folder)
    return str(folder)


@contextmanager
def noting_epochs(monkeypatch: pytest.MonkeyPatch, killed_after: int | None = None) -> Iterator[list[int]]:
    """Give a list that grows by each epoch whose state is saved; kill the fit after one of them."""
    save, saved = StateStore.save, []

    def save_and_note(store: StateStore, key: str, state: dict[str, Any]) -> None:
        save(store, key, state)
        saved.append(state["history"][-1]["epoch"])
        if saved[-1] == killed_after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(StateStore, "save", save_and_note)
        yield saved


def assert_same(one: Fitted, other: Fitted) -> None:
    pd.testing.assert_frame_equal(one.history, other.history, check_exact=True)
    weights = other.detector.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in one.detector.state_dict().items())


@pytest.mark.usefixtures("precision")
@pytest.mark.parametrize("fitted", ["full", "last_blocks", "dropout"])
def test_killed_and_rerun_equals_undisturbed(
    fitted: str,
    run: Callable[..., Fitted],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = (bright_and_dark(12), bright_and_dark(4, 100))
    changes: dict[str, Any] = {"epochs": 4, "patience": 9, "average": 0.9, "twins": True, "small_vit": TWO_BLOCKS}
    if fitted == "dropout":
        changes |= {"checkpoint": with_dropout(tmp_path_factory.mktemp("checkpoint"))}
    else:
        changes |= {"fitted": fitted, "last_blocks": 1}
    undisturbed = run(*arguments, **changes)
    with noting_epochs(monkeypatch, killed_after=2) as saved, pytest.raises(Killed):
        run(*arguments, folder=tmp_path, **changes)
    assert saved == [0, 1, 2]
    with noting_epochs(monkeypatch) as saved:
        resumed = run(*arguments, folder=tmp_path, **changes)
    assert saved == [3, 4]
    assert_same(resumed, undisturbed)


def test_a_half_done_fit_survives_a_change_of_what_it_does_not_read(
    run: Callable[..., Fitted], settings: FitSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, changes = (bright_and_dark(12), bright_and_dark(4, 100)), {"epochs": 3, "patience": 9, "twins": True}
    undisturbed = run(*arguments, **changes)
    with noting_epochs(monkeypatch, killed_after=1), pytest.raises(Killed):
        run(*arguments, folder=tmp_path, **changes)
    for path, value in NOT_READ.items():
        settings = change(settings, path, value)
    with noting_epochs(monkeypatch) as saved:
        resumed = run(*arguments, settings, folder=tmp_path, **changes)
    assert saved == [2, 3]
    assert_same(resumed, undisturbed)


@pytest.mark.parametrize("fitted", ["full", "heads"])
def test_a_finished_fit_run_again_gives_the_same_at_once(
    fitted: str, run: Callable[..., Fitted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, misleading = bright_and_dark(12), bright_and_dark(4, 100, swapped=True)
    changes = {"epochs": 9, "patience": 1, "fitted": fitted}  # stops early
    finished = run(train, misleading, folder=tmp_path, **changes)
    assert len(finished.history) < 9

    def fail(*_: object) -> None:
        pytest.fail("it is computed again")

    for name in ("forward", "run_blocks", "finish"):
        monkeypatch.setattr(Detector, name, fail)
    again = run(train, misleading, folder=tmp_path, **changes)
    assert_same(again, finished)
    assert (again.seconds, again.images) == (finished.seconds, finished.images)
    assert not again.detector.training
    assert again.detector.backbone.config._attn_implementation == finished.detector.backbone.config._attn_implementation


@pytest.mark.parametrize("other", ["seed", "rows", "weights", "code"])
def test_state_of_another_fit_is_not_gone_on_from(
    other: str,
    run: Callable[..., Fitted],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, validation = bright_and_dark(12), bright_and_dark(4, 100)
    checkpoint = tmp_path_factory.mktemp("checkpoint")
    changes = {"seed": 5, "checkpoint": with_dropout(checkpoint)}
    expected = run(train, validation, **changes).history
    kept = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    with monkeypatch.context() as patch:
        if other == "weights":  # the checkpoint was made anew, under its name
            detector = Detector.load(checkpoint)
            torch.nn.init.normal_(detector.classifier.weight)
            detector.save(checkpoint)
        if other == "code":
            patch.setattr("cygnet.model.training.fit.code_digest", lambda: "other")
        others = bright_and_dark(11) if other == "rows" else train
        run(others, validation, folder=tmp_path, **(changes | ({"seed": 6} if other == "seed" else {})))
    for name, content in kept.items():
        (checkpoint / name).write_bytes(content)
    with noting_epochs(monkeypatch) as saved:
        fitted = run(train, validation, folder=tmp_path, **changes)
    assert saved == [0, 1, 2]
    pd.testing.assert_frame_equal(fitted.history, expected, check_exact=True)


def changed_parameters(before: Detector, after: Detector) -> set[str]:
    weights = before.state_dict()
    return {name for name, value in after.state_dict().items() if not torch.equal(value, weights[name])}


@pytest.mark.parametrize(("fitted", "parts"), [("heads", 0), ("last_blocks", 1)])
def test_frozen_blocks_stay_as_they_were(
    fitted: str, parts: int, run: Callable[..., Fitted], training: Training
) -> None:
    changes = {"fitted": fitted, "last_blocks": 1, "small_vit": TWO_BLOCKS}
    result = run(bright_and_dark(12), bright_and_dark(4, 100), epochs=3, **changes)
    changed = changed_parameters(load_detector(training.model_copy(update=changes)), result.detector)
    assert {"classifier.weight", "classifier.bias"} <= changed
    assert not any("embeddings" in name or "layers.0." in name for name in changed)
    assert any("layers.1." in name for name in changed) is (parts == 1)


def test_last_blocks_must_leave_a_block_to_freeze(run: Callable[..., Fitted]) -> None:
    with pytest.raises(UserError, match="last_blocks is 2, but the checkpoint has 2 blocks"):
        run(bright_and_dark(4), bright_and_dark(4, 100), fitted="last_blocks", last_blocks=2, small_vit=TWO_BLOCKS)


def test_reusing_what_frozen_blocks_give_changes_no_score(run: Callable[..., Fitted]) -> None:
    arguments = (bright_and_dark(12), bright_and_dark(4, 100))
    fitted = run(*arguments, fitted="last_blocks", last_blocks=1, small_vit=TWO_BLOCKS, epochs=4)
    assert calibrated_nll(fitted, arguments[1]) == pytest.approx(fitted.history["validation_nll"].min(), abs=0.02)


def test_less_memory_gives_smaller_batches_and_the_same_steps(
    run: Callable[..., Fitted], monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = []
    take = Examples.take

    def take_few(examples: Examples, places: torch.Tensor) -> Any:
        largest.append(len(places))
        if len(places) > 4:
            msg = "CUDA out of memory."
            raise RuntimeError(msg)
        return take(examples, places)

    arguments = (bright_and_dark(12), bright_and_dark(12, 100))
    undisturbed = run(*arguments, batch_size=24)
    monkeypatch.setattr(Examples, "take", take_few)
    bounded = run(*arguments, batch_size=24)
    assert largest[:4] == [12, 8, 6, 4]  # all divide 24; a processor takes 16 at most
    assert set(largest[4:]) == {4}
    np.testing.assert_allclose(bounded.history["validation_nll"], undisturbed.history["validation_nll"], atol=0.02)
