"""What fitting promises: repeatable, stopping in time, keeping the best epoch, and able to learn."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState

from cygnet.model.backbone import load_backbone
from cygnet.model.data import Examples
from cygnet.model.fit import Loss, class_weights, fit
from cygnet.model.fitted import Fitted
from cygnet.parameters import Training
from cygnet.tables import ABNORMAL, NORMAL
from toys import toy_image


@pytest.fixture(params=["float32", "bfloat16"])
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Fit in this precision, whatever the processor is good at."""
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr("cygnet.model.fit.has_bf16", lambda: request.param == "bfloat16")
    yield request.param
    AcceleratorState._reset_state(reset_partial_state=True)


def bright_and_dark(per_class: int, first_seed: int = 0, *, swapped: bool = False) -> Examples:
    """Bright images are abnormal and dark ones normal; the other way round if swapped."""
    labels = [ABNORMAL, NORMAL] * per_class
    images = [toy_image(label, first_seed + place, 32) for place, label in enumerate(labels)]
    coverage = [torch.full((2, 2), float("nan") if label == ABNORMAL else 0.0) for label in labels]
    named = torch.tensor(labels)
    return Examples(torch.from_numpy(np.stack(images)), 1 - named if swapped else named, torch.stack(coverage))


def run(training: Training, train: Examples, validation: Examples, **changes: object) -> Fitted:
    settings = training.model_copy(update={"batch_size": 8, "learning_rate": 3e-3, **changes})
    model, preprocessing = load_backbone(settings)
    return fit(model, preprocessing, train, validation, settings)


def probabilities(fitted: Fitted, examples: Examples) -> np.ndarray:
    """Softmax in float32 of the kept model, `(N, 2)`."""
    with torch.inference_mode():
        logits = fitted.model.eval()(pixel_values=fitted.preprocessing.normalise(examples.images)).logits
    return torch.softmax(logits.double(), dim=1).numpy()


@pytest.mark.usefixtures("precision")
def test_same_seed_gives_the_same_history_and_weights(training: Training) -> None:
    train, validation = bright_and_dark(12), bright_and_dark(4, 100)
    one, again, other = (
        run(training, train, validation, epochs=2, seed=seed) for seed in (training.seed, training.seed, 9)
    )
    pd.testing.assert_frame_equal(one.history, again.history, check_exact=True)
    weights, weights_again = one.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(weights[name], weights_again[name]) for name in weights)
    assert one.history["train_loss"].tolist() != other.history["train_loss"].tolist()


def test_random_numbers_drawn_before_change_nothing(training: Training) -> None:
    train, validation = bright_and_dark(12), bright_and_dark(4, 100)
    histories = []
    for drawn in (0, 5):
        model, preprocessing = load_backbone(training)
        torch.rand(drawn)
        settings = training.model_copy(update={"epochs": 1, "batch_size": 8})
        histories.append(fit(model, preprocessing, train, validation, settings).history)
    pd.testing.assert_frame_equal(*histories, check_exact=True)


@pytest.mark.parametrize("patience", [1, 3])
def test_fitting_stops_when_validation_gets_no_better(patience: int, training: Training) -> None:
    train, misleading = bright_and_dark(12), bright_and_dark(4, 100, swapped=True)
    fitted = run(training, train, misleading, epochs=12, patience=patience)
    assert fitted.history["is_best"].tolist() == [True] + [False] * patience
    assert fitted.history["epoch"].tolist() == list(range(1, patience + 2))
    assert fitted.images == 24 * (patience + 1)


def test_best_epoch_is_kept(precision: str, training: Training) -> None:
    train, misleading = bright_and_dark(12), bright_and_dark(4, 100, swapped=True)
    fitted = run(training, train, misleading, epochs=12, patience=2)
    tolerance = 1e-5 if precision == "float32" else 0.02
    nll = fitted.history["validation_nll"]
    assert nll.iloc[-1] > nll.min() + 5 * tolerance
    chosen = probabilities(fitted, misleading)[np.arange(8), misleading.labels.numpy()]
    assert -np.log(chosen).mean() == pytest.approx(nll.min(), abs=tolerance)


def test_validation_nll_weighs_the_classes_alike(training: Training) -> None:
    both = bright_and_dark(8, 100)
    few = torch.cat([torch.arange(0, 16, 2), torch.tensor([1, 3])])  # 8 abnormal, 2 normal
    lopsided = Examples(both.images[few], both.labels[few], both.coverage[few])
    settings = training.model_copy(update={"epochs": 1, "learning_rate": 1e-6})
    model, preprocessing = load_backbone(settings)
    model.classifier.bias.data = torch.tensor([1.0, -1.0])  # right about most, wrong about the few
    fitted = fit(model, preprocessing, bright_and_dark(4), lopsided, settings)
    losses = -np.log(probabilities(fitted, lopsided)[np.arange(10), lopsided.labels.numpy()])
    expected = (losses[:8].mean() + losses[8:].mean()) / 2
    assert fitted.history["validation_nll"].iloc[0] == pytest.approx(expected, abs=0.02)


@pytest.mark.usefixtures("precision")
def test_separable_classes_are_learned(training: Training) -> None:
    validation = bright_and_dark(8, 100)
    fitted = run(training, bright_and_dark(24), validation, epochs=6)
    decided = probabilities(fitted, validation).argmax(axis=1)
    assert decided.tolist() == validation.labels.tolist()
    assert fitted.history["validation_nll"].min() < 0.1


def test_learning_rate_warms_up_and_decays_to_zero(training: Training) -> None:
    fitted = run(training, bright_and_dark(4), bright_and_dark(4), epochs=4, warmup_frac=0.5, learning_rate=1e-3)
    assert fitted.history["learning_rate"].tolist() == pytest.approx([5e-4, 1e-3, 5e-4, 0])


def test_classes_weigh_by_inverse_frequency() -> None:
    labels = torch.tensor([ABNORMAL] * 30 + [NORMAL] * 10)
    weights = class_weights(labels)
    assert weights.tolist() == pytest.approx([40 / 60, 40 / 20])
    assert weights[labels].mean().item() == pytest.approx(1)


def test_loss_is_the_weighted_entropy_plus_that_of_known_patches() -> None:
    logits = torch.tensor([[1.0, -0.5], [0.25, 2.0]])
    patch_logits = torch.tensor([[[0.5, -1.0], [2.0, 3.0]], [[9.0, 9.0], [9.0, 9.0]]])
    coverage = torch.tensor([[[0.0, 0.125], [0.25, 1.0]], [[float("nan")] * 2] * 2])
    labels = torch.tensor([ABNORMAL, NORMAL])
    loss = Loss(torch.tensor([2.0, 0.5]), patch_loss_weight=5.0)(logits, patch_logits, labels, coverage)

    entropy = np.log1p(np.exp([-0.5 - 1.0, 0.25 - 2.0]))
    image_loss = (2.0 * entropy[0] + 0.5 * entropy[1]) / 2.5
    patches, targets = np.array([0.5, -1.0, 2.0, 3.0]), np.array([0, 0.5, 1, 1])
    patch_loss = np.mean(20 * targets * np.log1p(np.exp(-patches)) + (1 - targets) * np.log1p(np.exp(patches)))
    assert loss.item() == pytest.approx(image_loss + 5 * patch_loss, rel=1e-6)


def test_loss_without_any_known_patch_is_that_of_the_images() -> None:
    logits, labels = torch.tensor([[1.0, -0.5]]), torch.tensor([ABNORMAL])
    unknown = torch.full((1, 2, 2), float("nan"))
    patch_logits = torch.zeros(1, 2, 2, requires_grad=True)
    loss = Loss(torch.ones(2), patch_loss_weight=5.0)(logits, patch_logits, labels, unknown)
    loss.backward()
    assert loss.item() == pytest.approx(np.log1p(np.exp(-1.5)), rel=1e-6)
    assert patch_logits.grad is not None
    assert patch_logits.grad.abs().max() == 0
