"""What the plots promise: each shows its data, and can be saved."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cygnet.model.evaluation import plots
from cygnet.tables import KIND_NULL
from cygnet.vision.codec import decode_image
from support.evaluations import toy_evaluation
from support.toys import toy_predictions

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
    "histogram": lambda: plots.draw_score_histogram(PREDICTIONS, 0.5),
    "roc": lambda: plots.draw_roc(PREDICTIONS, 0.5),
    "precision_recall": lambda: plots.draw_precision_recall(PREDICTIONS, 0.5),
    "reliability": lambda: plots.draw_reliability(PREDICTIONS, 0.1),
    "auroc_by_kind": lambda: plots.draw_auroc_by_kind(toy_evaluation(PREDICTIONS)),
    "confusion": lambda: plots.draw_confusion(PREDICTIONS),
    "curves": lambda: plots.draw_training_curves(HISTORY),
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
    figure = plots.draw_contact_sheet(shown)
    assert [axis.get_title() for axis in figure.axes if axis.images] == [title for title, _, _ in shown]
    assert colours(figure) > 1000


def test_contact_sheet_outlines_the_anomaly_beside_it(scene: Callable[..., np.ndarray]) -> None:
    mask = np.zeros((256, 256), np.uint8)
    mask[100:150, 100:150] = 255
    image = scene(0)
    untouched = image.copy()
    figure = plots.draw_contact_sheet([("normal", image, None), ("abnormal", image, mask)])
    plain, outlined = (axis.images[0].get_array()[:, :, ::-1] for axis in figure.axes if axis.images)
    changed = (outlined != image).any(axis=2)
    assert np.array_equal(plain, untouched)
    assert changed.any()
    assert not changed[mask > 0].any()
    assert changed[90:160, 90:160].sum() == changed.sum()


def test_confusion_counts_decisions_without_controls() -> None:
    controls = toy_predictions([], [0.9, 0.9]).assign(kind=KIND_NULL)
    elsewhere = PREDICTIONS.assign(split="validation")
    figure = plots.draw_confusion(pd.concat([PREDICTIONS, controls, elsewhere]))
    counts = [text.get_text().splitlines()[0] for text in figure.axes[0].texts]
    assert counts == ["2", "1", "1", "3"]  # actually abnormal: predicted abnormal, normal; actually normal: the same


def test_roc_marks_the_point_of_the_threshold() -> None:
    figure = plots.draw_roc(PREDICTIONS, 0.5)
    point = next(line for line in figure.axes[0].lines if line.get_marker() == "o")
    assert [float(point.get_xdata()[0]), float(point.get_ydata()[0])] == pytest.approx([1 / 4, 2 / 3])
    assert f"AUROC {11 / 12:.4f}" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_curves_mark_the_epoch_that_was_kept() -> None:
    figure = plots.draw_training_curves(HISTORY)
    assert "kept: 2" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_precision_recall_marks_the_point_of_the_threshold() -> None:
    figure = plots.draw_precision_recall(PREDICTIONS, 0.5)
    point = next(line for line in figure.axes[0].lines if line.get_marker() == "o")
    assert [float(point.get_xdata()[0]), float(point.get_ydata()[0])] == pytest.approx([2 / 3, 2 / 3])
    plots.draw_precision_recall(PREDICTIONS.assign(is_anomalous=False), 1.0)


def test_auroc_by_kind_shows_every_kind_of_detector_and_baseline() -> None:
    report = toy_evaluation(PREDICTIONS)
    axis = plots.draw_auroc_by_kind(report).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["all kinds", "polygon", "control"]
    shown = {text.get_text() for text in axis.get_legend().get_texts()}
    assert shown == {"detector", "majority"}
    points, _, _ = axis.containers[0]
    assert points.get_xdata().tolist() == [report["auroc"]] + [
        report["by_kind"][kind]["auroc"] for kind in ("polygon", "null")
    ]


def test_anomaly_maps_show_image_heat_and_outline(scene: Callable[..., np.ndarray]) -> None:
    image, mask = scene(0), np.zeros((256, 256), np.uint8)
    mask[100:150, 100:150] = 255
    surely = np.zeros((16, 16), np.float32)
    surely[8, 8] = 1
    figure = plots.draw_anomaly_maps([("normal", image, surely, None)], [("a", image, surely, mask)] * 2)
    panels = [axis.images[0].get_array()[:, :, ::-1] for axis in figure.axes if axis.images]
    assert len(panels) == 8  # a normal image has no mask
    assert "worst errors on test" in figure.get_suptitle()
    plain, heated, abnormal, _, outlined = panels[:5]
    assert np.array_equal(plain, image)
    assert np.array_equal(abnormal, image)
    changed = (heated != image).any(axis=2)
    assert changed[128:144, 128:144].mean() > 0.9
    assert not changed[:100].any()
    assert (outlined != image).any()
    assert figure.axes[3].get_position().x0 - figure.axes[1].get_position().x1 > 0.02  # the examples are apart
    assert colours(figure) > 1000


def test_timeline_shows_score_events_labels_and_threshold() -> None:
    times_s = np.arange(50) / 10
    scores = pd.DataFrame({"timestamp_s": times_s, "anomaly_score": np.linspace(0, 1, 50, dtype=np.float32)})
    spans = pd.DataFrame({"start_s": [3.0, 4.5], "end_s": [3.5, 5.0]})
    axis = plots.draw_timeline("swan", scores, spans, spans.iloc[:1], 0.6).axes[0]
    assert axis.lines[0].get_ydata() == pytest.approx(scores["anomaly_score"])
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["anomaly score", "threshold 0.600", "events (2)", "labelled abnormal (1)"]


def test_a_long_timeline_keeps_its_highest_scores() -> None:
    count = 5 * plots.TIMELINE_POINTS
    scores = pd.DataFrame({"timestamp_s": np.arange(count) / 25, "anomaly_score": np.zeros(count, np.float32)})
    scores.loc[7777, "anomaly_score"] = 0.9
    nothing = pd.DataFrame({"start_s": [], "end_s": []})
    line = plots.draw_timeline("swan", scores, nothing, nothing, 0.5).axes[0].lines[0]
    assert len(line.get_xdata()) <= plots.TIMELINE_POINTS
    assert max(line.get_ydata()) == np.float32(0.9)
