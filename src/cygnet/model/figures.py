"""The figures of a run. Colours: normal blue, abnormal orange, told apart also without colour by place and legend."""

from typing import Literal

import cv2
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import confusion_matrix, roc_curve

from cygnet.model.evaluate import auroc
from cygnet.tables import ABNORMAL, KIND_NULL, LABELS, NORMAL

NORMAL_COLOUR, ABNORMAL_COLOUR, THRESHOLD_COLOUR = "#2f6f9f", "#d9642c", "#444444"
OUTLINE_BGR = (44, 100, 255)
CELL_PX = 256


def draw_contact_sheet(cells: list[tuple[str, np.ndarray, np.ndarray | None]], columns: int = 6) -> Figure:
    """Lay out images with their anomalies outlined.

    Args:
        cells: Title, image `(H, H, 3)` uint8 BGR and mask `(H, H)` uint8 or None, in reading order.
        columns: Images per row.
    """
    rows = -(-len(cells) // columns)
    figure = Figure(figsize=(1.9 * columns, 2.1 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (title, image, mask) in zip(axes, cells, strict=False):
        axis.imshow(_outlined(image, mask)[:, :, ::-1])
        axis.set_title(title, fontsize=8, color=ABNORMAL_COLOUR if mask is not None else NORMAL_COLOUR, pad=3)
    return figure


def _outlined(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    if mask is None:
        return image
    grown = cv2.dilate(mask, np.ones((5, 5), np.uint8))  # the outline runs beside the anomaly, not over it
    contours, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(image.copy(), contours, -1, OUTLINE_BGR, 2)


def draw_pretraining_curve(history: pd.DataFrame, larger_from: float, larger_px: int) -> Figure:
    """Show the loss against the images seen.

    Args:
        history: With the columns `images` and `loss`, each the mean since the row before.
        larger_from: Number of images after which they are larger.
        larger_px: Their side from then on, in pixels.
    """
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.plot(history["images"], history["loss"], color=ABNORMAL_COLOUR, label="image loss + patch loss")
    axis.axvline(larger_from, color=THRESHOLD_COLOUR, linestyle="--", linewidth=1, label=f"{larger_px} px from here")
    axis.set(xlabel="images seen", ylabel="nats", ylim=(0, None))
    axis.set_title("Pretraining", loc="left")
    _finish(axis)
    return figure


def draw_score_histogram(predictions: pd.DataFrame, threshold: float) -> Figure:
    """Show how the scores of normal and abnormal test images lie apart, on a logarithmic count axis."""
    test = _drawn_test(predictions)
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axis = figure.subplots()
    for label, name, colour in ((NORMAL, "normal", NORMAL_COLOUR), (ABNORMAL, "abnormal", ABNORMAL_COLOUR)):
        scores = test.loc[test["label"] == label, "anomaly_score"]
        axis.hist(scores, bins=40, range=(0, 1), color=colour, alpha=0.75, label=f"{name} ({len(scores)})")
    axis.axvline(threshold, color=THRESHOLD_COLOUR, linestyle="--", linewidth=1, label=f"threshold {threshold:.3f}")
    axis.set(xlabel="anomaly score", ylabel="test images", yscale="log", xlim=(0, 1))
    axis.set_title("Anomaly score by class", loc="left")
    _finish(axis)
    return figure


def draw_roc(predictions: pd.DataFrame, threshold: float) -> Figure:
    """Show recall against the false-positive rate on test, with the point of the threshold."""
    test = _drawn_test(predictions)
    is_abnormal = test["label"] == ABNORMAL
    fpr, recall, _ = roc_curve(is_abnormal, test["anomaly_score"])
    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, linestyle=":")
    axis.plot(fpr, recall, color=ABNORMAL_COLOUR, linewidth=2, label=f"AUROC {auroc(test):.4f}")
    flagged = test["is_anomalous"]
    axis.plot(
        flagged[~is_abnormal].mean(),
        flagged[is_abnormal].mean(),
        "o",
        color=THRESHOLD_COLOUR,
        label=f"threshold {threshold:.3f}",
    )
    axis.set(xlabel="false-positive rate", ylabel="recall", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axis.set_title("ROC on test", loc="left")
    _finish(axis, legend="lower right")
    return figure


def draw_confusion(predictions: pd.DataFrame) -> Figure:
    """Show test images by class and decision, as counts and shares of the class."""
    test = _drawn_test(predictions)
    decided = np.where(test["is_anomalous"], ABNORMAL, NORMAL)
    counts = confusion_matrix(test["label"], decided, labels=[ABNORMAL, NORMAL])
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    figure = Figure(figsize=(4.4, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        text = f"{count}\n{shares[row, column]:.1%}"
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=12)
    names = [name for name, _ in sorted(LABELS.items(), key=lambda item: item[1])]
    axis.set_xticks([0, 1], names)
    axis.set_yticks([0, 1], names, rotation=90, va="center")
    axis.set(xlabel="decided", ylabel="is")
    axis.set_title("Decisions on test", loc="left")
    return figure


def draw_training_curves(history: pd.DataFrame) -> Figure:
    """Show train loss and validation NLL by epoch, and which epoch was kept."""
    best = history[history["is_best"]].iloc[-1]
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.plot(history["epoch"], history["train_loss"], "o-", color=NORMAL_COLOUR, label="train loss")
    axis.plot(history["epoch"], history["validation_nll"], "o-", color=ABNORMAL_COLOUR, label="validation NLL")
    axis.axvline(best["epoch"], color=THRESHOLD_COLOUR, linestyle="--", linewidth=1, label=f"kept: {best['epoch']:.0f}")
    axis.set(xlabel="epoch", ylabel="nats", ylim=(0, None))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_title("Fitting", loc="left")
    _finish(axis)
    return figure


def _drawn_test(predictions: pd.DataFrame) -> pd.DataFrame:
    return predictions[(predictions["split"] == "test") & (predictions["kind"] != KIND_NULL)]


def _finish(axis: Axes, legend: Literal["best", "lower right"] = "best") -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
    axis.legend(loc=legend, frameon=False)
