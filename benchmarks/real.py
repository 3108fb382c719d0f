"""The default chain on real anomalies: `make bench-real [DATA=folder]`.

Each set in the folder is trained on its normal videos or images in `train`, and every frame in `test` is scored with
the champion. `labels.csv` says what is abnormal there. No parameter is changed, and no set is seen before its turn.
Beside the score, its parts are measured, and the two baselines that need no anomaly, with settings that were fixed
in advance. Prints one table, and the same as JSON.

A set is `<name>/train`, `<name>/test` and `<name>/labels.csv`, in the formats that `--params=video` and
`--params=labels` take.
"""

import json
import sys
import time
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as pad
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.inputs import ROOT
from benchmarks.project import kedro_run, project_copy
from cygnet.datasets.labels import LabelsDataset
from cygnet.datasets.videos import list_sources
from cygnet.labels import label_by_time, match_labels
from cygnet.model.evaluation.baselines import (
    BACKBONE,
    Baseline,
    MedianMad,
    NearestNeighbour,
    read_normal_frames,
)
from cygnet.model.evaluation.results import Variant
from cygnet.model.network.backbone import CARRIED
from cygnet.model.network.detector import Detector
from cygnet.model.scoring.frame_scores import FrameScoring, list_items, see_frames
from cygnet.scene import TrainingScene
from cygnet.tables import ABNORMAL, frame_id_of

DATA = ROOT.parent / "shared/data/real_anomalies"
NORMAL_FRAMES, MEMORY_PATCHES = 200, 2000
PARTS = {
    "classifier": "classifier_margin",
    "normality": "normality_distance",
    "motion": "motion",
    "median_mad": "median_mad",
    "nearest_neighbour": "nearest_neighbour",
}
COLUMNS = {
    "set": "set",
    "normal_frames": "normal",
    "abnormal_frames": "abnormal",
    "auroc": "AUROC",
    "average_precision": "AP",
    "classifier_auroc": "AUROC of the classifier",
    "normality_auroc": "of the normality",
    "motion_auroc": "of the motion",
    "median_mad_auroc": "of median_mad",
    "nearest_neighbour_auroc": "of nearest_neighbour",
    "false_alarm_frac": "alarms on normal",
    "promised_fpr": "promised",
    "fpr_interval": "of so few frames (95 %)",
    "recall": "recall",
    "event_recall": "event recall",
    "delay_s": "delay (s)",
    "false_alarms_per_hour": "false alarms/h",
    "training_s": "training (s)",
    "scoring_s_per_frame": "scoring (s/frame)",
}


def main(data: Path) -> None:
    """Measure every set of a folder."""
    sets = sorted(folder for folder in data.iterdir() if (folder / "labels.csv").exists()) if data.is_dir() else []
    if not sets:
        sys.exit(f"DATA={data}: there is no set in it; a set is a folder with train, test and labels.csv.")
    print(f"| {' | '.join(COLUMNS.values())} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    measured = []
    for folder in sets:
        row = measure_set(folder)
        measured.append(row)
        print(f"| {' | '.join(_cell(row[name]) for name in COLUMNS)} |", flush=True)
    print(json.dumps(measured, indent=1))


def measure_set(folder: Path) -> dict[str, Any]:
    """Train on a set's `train`, score its `test`, and compare the scores with its labels."""
    labels = folder / "labels.csv"
    with project_copy() as project:
        start_s = time.perf_counter()
        kedro_run(project, f"--params=video={folder / 'train'}")
        training_s = time.perf_counter() - start_s
        changed = f"video={folder / 'test'},labels={labels},scoring.annotated_video=false"
        kedro_run(project, "--pipeline=scoring", f"--params={changed}")
        scores = _read(project / "data/07_model_output/scores")
        sources = list_sources(str(folder / "test"))
        baselines = score_baselines(project / "data", sources)
        reports = project / "data/08_reporting"
        report = json.loads((reports / "scoring_report.json").read_text())
        rule = json.loads((reports / "evaluation.json").read_text())["threshold_rule"]
    matched = match_labels(sources, LabelsDataset(filepath=labels, default={"filepath": ""}).check())
    scores = scores[scores["reason"].isna()].merge(baselines, on=["source", "frame_index"])
    frame_labels, _ = label_by_time(scores, *matched[1:])
    is_video = (sources["media"] == "video").all()  # images have no time: nothing about events means anything
    events = report["labels"] if is_video else {}
    return {
        "set": folder.name,
        **measure_frames(scores, frame_labels),
        "promised_fpr": rule["promised_fpr"],
        "fpr_interval": [rule["fpr_interval"]["low"], rule["fpr_interval"]["high"]],
        "event_recall": events.get("event_recall"),
        "delay_s": (events.get("delay_s") or {}).get("median"),
        "false_alarms_per_hour": events.get("false_alarms_per_hour"),
        "training_s": training_s,
        "scoring_s_per_frame": report["seconds"] / report["frames"],
    }


def score_baselines(data: Path, sources: pd.DataFrame) -> pd.DataFrame:
    """Score all frames of some sources with the baselines that learn from normal frames alone.

    Args:
        data: The data of a run, which trained on the normal frames.
        sources: What to score.

    Returns:
        `source`, `frame_index`, `median_mad`, `nearest_neighbour`.
    """
    scene = TrainingScene(**json.loads((data / "05_model_input/scene.json").read_text()))
    scoring = FrameScoring("", "", scene.view, None, scene)
    images = pad.dataset(data / "03_primary/images", exclude_invalid_files=True)
    normal = read_normal_frames(images, NORMAL_FRAMES)
    neighbours = NearestNeighbour(
        Detector.load(CARRIED / BACKBONE), [*chain.from_iterable(normal.values())], MEMORY_PATCHES, seed=302
    )
    _, middle, _ = (variant for variant in neighbours.variants if variant["k"] == 1)  # one of each depth
    methods: dict[str, tuple[Baseline, Variant]] = {
        "median_mad": (MedianMad(normal), {"quantile": 0.999}),
        "nearest_neighbour": (neighbours, middle),
    }
    rows = []
    for row in list_items(sources, scoring).to_dict("records"):
        item = {str(name): value for name, value in row.items()}
        for frame in see_frames(item, scoring):
            if frame.images:
                scores = {
                    name: method.score(frame.images, [variant])[:, 0].max()
                    for name, (method, variant) in methods.items()
                }
                rows.append({"source": item["source"], "frame_index": frame.index, **scores})
    return pd.DataFrame(rows)


def measure_frames(scores: pd.DataFrame, frame_labels: pd.DataFrame) -> dict[str, Any]:
    """Measure the scores of the frames that have a label.

    Args:
        scores: `source`, `frame_index`, `is_anomalous`, and the scores `anomaly_score` and `PARTS`.
        frame_labels: The table `FRAME_LABELS`.

    Returns:
        How many frames of each class, AUROC and average precision, AUROC of the parts; and at the model's own
        threshold, the share of normal frames above it, and of abnormal ones.
    """
    frame_ids = [frame_id_of(*key) for key in scores[["source", "frame_index"]].itertuples(index=False)]
    rows = scores.assign(frame_id=frame_ids).merge(frame_labels.dropna(subset="label"), on="frame_id")
    is_abnormal = rows["label"].to_numpy(int) == ABNORMAL
    return {
        "normal_frames": int((~is_abnormal).sum()),
        "abnormal_frames": int(is_abnormal.sum()),
        "auroc": float(roc_auc_score(is_abnormal, rows["anomaly_score"])),
        "average_precision": float(average_precision_score(is_abnormal, rows["anomaly_score"])),
        **{f"{name}_auroc": _auroc(is_abnormal, rows[column]) for name, column in PARTS.items()},
        "false_alarm_frac": float(rows.loc[~is_abnormal, "is_anomalous"].mean()),
        "recall": float(rows.loc[is_abnormal, "is_anomalous"].mean()),
    }


def _auroc(is_abnormal: np.ndarray, values: pd.Series) -> float | None:
    """Measure a part on the frames that have it; None: no frame does, as motion in images."""
    known = values.notna().to_numpy()
    return float(roc_auc_score(is_abnormal[known], values[known])) if known.any() else None


def _read(table: Path) -> pd.DataFrame:
    """Read a table without its maps."""
    rows = pad.dataset(table, exclude_invalid_files=True)
    return rows.to_table(columns=[name for name in rows.schema.names if name != "anomaly_map"]).to_pandas()


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 10 else f"{value:.3f}"
    if isinstance(value, list):
        return "-".join(map(_cell, value))
    return "-" if value is None else str(value)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else DATA)
