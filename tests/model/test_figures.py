"""What the figures promise: each shows its data, and can be saved."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cygnet.model import figures
from cygnet.tables import KIND_NULL
from cygnet.vision.codec import decode_image
from toys import toy_predictions

PREDICTIONS = toy_predictions([0.1, 0.2, 0.3, 0.6], [0.4, 0.7, 0.8])
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "learning_rate": [1e-3, 5e-4, 0],
        "train_loss": [0.7, 0.5, 0.4],
        "validation_nll": [0.6, 0.3, 0.35],
        "is_best": [True, True, False],
    }
)
FIGURES: dict[str, Callable[[], Figure]] = {
    "histogram": lambda: figures.draw_score_histogram(PREDICTIONS, 0.5),
    "roc": lambda: figures.draw_roc(PREDICTIONS, 0.5),
    "confusion": lambda: figures.draw_confusion(PREDICTIONS),
    "curves": lambda: figures.draw_training_curves(HISTORY),
}


def pixels(figure: Figure) -> np.ndarray:
    assert isinstance(figure, Figure)
    saved = BytesIO()
    figure.savefig(saved, format="png", dpi=60)
    return decode_image(saved.getvalue())


def colours(figure: Figure) -> int:
    return len(np.unique(pixels(figure).reshape(-1, 3), axis=0))


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_drawn(name: str) -> None:
    assert colours(FIGURES[name]()) > 20


@pytest.mark.parametrize("cells", [1, 24])
def test_contact_sheet_shows_every_cell(cells: int, scene: Callable[..., np.ndarray]) -> None:
    mask = np.zeros((256, 256), np.uint8)
    mask[100:150, 100:150] = 255
    shown = [(f"cell {number}", scene(number), mask if number % 2 else None) for number in range(cells)]
    figure = figures.draw_contact_sheet(shown)
    assert [axis.get_title() for axis in figure.axes if axis.images] == [title for title, _, _ in shown]
    assert colours(figure) > 1000


def test_contact_sheet_outlines_the_anomaly_beside_it(scene: Callable[..., np.ndarray]) -> None:
    mask = np.zeros((256, 256), np.uint8)
    mask[100:150, 100:150] = 255
    image = scene(0)
    untouched = image.copy()
    figure = figures.draw_contact_sheet([("normal", image, None), ("abnormal", image, mask)])
    plain, outlined = (axis.images[0].get_array()[:, :, ::-1] for axis in figure.axes if axis.images)
    changed = (outlined != image).any(axis=2)
    assert np.array_equal(plain, untouched)
    assert changed.any()
    assert not changed[mask > 0].any()
    assert changed[90:160, 90:160].sum() == changed.sum()


def test_confusion_counts_decisions_without_controls() -> None:
    controls = toy_predictions([], [0.9, 0.9]).assign(kind=KIND_NULL)
    elsewhere = PREDICTIONS.assign(split="validation")
    figure = figures.draw_confusion(pd.concat([PREDICTIONS, controls, elsewhere]))
    counts = [text.get_text().splitlines()[0] for text in figure.axes[0].texts]
    assert counts == ["2", "1", "1", "3"]  # is abnormal: decided abnormal, normal; is normal: the same


def test_roc_marks_the_point_of_the_threshold() -> None:
    figure = figures.draw_roc(PREDICTIONS, 0.5)
    point = next(line for line in figure.axes[0].lines if line.get_marker() == "o")
    assert [float(point.get_xdata()[0]), float(point.get_ydata()[0])] == pytest.approx([1 / 4, 2 / 3])
    assert f"AUROC {11 / 12:.4f}" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_curves_mark_the_epoch_that_was_kept() -> None:
    figure = figures.draw_training_curves(HISTORY)
    assert "kept: 2" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
