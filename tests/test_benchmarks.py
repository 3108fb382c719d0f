"""What the benchmark on real anomalies promises: figures of the labelled frames alone, and a whole run of each set."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from benchmarks import real

from cygnet.tables import FRAME_LABELS
from support.project import copy_project


def test_frames_are_measured_where_they_are_labelled() -> None:
    scores = pd.DataFrame(
        [("a", 0, 0.1, False), ("a", 1, 0.6, True), ("a", 2, 0.4, False), ("b", 0, 0.9, True), ("b", 7, 0.9, True)],
        columns=["source", "frame_index", "anomaly_score", "is_anomalous"],
    )
    scores = scores.assign(**dict.fromkeys(real.PARTS.values(), scores["anomaly_score"]))
    scores["median_mad"] *= -1
    scores["motion"] = [float("nan"), 0.3, 0.2, 0.1, 0.4]
    labels = [("a/000000", 1), ("a/000001", 1), ("a/000002", 0), ("b/000000", 0)]
    rows = pd.DataFrame([(*label, "human", "") for label in labels], columns=FRAME_LABELS.names)
    assert real.measure_frames(scores, rows) == {
        "normal_frames": 2,
        "abnormal_frames": 2,
        "auroc": 0.75,
        "average_precision": pytest.approx(5 / 6),
        "classifier_auroc": 0.75,
        "normality_auroc": 0.75,
        "motion_auroc": 0.0,
        "median_mad_auroc": 0.25,
        "nearest_neighbour_auroc": 0.75,
        "false_alarm_frac": 0.5,
        "recall": 0.5,
    }


def test_folder_without_sets_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"there is no set in it; a set is a folder with train, test and labels\.csv"):
        real.main(tmp_path)


@pytest.mark.slow
def test_every_set_is_trained_and_scored(
    tmp_path: Path,
    write_video: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KEDRO_ENV", "test")
    monkeypatch.setattr("benchmarks.project.ROOT", copy_project(tmp_path / "project"))
    for part, frames in (("train", 60), ("test", 12)):
        (tmp_path / "sets/toy" / part).mkdir(parents=True)
        write_video("video.mp4", frames).rename(tmp_path / f"sets/toy/{part}/{part}.mp4")
    named = [f"test_{index:06d},{'abnormal' if index > 5 else 'normal'},1," for index in range(12)]
    (tmp_path / "sets/toy/labels.csv").write_text("\n".join(["image_name,label,confidence,notes", *named]))
    real.main(tmp_path / "sets")
    table, _, printed = capsys.readouterr().out.partition("[")
    (measured,) = json.loads(f"[{printed}")
    assert measured["set"] == "toy"
    assert (measured["normal_frames"], measured["abnormal_frames"]) == (6, 6)
    assert 0 <= measured["event_recall"] <= 1
    assert "| toy | 6 | 6 |" in table
