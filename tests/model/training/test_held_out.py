"""What the measuring of a pretrained detector promises: drawn images apart from training's, and the right figures."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from cygnet.anomaly_kinds import SEEN_KINDS
from cygnet.model.network.detector import Detector
from cygnet.model.training import held_out
from cygnet.model.training.held_out import MEASURED_KINDS, as_shipped, held_out_pairs, measure, swan_pairs
from cygnet.parameters.pretraining import Pretraining
from cygnet.parameters.training import SmallViT
from cygnet.tables import IMAGE_SIZE_PX
from support.toys import toy_detector

VIT = SmallViT(image_size_px=64, patch_size_px=16, hidden_size=32, layers=1, heads=2)


@pytest.fixture
def settings(parameters: dict[str, Pretraining]) -> Pretraining:
    """Give settings of a few small images."""
    changes = {"vit": VIT, "held_out_images": 36, "swan_frames": 2}
    return parameters["pretraining"].model_copy(update=changes)


@pytest.fixture
def detector() -> Detector:
    """Give a detector that was never fitted, with heads that say something."""
    return toy_detector(VIT)


def test_every_kind_is_measured_the_unseen_ones_too(settings: Pretraining) -> None:
    kinds = [kind for kind, _ in held_out_pairs(settings)]
    assert kinds == [*MEASURED_KINDS, *MEASURED_KINDS, *MEASURED_KINDS][:18]
    assert set(MEASURED_KINDS) - set(SEEN_KINDS) == {"blend", "blur", "shift"}


def test_scenes_are_made_of_the_held_out_textures_alone(settings: Pretraining, monkeypatch: pytest.MonkeyPatch) -> None:
    textures = []

    def draw(rng: object, size_px: int, ease: float, _synthesis: object, names: list[str]) -> tuple[np.ndarray, ...]:
        assert (size_px, ease) == (IMAGE_SIZE_PX, 0)
        textures.extend(names)
        return ()

    monkeypatch.setattr(held_out, "draw_pair", draw)
    list(held_out_pairs(settings))
    assert set(textures) == {"bricks"}


def test_pairs_are_the_same_every_time(settings: Pretraining) -> None:
    for pairs in (held_out_pairs, lambda settings: swan_pairs(settings, 0.4)):
        once, again = ([(kind, [part.tobytes() for part in pair]) for kind, pair in pairs(settings)] for _ in "ab")
        assert once == again
        assert len({parts[0] for _, parts in once}) == len(once)


def test_figures_are_those_of_the_logits(detector: Detector, settings: Pretraining) -> None:
    pairs = list(held_out_pairs(settings))
    measured = measure(detector, iter(pairs))
    seen = [pair for kind, pair in pairs if kind in SEEN_KINDS]
    resize = detector.preprocessing.resize
    images = np.stack([resize(image) for normal, abnormal, _ in seen for image in (normal, abnormal)])
    with torch.inference_mode():
        logits, patch_logits, _ = (part.double().numpy() for part in detector(torch.from_numpy(images)))
    is_abnormal = np.tile([0, 1], len(seen))
    scores = np.exp(logits[:, 0]) / np.exp(logits).sum(axis=1)
    masks = np.stack([mask if abnormal else 0 * mask for _, _, mask in seen for abnormal in (0, 1)]) / 255
    coverage = masks.reshape(-1, 4, 64, 4, 64).mean(axis=(2, 4))
    known = (coverage == 0) | (coverage >= 0.1)
    assert measured["pairs"] == len(seen)
    assert measured["auroc"] == pytest.approx(roc_auc_score(is_abnormal, scores))
    assert measured["nll"] == pytest.approx(-np.log(np.where(is_abnormal, scores, 1 - scores)).mean(), abs=1e-5)
    precision = average_precision_score(coverage[known] > 0, patch_logits[known])
    assert measured["patch_average_precision"] == pytest.approx(precision, abs=0.02)  # coverage is rounded to 1/255
    assert sum(row["pairs"] for row in measured["by_kind"].values()) == len(pairs)
    assert list(measured["by_kind"]) == sorted(MEASURED_KINDS)


def test_without_an_abnormal_patch_there_is_no_precision(detector: Detector) -> None:
    image, empty = np.full((64, 64, 3), 128, np.uint8), np.zeros((64, 64), np.uint8)

    def pairs() -> Iterator[held_out.Pair]:
        yield "polygon", (image, image, empty)

    assert measure(detector, pairs())["patch_average_precision"] is None


def test_what_ships_is_rounded_and_the_detector_is_left_alone(detector: Detector) -> None:
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    shipped = as_shipped(detector).state_dict()
    for name, value in detector.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(shipped[name], value.half().float())
