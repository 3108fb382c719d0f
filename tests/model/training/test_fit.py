"""What fitting promises: repeatable, stopping in time, keeping the best epoch, and able to learn."""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from torch.utils.data import DataLoader
from transformers import ViTConfig, ViTModel

from cygnet.errors import UserError
from cygnet.model.evaluation.calibrate import TEMPERATURE_BOUNDS, fit_temperature, negative_log_likelihood
from cygnet.model.network.backbone import load_detector
from cygnet.model.network.detector import Detector
from cygnet.model.network.preprocessing import Preprocessing
from cygnet.model.training.examples import Examples, batch_of_twins
from cygnet.model.training.fit import (
    FitSettings,
    PairedSynthesis,
    Splits,
    _Rows,
    class_weights,
    fetching_processes,
    fit,
    interpolate,
)
from cygnet.model.training.results import Fitted
from cygnet.model.training.resume import Checkpoints
from cygnet.parameters.augmentation import Augmentation
from cygnet.parameters.base import Parameters
from cygnet.parameters.synthesis import Synthesis
from cygnet.parameters.training import SmallViT, Training
from cygnet.tables import ABNORMAL, NORMAL
from cygnet.vision.codec import decode_image, encode_jpeg
from cygnet.vision.rng import generator
from cygnet.vision.transforms import select_policy
from cygnet.vision.twins import PROCEDURAL, draw_as_synthesis, make_twins, vary_alone
from support.toys import ramps, slopes_of, toy_image

PREPROCESSING = Preprocessing(32)
TWO_BLOCKS = SmallViT(image_size_px=32, patch_size_px=16, hidden_size=32, layers=2, heads=2)


@pytest.fixture(params=["float32", "bfloat16"])
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Fit in this precision, whatever the processor is good at."""
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr("cygnet.model.training.fit.has_bf16", lambda: request.param == "bfloat16")
    yield request.param
    AcceleratorState._reset_state(reset_partial_state=True)


def bright_and_dark(per_class: int, first_seed: int = 0, *, swapped: bool = False) -> Examples:
    """Bright images are abnormal and dark ones normal; the other way round if swapped."""
    labels = [ABNORMAL, NORMAL] * per_class
    images = [toy_image(label, first_seed + place, 32) for place, label in enumerate(labels)]
    coverage = [torch.full((2, 2), float("nan") if label == ABNORMAL else 0.0) for label in labels]
    named = torch.tensor(labels)
    return Examples(
        torch.from_numpy(np.stack(images)),
        1 - named if swapped else named,
        torch.stack(coverage),
        np.arange(len(labels)),
        f"{per_class} {first_seed} {swapped}",
        PREPROCESSING,
    )


@pytest.fixture
def synthesis(parameters: dict[str, Parameters]) -> Synthesis:
    """Give synthesis of conf/base."""
    synthesis: Synthesis = parameters["synthesis"]
    return synthesis


@pytest.fixture
def augmentation(parameters: dict[str, Parameters]) -> Augmentation:
    """Give augmentation of conf/base."""
    augmentation: Augmentation = parameters["augmentation"]
    return augmentation


@pytest.fixture
def rows_of(synthesis: Synthesis, augmentation: Augmentation) -> Callable[..., _Rows]:
    """Give a maker of the rows that a fit on some examples fetches."""

    def make(examples: Examples, synthesis: Synthesis = synthesis, augmentation: Augmentation = augmentation) -> _Rows:
        return _Rows(examples, PairedSynthesis(synthesis, select_policy(augmentation), seed=1))

    return make


def drawing(synthesis: Synthesis, kind: str, **spots: object) -> Synthesis:
    """Draw this kind alone on train, in other spots."""
    kinds = synthesis.kinds.model_copy(update={"train": {kind: 1}})
    return synthesis.model_copy(update={"kinds": kinds, "spots": synthesis.spots.model_copy(update=spots)})


def spotted(per_class: int, synthesis: Synthesis) -> Examples:
    """Dark images, and their twins with anomalies."""
    images = [toy_image(NORMAL, 500 + place, 32) for place in range(per_class)]
    drawn = [
        make_twins(generator(place), image, draw_as_synthesis(synthesis, image), PROCEDURAL)
        for place, image in enumerate(images)
    ]
    images, labels, coverage = batch_of_twins([pair for pair in drawn if pair], PREPROCESSING, 2)
    return Examples(images.flip(3), labels, coverage, np.arange(len(labels)), "spotted", PREPROCESSING)


@pytest.fixture
def settings(training: Training, synthesis: Synthesis, augmentation: Augmentation) -> FitSettings:
    """Give settings of a fit on little."""
    changes = {"batch_size": 8, "learning_rate": 3e-3, "layer_decay": 1.0, "epochs": 2}
    return FitSettings(training.model_copy(update=changes), synthesis, augmentation)


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
        return fit(load_detector(changed.training), Splits(train, validation), changed, Checkpoints(place), place)

    return fit_on


def probabilities(fitted: Fitted, examples: Examples) -> np.ndarray:
    """Softmax in float32 of the kept detector, `(N, 2)`."""
    with torch.inference_mode():
        logits, _ = fitted.detector.eval()(examples.take(torch.arange(len(examples.labels)))[0])
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

    def note(kept: Detector, initial: list[torch.Tensor], average: Detector, fitted_frac: float) -> None:
        interpolated.append(fitted_frac)
        interpolate(kept, initial, average, fitted_frac)

    monkeypatch.setattr("cygnet.model.training.fit._Fit._validate", validate)
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
    history = fit(detector, splits, one_epoch, Checkpoints(tmp_path), tmp_path).history
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
        for value in scaled.classifier.parameters():
            value.data *= factor
        one_epoch = dataclasses.replace(settings, training=settings.training.model_copy(update={"epochs": 1}))
        splits = Splits(bright_and_dark(4), noisy)
        history = fit(scaled, splits, one_epoch, Checkpoints(tmp_path), tmp_path).history
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


def test_normal_rows_come_as_twins_drawn_afresh_in_every_epoch(rows_of: Callable[..., _Rows]) -> None:
    rows = rows_of(bright_and_dark(2))
    batches = []
    for epoch in (1, 2, 1):
        rows.epoch.fill_(epoch)
        images, labels, coverage = rows.__getitems__([0, 1, 3])  # abnormal, normal, normal
        assert labels.tolist() == [NORMAL, ABNORMAL, NORMAL, ABNORMAL, ABNORMAL]
        assert (coverage[[0, 2]] == 0).all()
        assert (coverage[[1, 3]].amax(dim=(1, 2)) > 0).all()
        assert coverage[4].isnan().all()
        assert all(not torch.equal(images[place], images[place + 1]) for place in (0, 2))
        batches.append(images)
    assert torch.equal(batches[0], batches[2])
    assert not torch.equal(batches[0], batches[1])


def test_processes_fetch_the_same_rows_in_every_epoch(
    rows_of: Callable[..., _Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cygnet.model.training.fit.core_count", lambda: 3)
    threads = cv2.getNumThreads()
    settings = fetching_processes()
    assert settings["num_workers"] == 2
    rows = rows_of(bright_and_dark(4))
    loader = DataLoader(rows, batch_size=2, collate_fn=lambda batch: batch, **settings)
    fetched = []
    for epoch in (1, 2):
        rows.epoch.fill_(epoch)
        fetched.append(list(loader))
    cv2.setNumThreads(threads)
    for epoch, batches in zip((1, 2), fetched, strict=True):
        rows.epoch.fill_(epoch)
        assert len(batches) == 4
        for place, batch in enumerate(batches):
            expected = rows.__getitems__([2 * place, 2 * place + 1])
            assert all(torch.equal(*parts) for parts in zip(batch[:2], expected[:2], strict=True))


def test_a_mask_is_forgotten_where_the_anomaly_was_moved(rows_of: Callable[..., _Rows]) -> None:
    examples = bright_and_dark(1)
    examples.coverage[0] = 0.5
    rows = rows_of(examples)
    plain = [encode_jpeg(examples.images[0].numpy(), quality) for quality in range(60, 99)]
    as_encoded = [examples.preprocessing.resize(decode_image(each)).tobytes() for each in plain]
    seen = set()
    for epoch in range(12):
        rows.epoch.fill_(epoch)
        images, _, coverage = rows.__getitems__([0])
        is_varied = images[0].numpy().tobytes() not in as_encoded
        assert coverage.isnan().all() if is_varied else (coverage == 0.5).all()
        seen.add(is_varied)
    assert seen == {False, True}


def test_rows_that_come_alone_are_varied_and_encoded_as_twins_are(
    synthesis: Synthesis, rows_of: Callable[..., _Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the encoding would tell them from the twins' normal images, and so the classes apart."""
    encoded: list[bytes] = []

    def encode(image: np.ndarray, quality: int) -> bytes:
        encoded.append(encode_jpeg(image, quality))
        return encoded[-1]

    monkeypatch.setattr("cygnet.vision.twins.encode_jpeg", encode)
    examples = bright_and_dark(2)
    examples.images[1] = 128  # nothing shows when it is blurred
    rows = rows_of(examples, drawing(synthesis, "blur"))
    for row, label in ((0, ABNORMAL), (1, NORMAL)):
        encoded.clear()
        images, labels, coverage = rows.__getitems__([row])
        assert labels.tolist() == [label]
        assert coverage.isnan().all() if label == ABNORMAL else not coverage.any()
        assert len(encoded) == 1
        assert (images[0].flip(2).numpy() == decode_image(encoded[0])).all()
        plain = [encode_jpeg(examples.images[row].numpy(), quality) for quality in range(60, 99)]
        is_plain = set()
        for epoch in range(12):
            rows.epoch.fill_(epoch)
            encoded.clear()
            rows.__getitems__([row])
            is_plain.add(encoded[0] in plain)
        assert is_plain == {False, True}


def test_a_donor_is_another_frame_where_there_is_one(
    rows_of: Callable[..., _Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    donors: list[np.ndarray] = []

    def note(synthesis: Synthesis, donor: np.ndarray) -> Any:
        donors.append(donor)
        return draw_as_synthesis(synthesis, donor)

    monkeypatch.setattr("cygnet.model.training.fit.draw_as_synthesis", note)
    examples = bright_and_dark(4)
    for frames, own in ((np.array([0, 0, 1, 1, 2, 0, 3, 2]), {1, 5}), (np.zeros(8, int), set())):
        rows = rows_of(dataclasses.replace(examples, frames=frames))
        donors.clear()
        for epoch in range(20):
            rows.epoch.fill_(epoch)
            rows.__getitems__([1])
        seen = {place for place in rows.normal for donor in donors if (examples.images[place].numpy() == donor).all()}
        assert seen == set(rows.normal.tolist()) - own


def all_ramps() -> Examples:
    """Four images that show how they were moved: abnormal ones and normal ones, of 256 px as in the table."""
    labels = torch.tensor([ABNORMAL, NORMAL, ABNORMAL, NORMAL])
    images = torch.from_numpy(np.stack([ramps(256)] * 4))
    return Examples(images, labels, torch.zeros(4, 16, 16), np.arange(4), "ramps", Preprocessing(256))


def moves(rows: _Rows) -> np.ndarray:
    """How all that a fit sees of `all_ramps` in eight epochs was moved: `(N, 2, 2)`, see `slopes_of`."""
    found = []
    for epoch in range(1, 9):
        rows.epoch.fill_(epoch)
        images, _, coverage = rows.__getitems__([0, 1, 2, 3])
        for image, covered in zip(images.flip(3).numpy(), coverage.nan_to_num().numpy(), strict=True):
            is_anomaly = cv2.dilate((covered > 0).astype(np.uint8), np.ones((3, 3), np.uint8))
            is_free = cv2.resize(is_anomaly, (256, 256), interpolation=cv2.INTER_NEAREST) == 0
            found.append(slopes_of(image, 0.45, is_free))
    return np.array(found)


def with_preset(augmentation: Augmentation, preset: str, **changes: object) -> Augmentation:
    """Select a preset, some of its values changed."""
    changed = getattr(augmentation, preset).model_copy(update=changes)
    return augmentation.model_copy(update={"preset": preset, preset: changed})


def test_with_fixed_camera_nothing_that_a_fit_sees_is_flipped_turned_or_sheared(
    synthesis: Synthesis, augmentation: Augmentation, rows_of: Callable[..., _Rows]
) -> None:
    camera = with_preset(augmentation, "fixed_camera")
    slopes = moves(rows_of(all_ramps(), drawing(synthesis, "polygon"), camera))
    assert len(slopes) == 8 * 6
    exposures = slopes[:, 0, 0]
    assert np.ptp(exposures) > 0.1  # they do vary
    np.testing.assert_allclose(slopes, exposures[:, None, None] * np.eye(2), atol=0.05)


@pytest.mark.parametrize(("horizontal", "vertical"), [(False, False), (True, False), (False, True)])
def test_with_reference_a_fit_flips_only_what_the_table_may(
    horizontal: bool,
    vertical: bool,
    synthesis: Synthesis,
    augmentation: Augmentation,
    rows_of: Callable[..., _Rows],
) -> None:
    flips = {"horizontal_flip": horizontal, "vertical_flip": vertical}
    reference = with_preset(augmentation, "reference", **flips, affine_probability=1e-9)
    slopes = moves(rows_of(all_ramps(), drawing(synthesis, "polygon"), reference))
    assert bool((slopes[:, 0, 0] < 0).any()) is horizontal
    assert bool((slopes[:, 1, 1] < 0).any()) is vertical
    assert np.abs(slopes[:, [0, 1], [1, 0]]).max() < 0.1


def test_a_fit_varies_by_the_preset(
    run: Callable[..., Fitted], settings: FitSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def note(rng: np.random.Generator, image: np.ndarray, policy: object) -> np.ndarray:
        seen.append(policy)
        return vary_alone(rng, image, policy)

    monkeypatch.setattr("cygnet.model.training.fit.vary_alone", note)
    for preset in ("fixed_camera", "reference"):
        seen.clear()
        chosen = dataclasses.replace(settings, augmentation=with_preset(settings.augmentation, preset))
        run(bright_and_dark(8), bright_and_dark(4, 100), chosen, epochs=1, twins=True)
        assert {type(policy) for policy in seen} == {type(None), type(getattr(settings.augmentation, preset))}


def test_twins_are_counted_among_the_images(run: Callable[..., Fitted]) -> None:
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


def test_what_rows_do_not_show_is_learned_from_twins(settings: FitSettings, run: Callable[..., Fitted]) -> None:
    spots = drawing(settings.synthesis, "perlin", radius_frac=(0.2, 0.3), perlin_opacity=(1.0, 1.0))
    train, validation = bright_and_dark(24), spotted(24, spots)
    drawn = dataclasses.replace(settings, synthesis=spots)
    with_twins, without = (run(train, validation, drawn, epochs=8, patience=8, twins=twins) for twins in (True, False))
    assert with_twins.history["validation_nll"].min() < 0.5
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
    save, saved = Checkpoints.save, []

    def save_and_note(checkpoints: Checkpoints, key: str, state: dict[str, Any]) -> None:
        save(checkpoints, key, state)
        saved.append(state["history"][-1]["epoch"])
        if saved[-1] == killed_after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_note)
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


def change(settings: FitSettings, path: str, value: object) -> FitSettings:
    """Change one parameter, named as in `--params`."""
    group, *names = path.split(".")
    values = getattr(settings, group).model_dump()
    inner = values
    for name in names[:-1]:
        inner = inner[name]
    inner[names[-1]] = value
    changed = type(getattr(settings, group)).model_validate(values)
    return dataclasses.replace(settings, **{group: changed})


NOT_READ: dict[str, Any] = {
    "training.threshold.rule": "target_fpr",
    "training.evaluation.resamples": 500,
    "training.last_blocks": 3,
    "synthesis.kinds.test": {"polygon": 7},
    "synthesis.kinds.validation": {"polygon": 7},
    "synthesis.seeds.test": 9,
    "augmentation.seed": 9,
    "augmentation.counts.normal": 9,
    "augmentation.fixed_camera.shift_px": 9.0,
}
"""What changes no weight by itself: what it does to the rows shows in their fingerprint."""


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


@pytest.mark.parametrize(("path", "value"), NOT_READ.items())
def test_the_key_of_a_fit_leaves_out_what_fitting_does_not_read(
    path: str, value: object, settings: FitSettings
) -> None:
    settings = change(settings, "training.twins", True)
    assert change(settings, path, value) != settings
    assert change(settings, path, value).key() == settings.key()


@pytest.mark.parametrize(
    ("path", "value", "is_read_without_pairs"),
    [
        ("training.learning_rate", 0.5, True),
        ("training.epochs", 7, True),
        ("training.fitted", "heads", True),
        ("training.small_vit.layers", 2, True),
        ("training.image_size_px", 64, True),
        ("synthesis.kinds.train", {"scar": 1}, False),
        ("synthesis.severity", (0.5, 1.0), False),
        ("synthesis.spots.spots", (1, 9), False),
        ("augmentation.preset", "fixed_camera", False),
        ("augmentation.reference.affine_shear", 0.1, False),
    ],
)
def test_the_key_of_a_fit_has_what_fitting_reads(
    path: str, value: object, is_read_without_pairs: bool, settings: FitSettings
) -> None:
    for twins, is_read in ((True, True), (False, is_read_without_pairs)):
        before = change(settings, "training.twins", twins)
        assert (change(before, path, value).key() != before.key()) is is_read


@pytest.mark.parametrize("fitted", ["full"])
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
    with pytest.raises(UserError, match="last_blocks is 2, and the checkpoint has 2 blocks"):
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


def test_classes_weigh_by_inverse_frequency() -> None:
    labels = torch.tensor([ABNORMAL] * 30 + [NORMAL] * 10)
    weights = class_weights(labels)
    assert weights.tolist() == pytest.approx([40 / 60, 40 / 20])
    assert weights[labels].mean().item() == pytest.approx(1)
