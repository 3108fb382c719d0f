"""The nodes of `report.html`: the verdict first, then what was measured, on what, and what the model is.

They read what the pipelines before serving have written, and no table of images whole.
"""

from typing import TYPE_CHECKING, Any, Literal, TypedDict

import pandas as pd
import pyarrow.dataset as pad

from cygnet.anomaly_kinds import KINDS
from cygnet.endpoints.versions import ModelVersion
from cygnet.report.page import render
from cygnet.reports import EvaluationReport, ServingReport
from cygnet.tables import LABELS, SPLITS, parse_image_id

if TYPE_CHECKING:
    from cygnet.report.examples import Examples

MOST_ROWS = 20
"""Sources and reasons in a table; the page counts those beyond together."""

LABEL_NAMES = {value: name for name, value in LABELS.items()}


class DataCard(TypedDict):
    """What the run had to learn and to measure from, in rows for tables."""

    sources: int
    images: list[dict[str, Any]]  # source, label, label_source, and the number of images of each split
    anomalies: list[dict[str, Any]]  # kind, and the number of rows of training_set of each split
    rejects: list[dict[str, Any]]  # reason, count
    normal_train: int  # images
    suspicious: int  # of them, those that look contaminated


class Pictures(TypedDict):
    """What the page shows of the test split, as data URIs."""

    examples: "Examples"
    figures: dict[str, str]  # by name: score_histogram, roc, precision_recall, reliability, confusion, auroc_by_kind


def describe_data(
    train_frames: pad.Dataset, training_set: pad.Dataset, rejects: pd.DataFrame, suspicious_frames: pd.DataFrame
) -> DataCard:
    """Count images, rows and rejects; no pixel is read.

    Args:
        train_frames: The table `images`.
        training_set: The table.
        rejects: `reason`, `count`; without a row if nothing was rejected.
        suspicious_frames: A row for each normal train image that looks contaminated.
    """
    keys = train_frames.to_table(columns=["image_id", "split", "label", "label_source"]).to_pandas()
    keys["source"] = [parse_image_id(image_id)[0] for image_id in keys["image_id"]]
    keys["label"] = keys["label"].map(LABEL_NAMES)
    sources = sorted(keys["source"].unique())
    keys.loc[keys["source"].isin(sources[MOST_ROWS:]), "source"] = f"{len(sources) - MOST_ROWS} more"
    rows = training_set.to_table(columns=["split", "kind"]).to_pandas()
    reasons = rejects.groupby("reason")["count"].sum().sort_values(ascending=False, kind="stable")
    rest = {"other reasons": int(reasons[MOST_ROWS:].sum())} if len(reasons) > MOST_ROWS else {}
    counted = {str(reason): int(count) for reason, count in reasons[:MOST_ROWS].items()} | rest
    return {
        "sources": len(sources),
        "images": _by_split(keys, ["source", "label", "label_source"]),
        "anomalies": _by_split(rows, ["kind"]),
        "rejects": [{"reason": reason, "count": count} for reason, count in counted.items()],
        "normal_train": int(((keys["split"] == "train") & (keys["label"] == "normal")).sum()),
        "suspicious": len(suspicious_frames),
    }


def draw_pictures(predictions: pad.Dataset, training_set: pad.Dataset, evaluation: EvaluationReport) -> Pictures:
    """Draw the figures of `test`, and choose examples of hits, misses and false alarms."""
    from cygnet.model.evaluation import plots
    from cygnet.report.examples import choose_examples
    from cygnet.report.pictures import svg_uri

    columns = ["frame_id", "split", "label", "kind", "anomaly_score", "is_anomalous"]
    rows, threshold = predictions.to_table(columns=columns).to_pandas(), evaluation["threshold"]
    figures = {
        "score_histogram": plots.draw_score_histogram(rows, threshold),
        "roc": plots.draw_roc(rows, threshold),
        "precision_recall": plots.draw_precision_recall(rows, threshold),
        "reliability": plots.draw_reliability(rows, evaluation["ece"]),
        "confusion": plots.draw_confusion(rows),
        "auroc_by_kind": plots.draw_auroc_by_kind(evaluation),
    }
    return {
        "examples": choose_examples(predictions, training_set),
        "figures": {name: svg_uri(figure) for name, figure in figures.items()},
    }


def write_report(
    challenger: ModelVersion,
    evaluation: EvaluationReport,
    serving_report: ServingReport,
    data_card: DataCard,
    report_pictures: Pictures,
) -> str:
    """Write the page, whatever was decided about the challenger.

    Args:
        challenger: The version that the run made.
        evaluation: The content of `evaluation.json`.
        serving_report: The content of `serving_report.json`; its metrics may be null.
        data_card: What `describe_data` gave.
        report_pictures: What `draw_pictures` gave.
    """
    facts = {
        "model": {
            "name": challenger.name,
            "version": challenger.version,
            "made_at": challenger.made_at,
            **challenger.metadata,
        },
        "outcome": outcome(serving_report),
        "evaluation": evaluation,
        "serving_report": serving_report,
        "data": data_card,
        "splits": SPLITS,
        "looks": {kind: KINDS[kind].looks for kind in evaluation["by_kind"] if kind in KINDS and KINDS[kind].looks},
        **report_pictures,
    }
    return render("report.html", facts)


def outcome(serving_report: ServingReport) -> Literal["promoted", "warned", "unchecked", "refused"]:
    """Sum up the decision: promoted by the gate, in spite of it (`report`) or without it (`off`), or refused."""
    if serving_report["decision"] == "refuse":
        return "refused"
    if serving_report["passed"] is None:
        return "unchecked"
    return "promoted" if serving_report["passed"] else "warned"


def _by_split(rows: pd.DataFrame, columns: list[str]) -> list[dict[str, Any]]:
    """Count rows by some columns, a column of counts for each split."""
    in_split = {split: rows["split"] == split for split in SPLITS}
    counts = rows[columns].assign(**in_split).groupby(columns, as_index=False).sum()
    return [{str(name): value for name, value in row.items()} for row in counts.to_dict("records")]
