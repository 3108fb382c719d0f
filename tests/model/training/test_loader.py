"""What the rows of a fit promise: pairs drawn afresh, everything varied alike, and nothing that the preset forbids."""

import dataclasses
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from cygnet.model.network.preprocessing import Preprocessing
from cygnet.model.training.examples import Examples
from cygnet.model.training.loader import TrainingRows, worker_processes
from cygnet.model.training.settings import PairedSynthesis
from cygnet.parameters.augmentation import Augmentation
from cygnet.parameters.synthesis import Synthesis
from cygnet.tables import ABNORMAL, NORMAL
from cygnet.vision.codec import decode_image, encode_jpeg, encode_png
from cygnet.vision.paired_synthesis import draw_as_synthesis
from cygnet.vision.transforms import select_policy
from support.fits import bright_and_dark, drawing, with_preset
from support.toys import ramps, slopes_of


@pytest.fixture
def rows_of(synthesis: Synthesis, augmentation: Augmentation) -> Callable[..., TrainingRows]:
    """Give a maker of the rows that a fit on some examples fetches."""

    def make(
        examples: Examples, synthesis: Synthesis = synthesis, augmentation: Augmentation = augmentation
    ) -> TrainingRows:
        return TrainingRows(examples, PairedSynthesis(synthesis, select_policy(augmentation, "moving"), seed=1))

    return make


def test_normal_rows_come_as_pairs_drawn_afresh_in_every_epoch(rows_of: Callable[..., TrainingRows]) -> None:
    rows = rows_of(bright_and_dark(2))
    batches = []
    for epoch in (1, 2, 1):
        rows.set_epoch(epoch)
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
    rows_of: Callable[..., TrainingRows], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cygnet.model.training.loader.core_count", lambda: 3)
    threads = cv2.getNumThreads()
    settings = worker_processes()
    assert settings["num_workers"] == 2
    rows = rows_of(bright_and_dark(4))
    loader = DataLoader(rows, batch_size=2, collate_fn=lambda batch: batch, **settings)
    fetched = []
    for epoch in (1, 2):
        rows.set_epoch(epoch)
        fetched.append(list(loader))
    cv2.setNumThreads(threads)
    for epoch, batches in zip((1, 2), fetched, strict=True):
        rows.set_epoch(epoch)
        assert len(batches) == 4
        for place, batch in enumerate(batches):
            expected = rows.__getitems__([2 * place, 2 * place + 1])
            assert all(torch.equal(*parts) for parts in zip(batch[:2], expected[:2], strict=True))


def test_a_mask_is_forgotten_where_the_anomaly_was_moved(rows_of: Callable[..., TrainingRows]) -> None:
    examples = bright_and_dark(1)
    examples.coverage[0] = 0.5
    rows = rows_of(examples)
    plain = [encode_jpeg(examples.images[0].numpy(), quality) for quality in range(60, 99)]
    as_encoded = [examples.preprocessing.resize(decode_image(each)).tobytes() for each in plain]
    seen = set()
    for epoch in range(12):
        rows.set_epoch(epoch)
        images, _, coverage = rows.__getitems__([0])
        is_varied = images[0].numpy().tobytes() not in as_encoded
        assert coverage.isnan().all() if is_varied else (coverage == 0.5).all()
        seen.add(is_varied)
    assert seen == {False, True}


def test_rows_that_come_alone_are_varied_and_encoded_as_pairs_are(
    synthesis: Synthesis, rows_of: Callable[..., TrainingRows], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the encoding would tell them from the pairs' normal images, and so the classes apart."""
    encoded: list[bytes] = []

    def encode(image: np.ndarray, quality: int) -> bytes:
        encoded.append(encode_jpeg(image, quality))
        return encoded[-1]

    monkeypatch.setattr("cygnet.vision.paired_synthesis.encode_jpeg", encode)
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
            rows.set_epoch(epoch)
            encoded.clear()
            rows.__getitems__([row])
            is_plain.add(encoded[0] in plain)
        assert is_plain == {False, True}


def test_a_donor_is_another_frame_where_there_is_one(
    rows_of: Callable[..., TrainingRows], monkeypatch: pytest.MonkeyPatch
) -> None:
    donors: list[np.ndarray] = []

    def note(synthesis: Synthesis, donor: np.ndarray) -> Any:
        donors.append(donor)
        return draw_as_synthesis(synthesis, donor)

    monkeypatch.setattr("cygnet.model.training.loader.draw_as_synthesis", note)
    examples = bright_and_dark(4)
    for frames, own in ((np.array([0, 0, 1, 1, 2, 0, 3, 2]), {1, 5}), (np.zeros(8, int), set())):
        rows = rows_of(dataclasses.replace(examples, frames=frames))
        donors.clear()
        for epoch in range(20):
            rows.set_epoch(epoch)
            rows.__getitems__([1])
        seen = {place for place in rows.normal for donor in donors if (examples.images[place].numpy() == donor).all()}
        assert seen == set(rows.normal.tolist()) - own


def all_ramps() -> Examples:
    """Four images that show how they were moved: abnormal ones and normal ones, of 256 px as in the table."""
    labels = torch.tensor([ABNORMAL, NORMAL, ABNORMAL, NORMAL])
    images = torch.from_numpy(np.stack([ramps(256)] * 4))
    return Examples(images, labels, torch.zeros(4, 16, 16), np.arange(4), "ramps", Preprocessing(256))


def moves(rows: TrainingRows) -> np.ndarray:
    """How all that a fit sees of `all_ramps` in eight epochs was moved: `(N, 2, 2)`, see `slopes_of`."""
    found = []
    for epoch in range(1, 9):
        rows.set_epoch(epoch)
        images, _, coverage = rows.__getitems__([0, 1, 2, 3])
        for image, covered in zip(images.flip(3).numpy(), coverage.nan_to_num().numpy(), strict=True):
            is_anomaly = cv2.dilate((covered > 0).astype(np.uint8), np.ones((3, 3), np.uint8))
            is_free = cv2.resize(is_anomaly, (256, 256), interpolation=cv2.INTER_NEAREST) == 0
            found.append(slopes_of(image, 0.45, is_free))
    return np.array(found)


def test_with_fixed_camera_nothing_that_a_fit_sees_is_flipped_turned_or_sheared(
    synthesis: Synthesis, augmentation: Augmentation, rows_of: Callable[..., TrainingRows]
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
    rows_of: Callable[..., TrainingRows],
) -> None:
    flips = {"horizontal_flip": horizontal, "vertical_flip": vertical}
    reference = with_preset(augmentation, "reference", **flips, affine_probability=1e-9)
    slopes = moves(rows_of(all_ramps(), drawing(synthesis, "polygon"), reference))
    assert bool((slopes[:, 0, 0] < 0).any()) is horizontal
    assert bool((slopes[:, 1, 1] < 0).any()) is vertical
    assert np.abs(slopes[:, [0, 1], [1, 0]]).max() < 0.1


def test_twins_have_their_anomaly_in_the_area_of_their_image(
    rows_of: Callable[..., TrainingRows],
) -> None:
    top = np.zeros((256, 256), np.uint8)
    top[:96] = 255
    examples = dataclasses.replace(all_ramps(), areas=[None, encode_png(top), None, None])
    rows = rows_of(examples)
    seen = 0
    for epoch in range(12):
        rows.set_epoch(epoch)
        images, labels, coverage = rows.__getitems__([1])
        if len(labels) == 2:
            seen += 1
            moved = slopes_of(images[0].numpy()[..., ::-1])
            assert coverage[1].sum() > 0
            if np.allclose(moved, np.eye(2), atol=0.02):  # not varied, or by a shift alone
                assert not coverage[1, 8:].any()
    assert seen > 6
