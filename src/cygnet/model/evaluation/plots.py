"""The plots of a run. Normal is blue and abnormal orange; position and legend tell them apart without colour too."""

from typing import Literal

import cv2
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve, roc_curve

from cygnet.model.evaluation.counted import counted_rows
from cygnet.model.evaluation.evaluate import auroc, calibration_bins
from cygnet.reports import EvaluationReport, SystemMetrics, title_of
from cygnet.tables import ABNORMAL, KIND_NULL, LABELS, NORMAL
from cygnet.vision.annotate import outlined

NORMAL_COLOUR, ABNORMAL_COLOUR, THRESHOLD_COLOUR = "#2f6f9f", "#d9642c", "#444444"
TIMELINE_POINTS = 4000
"""A plot can't resolve more points; in a longer series each point is the highest score of a stretch."""
BASELINE_MARKERS = {"majority": "|", "pixel_statistics": "s", "median_mad": "^", "nearest_neighbour": "D"}
GAP_FRAC = 0.15
"""Between normal and abnormal images, in panels."""
SUSPICIOUS_PER_ROW = 3
"""Suspicious frames in a row of their figure; a frame takes two panels."""

SheetCell = tuple[str, np.ndarray, np.ndarray | None]
"""Title, image `(H, H, 3)` uint8 BGR, and mask `(H, H)` uint8 or None."""

MapCell = tuple[str, np.ndarray, np.ndarray, np.ndarray | None]
"""Title, image `(H, H, 3)` uint8 BGR, anomaly map `(G, G)` float32 0-1, and mask `(H, H)` uint8 or None."""


def draw_contact_sheet(cells: list[SheetCell], columns: int = 6) -> Figure:
    """Arrange images in a grid, with their anomalies outlined.

    Args:
        cells: The images, in reading order.
        columns: Images per row.
    """
    rows = max(-(-len(cells) // columns), 1)
    figure = Figure(figsize=(1.9 * columns, 2.1 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (title, image, mask) in zip(axes, cells, strict=False):
        axis.imshow((image if mask is None else outlined(image, mask))[:, :, ::-1])
        axis.set_title(title, fontsize=8, color=ABNORMAL_COLOUR if mask is not None else NORMAL_COLOUR, pad=3)
    return figure


def draw_pretraining_curve(history: pd.DataFrame, larger_from: float, larger_px: int) -> Figure:
    """Plot the loss against the number of images seen.

    Args:
        history: `images`, and `loss` as the mean since the previous row.
        larger_from: Number of images after which training switches to larger ones.
        larger_px: Side of the larger images, in pixels.
    """
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.plot(history["images"], history["loss"], color=ABNORMAL_COLOUR, label="image loss + patch loss")
    axis.axvline(larger_from, color=THRESHOLD_COLOUR, linestyle="--", linewidth=1, label=f"{larger_px} px from here on")
    axis.set(xlabel="images seen", ylabel="loss (nats)", ylim=(0, None))
    axis.set_title("Pretraining loss", loc="left")
    _finish(axis)
    return figure


def draw_score_histogram(predictions: pd.DataFrame, threshold: float) -> Figure:
    """Plot the distribution of the scores of normal and abnormal test images, with a logarithmic count axis."""
    test = _counted_test(predictions)
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
    """Plot recall against the false-positive rate on `test`, and mark the threshold."""
    test = _counted_test(predictions)
    is_abnormal = test["label"] == ABNORMAL
    fpr, recall, _ = roc_curve(is_abnormal, test["anomaly_score"])
    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, linestyle=":")
    axis.plot(fpr, recall, color=ABNORMAL_COLOUR, linewidth=2, label=f"AUROC {auroc(test):.4f}")
    flagged = test["is_anomalous"]
    _mark_threshold(axis, flagged[~is_abnormal].mean(), flagged[is_abnormal].mean(), threshold)
    axis.set(xlabel="false-positive rate", ylabel="recall", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axis.set_title("ROC curve, test split", loc="left")
    _finish(axis, legend="lower right")
    return figure


def draw_precision_recall(predictions: pd.DataFrame, threshold: float) -> Figure:
    """Plot precision against recall on `test`, and mark the threshold and the share of abnormal images."""
    test = _counted_test(predictions)
    is_abnormal, flagged = test["label"] == ABNORMAL, test["is_anomalous"]
    precision, recall, _ = precision_recall_curve(is_abnormal, test["anomaly_score"])
    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    axis = figure.subplots()
    share = is_abnormal.mean()
    axis.axhline(
        share, color="#bbbbbb", linewidth=1, linestyle=":", label=f"share of abnormal images {100 * share:.1f} %"
    )
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
    axis.set_title("Precision-recall curve, test split", loc="left")
    _finish(axis, legend="lower left")
    return figure


def draw_reliability(predictions: pd.DataFrame, ece: float) -> Figure:
    """Plot the share of abnormal images against the mean score of each bin, with the number of images as the size.

    Args:
        predictions: The table.
        ece: Expected calibration error, 0-1, for the legend.
    """
    test = _counted_test(predictions)
    is_abnormal = (test["label"] == ABNORMAL).to_numpy()
    mean_scores, abnormal_shares, counts = calibration_bins(test["anomaly_score"].to_numpy(), is_abnormal)
    sizes = 400 * counts / counts.sum() + 10
    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, linestyle=":")
    axis.plot(mean_scores, abnormal_shares, color=ABNORMAL_COLOUR, linewidth=1, alpha=0.6)
    axis.scatter(mean_scores, abnormal_shares, s=sizes, color=ABNORMAL_COLOUR, label=f"ECE {ece:.3f}")
    axis.set(
        xlabel="mean anomaly score per bin",
        ylabel="share of abnormal images",
        xlim=(-0.03, 1.03),
        ylim=(-0.03, 1.03),
        aspect="equal",
    )
    axis.set_title("Reliability diagram, test split", loc="left")
    _finish(axis, legend="upper left")
    return figure


def draw_auroc_by_kind(evaluation: EvaluationReport) -> Figure:
    """Plot AUROC with its interval, of the detector and of the baselines, over all kinds and for each kind."""
    systems: dict[str, SystemMetrics] = {"detector": evaluation, **evaluation["baselines"]}
    kinds = sorted(evaluation["by_kind"], key=lambda kind: (kind == KIND_NULL, kind))
    rows = ["all kinds", *kinds]
    figure = Figure(figsize=(7, 0.8 + 0.55 * len(rows)), layout="constrained")
    axis = figure.subplots()
    for position, (name, metrics) in enumerate(systems.items()):
        is_detector = name == "detector"
        groups = [metrics, *(metrics["by_kind"][kind] for kind in kinds)]
        aurocs = np.array([group["auroc"] for group in groups])
        intervals = [group["intervals"]["auroc"] for group in groups]
        ends = np.array([[interval["low"] for interval in intervals], [interval["high"] for interval in intervals]])
        axis.errorbar(
            aurocs,
            np.arange(len(rows)) + 0.68 * (position / (len(systems) - 1) - 0.5),
            xerr=np.abs(ends - aurocs),
            fmt="o" if is_detector else BASELINE_MARKERS[name],
            color=ABNORMAL_COLOUR if is_detector else colormaps["Blues"](0.3 + 0.16 * position),
            markersize=6 if is_detector else 4,
            linewidth=1.6 if is_detector else 1,
            label=title_of(name),
        )
    axis.axvline(0.5, color="#bbbbbb", linewidth=1, linestyle=":")
    axis.set_yticks(range(len(rows)), [title_of(row) for row in rows])
    axis.invert_yaxis()
    axis.set(xlabel="AUROC with 95 % confidence interval, test split", xlim=(None, 1.01))
    axis.set_title("Detector and baselines, by kind of anomaly", loc="left")
    _finish(axis)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def draw_anomaly_maps(normal: list[MapCell], abnormal: list[MapCell]) -> Figure:
    """Show normal images on the left and abnormal ones on the right, each with its anomaly map.

    An image takes two panels, itself and under its anomaly map, and an abnormal one a third, with its mask outlined.
    """
    rows = max(len(normal), len(abnormal))
    columns = [1, 1, GAP_FRAC, 1, 1, 1]
    figure = Figure(figsize=(1.9 * sum(columns), 2.1 * rows), layout="constrained")
    axes = figure.subplots(rows, len(columns), squeeze=False, width_ratios=columns)
    figure.suptitle("The worst errors on test: image, anomaly map, outlined mask of what was drawn", fontsize=9)
    for axis in axes.ravel():
        axis.set_axis_off()
    for first, cells, colour in ((0, normal, NORMAL_COLOUR), (3, abnormal, ABNORMAL_COLOUR)):
        for row, (title, image, anomaly_map, mask) in enumerate(cells):
            panels = axes[row, first:]
            shown = [image, overlaid(image, anomaly_map), *([] if mask is None else [outlined(image, mask)])]
            for axis, panel in zip(panels, shown, strict=False):
                axis.imshow(panel[:, :, ::-1])
            panels[0].set_title(title, fontsize=8, color=colour, pad=3, loc="left")
    return figure


def draw_suspicious_frames(cells: list[MapCell], suspicious: int, measured: int) -> Figure:
    """Show train frames in a grid, each as it is and under its distance map.

    Args:
        cells: The frames, in reading order; the mask is not used.
        suspicious: Number of suspicious frames.
        measured: Number of frames that were measured.
    """
    rows = max(-(-len(cells) // SUSPICIOUS_PER_ROW), 1)
    figure = Figure(figsize=(1.9 * 2 * SUSPICIOUS_PER_ROW, 0.3 + 2.1 * rows), layout="constrained")
    axes = figure.subplots(rows, 2 * SUSPICIOUS_PER_ROW, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for place, (title, image, distance_map, _) in enumerate(cells):
        for axis, panel in zip(axes[2 * place :], (image, overlaid(image, distance_map)), strict=False):
            axis.imshow(panel[:, :, ::-1])
        colour = ABNORMAL_COLOUR if suspicious else NORMAL_COLOUR
        axes[2 * place].set_title(title, fontsize=8, color=colour, pad=3, loc="left")
    counted = f"{suspicious or 'None'} of {measured} normal train frames"
    shown = "look contaminated" if suspicious > 1 else "looks contaminated"
    figure.suptitle(f"{counted} {shown}; by distance to the others, the largest {len(cells)}", fontsize=9)
    return figure


def overlaid(image: np.ndarray, anomaly_map: np.ndarray) -> np.ndarray:
    """Blend a heat map over an image; it is the more opaque, the higher the probability of an anomaly."""
    scaled = cv2.resize(anomaly_map, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)  # (H, W) 0-1
    colours = 255 * colormaps["inferno"](0.45 + 0.5 * scaled)[:, :, 2::-1]  # (H, W, 3) BGR
    opacity = 0.8 * scaled[:, :, None]
    return np.rint((1 - opacity) * image + opacity * colours).astype(np.uint8)


def draw_confusion(predictions: pd.DataFrame) -> Figure:
    """Plot the confusion matrix of `test`, as counts and shares of the actual class."""
    test = _counted_test(predictions)
    predicted = np.where(test["is_anomalous"], ABNORMAL, NORMAL)
    counts = confusion_matrix(test["label"], predicted, labels=[ABNORMAL, NORMAL])
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    figure = Figure(figsize=(4.4, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        text = f"{count}\n{100 * shares[row, column]:.1f} %"
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=12)
    names = [name for name, _ in sorted(LABELS.items(), key=lambda item: item[1])]
    axis.set_xticks([0, 1], names)
    axis.set_yticks([0, 1], names, rotation=90, va="center")
    axis.set(xlabel="predicted", ylabel="actual")
    axis.set_title("Confusion matrix, test split", loc="left")
    return figure


def draw_training_curves(history: pd.DataFrame) -> Figure:
    """Plot training loss and validation NLL by epoch, and mark the epoch that was kept."""
    best = history[history["is_best"]].iloc[-1]
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.plot(history["epoch"], history["train_loss"], "o-", color=NORMAL_COLOUR, label="training loss")
    axis.plot(history["epoch"], history["validation_nll"], "o-", color=ABNORMAL_COLOUR, label="validation NLL")
    axis.axvline(best["epoch"], color=THRESHOLD_COLOUR, linestyle="--", linewidth=1, label=f"kept: {best['epoch']:.0f}")
    axis.set(xlabel="epoch", ylabel="loss (nats)", ylim=(0, None))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_title("Training curves", loc="left")
    _finish(axis)
    return figure


def draw_timeline(
    source: str, scores: pd.DataFrame, events: pd.DataFrame, labelled_spans: pd.DataFrame, threshold: float
) -> Figure:
    """Plot the score of a source over time, with its events shaded and the labelled spans as bars above.

    Args:
        source: Name of the source.
        scores: `timestamp_s`, `anomaly_score` of its frames, in order of time.
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
    for number, (start_s, end_s) in enumerate(events[["start_s", "end_s"]].to_numpy()):
        label = f"events ({len(events)})" if number == 0 else None
        axis.axvspan(start_s, end_s, color=ABNORMAL_COLOUR, alpha=0.3, linewidth=0, label=label)
    for number, (start_s, end_s) in enumerate(labelled_spans[["start_s", "end_s"]].to_numpy()):
        label = f"labelled abnormal ({len(labelled_spans)})" if number == 0 else None
        axis.plot([start_s, end_s], [1.03, 1.03], color=THRESHOLD_COLOUR, linewidth=5, label=label)
    axis.set(xlabel="time (s)", ylabel="anomaly score", ylim=(0, 1.06))
    axis.margins(x=0.01)
    axis.set_title(source, loc="left")
    _finish(axis)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def _counted_test(predictions: pd.DataFrame) -> pd.DataFrame:
    """Select the rows of `test` that count."""
    return counted_rows(predictions[predictions["split"] == "test"])


def _mark_threshold(axis: Axes, x: float, y: float, threshold: float) -> None:
    axis.plot(x, y, "o", color=THRESHOLD_COLOUR, label=f"threshold {threshold:.3f}")


def _finish(axis: Axes, legend: Literal["best", "lower right", "lower left", "upper left"] = "best") -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
    axis.legend(loc=legend, frameon=False)
