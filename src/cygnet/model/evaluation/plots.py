"""The figures of a run. Colours: normal blue, abnormal orange, told apart also without colour by place and legend."""

from typing import Any, Literal

import cv2
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve, roc_curve

from cygnet.model.evaluation.evaluate import auroc, calibration_bins
from cygnet.tables import ABNORMAL, KIND_NULL, LABELS, NORMAL
from cygnet.vision.annotate import outlined

NORMAL_COLOUR, ABNORMAL_COLOUR, THRESHOLD_COLOUR = "#2f6f9f", "#d9642c", "#444444"
TIMELINE_POINTS = 4000
"""More are not told apart in the figure: of a longer series each stretch shows its highest score."""
CELL_PX = 256
BASELINE_MARKERS = {"majority": "|", "pixel_statistics": "s", "median_mad": "^", "nearest_neighbour": "D"}
ANOMALY_COLUMNS = 3
"""Panels of an image: as it is, with the anomaly map over it, with its mask outlined."""

MapCell = tuple[str, np.ndarray, np.ndarray, np.ndarray | None]
"""Title, image `(H, H, 3)` uint8 BGR, anomaly map `(G, G)` float32 0-1, mask `(H, H)` uint8 or None."""


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
        axis.imshow((image if mask is None else outlined(image, mask))[:, :, ::-1])
        axis.set_title(title, fontsize=8, color=ABNORMAL_COLOUR if mask is not None else NORMAL_COLOUR, pad=3)
    return figure


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
    _mark_threshold(axis, flagged[~is_abnormal].mean(), flagged[is_abnormal].mean(), threshold)
    axis.set(xlabel="false-positive rate", ylabel="recall", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axis.set_title("ROC on test", loc="left")
    _finish(axis, legend="lower right")
    return figure


def draw_precision_recall(predictions: pd.DataFrame, threshold: float) -> Figure:
    """Show precision against recall on test, with the point of the threshold and the share of abnormal images."""
    test = _drawn_test(predictions)
    is_abnormal, flagged = test["label"] == ABNORMAL, test["is_anomalous"]
    precision, recall, _ = precision_recall_curve(is_abnormal, test["anomaly_score"])
    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    axis = figure.subplots()
    share = is_abnormal.mean()
    axis.axhline(share, color="#bbbbbb", linewidth=1, linestyle=":", label=f"abnormal images {share:.1%}")
    average_precision = average_precision_score(is_abnormal, test["anomaly_score"])
    axis.step(
        recall,
        precision,
        where="post",
        color=ABNORMAL_COLOUR,
        linewidth=2,
        label=f"average precision {average_precision:.4f}",
    )
    if flagged.any():
        _mark_threshold(axis, flagged[is_abnormal].mean(), is_abnormal[flagged].mean(), threshold)
    axis.set(xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axis.set_title("Precision and recall on test", loc="left")
    _finish(axis, legend="lower left")
    return figure


def draw_reliability(predictions: pd.DataFrame, ece: float) -> Figure:
    """Show how often images of about the same score are abnormal, and how many there are."""
    test = _drawn_test(predictions)
    is_abnormal = (test["label"] == ABNORMAL).to_numpy()
    said, was, counts = calibration_bins(test["anomaly_score"].to_numpy(), is_abnormal)
    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, linestyle=":")
    axis.plot(said, was, color=ABNORMAL_COLOUR, linewidth=1, alpha=0.6)
    axis.scatter(said, was, s=400 * counts / counts.sum() + 10, color=ABNORMAL_COLOUR, label=f"ECE {ece:.3f}")
    axis.set(
        xlabel="mean anomaly score of a bin",
        ylabel="share of abnormal images",
        xlim=(-0.03, 1.03),
        ylim=(-0.03, 1.03),
        aspect="equal",
    )
    axis.set_title("Reliability on test", loc="left")
    _finish(axis, legend="upper left")
    return figure


def draw_auroc_by_kind(evaluation: dict[str, Any]) -> Figure:
    """Show AUROC with its interval for every kind and over all, of the detector and of the baselines."""
    systems = {"detector": evaluation, **evaluation["baselines"]}
    kinds = sorted(evaluation["by_kind"], key=lambda kind: (kind == KIND_NULL, kind))
    names = ["all kinds", *kinds]
    figure = Figure(figsize=(7, 0.8 + 0.55 * len(names)), layout="constrained")
    axis = figure.subplots()
    for place, (name, figures) in enumerate(systems.items()):
        is_detector = name == "detector"
        groups = [figures, *(figures["by_kind"][kind] for kind in kinds)]
        aurocs = np.array([group["auroc"] for group in groups])
        ends = np.array([[group["intervals"]["auroc"][end] for group in groups] for end in ("low", "high")])
        axis.errorbar(
            aurocs,
            np.arange(len(names)) + 0.68 * (place / (len(systems) - 1) - 0.5),
            xerr=np.maximum(np.abs(ends - aurocs), 0),
            fmt="o" if is_detector else BASELINE_MARKERS[name],
            color=ABNORMAL_COLOUR if is_detector else colormaps["Blues"](0.3 + 0.16 * place),
            markersize=6 if is_detector else 4,
            linewidth=1.6 if is_detector else 1,
            label=name.replace("_", " "),
        )
    axis.axvline(0.5, color="#bbbbbb", linewidth=1, linestyle=":")
    axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axis.invert_yaxis()
    axis.set(xlabel="AUROC on test, with 95 % intervals by frame", xlim=(None, 1.01))
    axis.set_title("Detector and baselines by kind of anomaly", loc="left")
    _finish(axis)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def draw_anomaly_maps(false_alarms: list[MapCell], misses: list[MapCell]) -> Figure:
    """Show where the detector looked: the highest normal images on the left, the lowest abnormal ones on the right.

    Each image has three panels: as it is, with the anomaly map over it, with its mask outlined.
    """
    rows = max(len(false_alarms), len(misses))
    figure = Figure(figsize=(1.9 * 2 * ANOMALY_COLUMNS, 2.1 * rows), layout="constrained")
    axes = figure.subplots(rows, 2 * ANOMALY_COLUMNS, squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    for side, (cells, colour) in enumerate(((false_alarms, NORMAL_COLOUR), (misses, ABNORMAL_COLOUR))):
        for row, (title, image, anomaly_map, mask) in enumerate(cells):
            panels = axes[row, ANOMALY_COLUMNS * side :][:ANOMALY_COLUMNS]
            shown = (image, _heated(image, anomaly_map), image if mask is None else outlined(image, mask))
            for axis, panel in zip(panels, shown, strict=True):
                axis.imshow(panel[:, :, ::-1])
            panels[0].set_title(title, fontsize=8, color=colour, pad=3, loc="left")
    return figure


def _heated(image: np.ndarray, anomaly_map: np.ndarray) -> np.ndarray:
    """Lay a map over an image: the surer that a place is abnormal, the more of the image is covered by its colour."""
    scaled = cv2.resize(anomaly_map, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)  # (H, W) 0-1
    colours = 255 * colormaps["inferno"](0.45 + 0.5 * scaled)[:, :, 2::-1]  # (H, W, 3) BGR
    cover = 0.8 * scaled[:, :, None]
    return np.rint((1 - cover) * image + cover * colours).astype(np.uint8)


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


def draw_timeline(
    source: str, scores: pd.DataFrame, events: pd.DataFrame, labelled_spans: pd.DataFrame, threshold: float
) -> Figure:
    """Show the score of a source over time, its events shaded, and above them what is labelled abnormal.

    Args:
        source: Its name.
        scores: `timestamp_s`, `anomaly_score` of its frames in time order.
        events: `start_s`, `end_s` of its events.
        labelled_spans: `start_s`, `end_s` of what is labelled abnormal in it.
        threshold: Score from which a frame is anomalous, 0-1.
    """
    figure = Figure(figsize=(10, 3), layout="constrained")
    axis = figure.subplots()
    stretch = np.arange(len(scores)) // max(-(-len(scores) // TIMELINE_POINTS), 1)
    points = scores.groupby(stretch).agg({"timestamp_s": "first", "anomaly_score": "max"})
    axis.plot(points["timestamp_s"], points["anomaly_score"], color=NORMAL_COLOUR, linewidth=1, label="anomaly score")
    axis.axhline(threshold, color=THRESHOLD_COLOUR, linestyle="--", linewidth=1, label=f"threshold {threshold:.3f}")
    for place, (start_s, end_s) in enumerate(events[["start_s", "end_s"]].to_numpy()):
        label = f"event ({len(events)})" if place == 0 else None
        axis.axvspan(start_s, end_s, color=ABNORMAL_COLOUR, alpha=0.3, linewidth=0, label=label)
    for place, (start_s, end_s) in enumerate(labelled_spans[["start_s", "end_s"]].to_numpy()):
        label = f"labelled abnormal ({len(labelled_spans)})" if place == 0 else None
        axis.plot([start_s, end_s], [1.03, 1.03], color=THRESHOLD_COLOUR, linewidth=5, label=label)
    axis.set(xlabel="seconds", ylabel="anomaly score", ylim=(0, 1.06))
    axis.margins(x=0.01)
    axis.set_title(source, loc="left")
    _finish(axis)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def _drawn_test(predictions: pd.DataFrame) -> pd.DataFrame:
    return predictions[(predictions["split"] == "test") & (predictions["kind"] != KIND_NULL)]


def _mark_threshold(axis: Axes, x: float, y: float, threshold: float) -> None:
    axis.plot(x, y, "o", color=THRESHOLD_COLOUR, label=f"threshold {threshold:.3f}")


def _finish(axis: Axes, legend: Literal["best", "lower right", "lower left", "upper left"] = "best") -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
    axis.legend(loc=legend, frameon=False)
