"""What scoring in a worker promises: the scores of `predictions`, every frame once, and no frame twice after a kill."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from cygnet.model.scoring import frame_scores
from cygnet.model.scoring.frame_scores import (
    FrameScoring,
    SeenFrame,
    list_items,
    score_batch,
    score_item,
)
from cygnet.model.scoring.score_parts import PART, ScoreParts
from cygnet.model.serving.scorer import Scorer
from cygnet.pipelines.ingestion.views import cut_images
from cygnet.vision.codec import decode_image, decode_map, encode_jpeg, encode_png
from cygnet.vision.frame_squares import Square
from cygnet.vision.video import read_rows
from support.toys import SCENE

SLANTED = json.dumps([[[0.1, 0.05], [0.8, 0.3], [0.6, 0.9]]])
CORNER = json.dumps([[[0.3, 0], [1, 0], [1, 0.6]]])
WRITE_VIDEO = Callable[..., Path]


@pytest.fixture
def scoring(tmp_path: Path, scorer: Scorer) -> FrameScoring:
    """Give settings with the scorer in its place."""
    scorer.save(tmp_path / "parts" / "model-toy")
    return FrameScoring(
        parts_folder=str(tmp_path / "parts"),
        scorer_folder=str(tmp_path / "parts" / "model-toy"),
        view="square",
        interval_s=None,
        scene=replace(SCENE, interval_s=0.5),
    )


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a part have 8 frames and a batch 3 images, on one core; what is set in the environment is undone."""
    monkeypatch.setattr("cygnet.model.network.threads.cv2.getNumberOfCPUs", lambda: 1)
    monkeypatch.setattr(frame_scores, "PART_ROWS", 8)
    monkeypatch.setattr(frame_scores, "BATCH_IMAGES", 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def sources_of(*paths: Path, media: str = "video") -> pd.DataFrame:
    """A table of sources: videos of their own, or the images of one folder."""
    rows = [
        (path.parent.name if media == "image" else path.stem, str(path), media, index if media == "image" else 0)
        for index, path in enumerate(paths)
    ]
    return pd.DataFrame(rows, columns=["source", "path", "media", "file_index"])


def score(sources: pd.DataFrame, scoring: FrameScoring) -> pd.DataFrame:
    """Score all items that are not whole, and read their parts."""
    items = list_items(sources, scoring)
    for item in items.to_dict("records"):
        if not ScoreParts(Path(scoring.parts_folder)).item(item["key"]).is_whole():
            list(score_item(item, scoring, tasks=1))
    folders = [Path(scoring.parts_folder, key) for key in items["key"]]
    tables = [pq.read_table(path) for folder in folders for path in sorted(folder.glob("*.parquet"))]
    assert all(table.schema.equals(PART) for table in tables)
    rows = pd.concat([table.to_pandas() for table in tables], ignore_index=True)
    return rows.sort_values(["source", "frame_index"], ignore_index=True)


@pytest.mark.parametrize("area", [{}, {"region": SLANTED}, {"region": SLANTED, "ignore": CORNER}])
def test_a_frame_gets_the_score_that_it_has_in_predictions(
    area: dict[str, str],
    scene: Callable[..., np.ndarray],
    scoring: FrameScoring,
    scorer: Scorer,
    tmp_path: Path,
) -> None:
    path = tmp_path / "video.avi"
    recorded = replace(SCENE, **area)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (400, 300))
    for seed in range(20):
        writer.write(cv2.resize(scene(seed), (400, 300)))
    writer.release()
    ingested = read_rows({"source": "video", "path": str(path), "media": "video", "file_index": 0}, 0.1, 95)
    images = [next(cut_images(row, recorded))["image"] for row in ingested]
    of_predictions = scorer.score([decode_image(encode_jpeg(decode_image(image), 95)) for image in images])[0]
    scored = score(sources_of(path), replace(scoring, scene=recorded))
    assert scored["frame_index"].tolist() == list(range(20))
    assert of_predictions["anomaly_score"].std() > 0.001
    for column in ("logit_abnormal", "logit_normal", "anomaly_score"):
        np.testing.assert_allclose(scored[column], of_predictions[column], rtol=0, atol=1e-5)


def test_scores_and_maps_are_those_of_the_scorer_and_squares_are_in_the_frame(
    write_video: WRITE_VIDEO, scoring: FrameScoring
) -> None:
    scored = score(sources_of(write_video(frames=4)), scoring)
    assert scored[["width", "height"]].drop_duplicates().to_numpy().tolist() == [[96, 64]]
    squares = scored[["square_left_px", "square_top_px", "square_side_px"]]
    assert squares.drop_duplicates().to_numpy().tolist() == [[13, 0, 64]]
    assert decode_map(scored["anomaly_map"][0]).shape == (2, 2)
    assert scored["timestamp_s"].tolist() == pytest.approx([0, 0.1, 0.2, 0.3], abs=1e-3)


@pytest.mark.parametrize(("batches", "interval_s"), [(1, None), (3, None), (7, None), (4, 0.25), (6, 0.25)])
def test_scoring_that_was_killed_and_run_again_gives_what_an_undisturbed_run_gives(
    batches: int,
    interval_s: float | None,
    write_video: WRITE_VIDEO,
    scoring: FrameScoring,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scoring = replace(scoring, interval_s=interval_s, scene=replace(SCENE, interval_s=1.0))  # longer than a part
    sources = sources_of(write_video(frames=60))
    undisturbed = score(sources, replace(scoring, parts_folder=str(tmp_path / "other")))
    assert (undisturbed["motion"].notna() == (undisturbed["timestamp_s"] > 0.45)).all()
    assert undisturbed.query("timestamp_s > 1.1")["motion"].between(10, 30).all()  # 2 grey levels per frame
    seen: list[int] = []

    def score_until_killed(batch: list[SeenFrame], scorer: Scorer) -> list[dict[str, Any]]:
        if len(seen) == batches:
            raise KeyboardInterrupt
        seen.append(len(batch))
        return score_batch(batch, scorer)

    monkeypatch.setattr(frame_scores, "score_batch", score_until_killed)
    with pytest.raises(KeyboardInterrupt):
        score(sources, scoring)
    again: list[int] = []

    def score_and_count(batch: list[SeenFrame], scorer: Scorer) -> list[dict[str, Any]]:
        again.extend(frame.index for frame in batch)
        return score_batch(batch, scorer)

    monkeypatch.setattr(frame_scores, "score_batch", score_and_count)
    pd.testing.assert_frame_equal(score(sources, scoring), undisturbed, check_exact=True)
    kept = sum(seen) // 8 * 8
    assert again == undisturbed["frame_index"].tolist()[kept:]
    assert len(score(sources, scoring)) == len(undisturbed)
    assert len(again) == len(undisturbed) - kept  # what is whole is not scored again


def test_a_kill_after_the_last_part_costs_no_row_and_adds_none(
    write_video: WRITE_VIDEO, scoring: FrameScoring, tmp_path: Path
) -> None:
    sources = sources_of(write_video(frames=16), tmp_path / "missing.mp4")
    whole = score(sources, scoring)
    for key in list_items(sources, scoring)["key"]:
        Path(scoring.parts_folder, key, "_SUCCESS").unlink()
    pd.testing.assert_frame_equal(score(sources, scoring), whole, check_exact=True)


def test_images_of_a_folder_are_scored_in_groups_and_a_bad_one_keeps_its_place(
    scene: Callable[..., np.ndarray], scoring: FrameScoring, tmp_path: Path
) -> None:
    paths = [tmp_path / "lake" / f"{index}.png" for index in range(19)]
    paths[0].parent.mkdir()
    for index, path in enumerate(paths):
        path.write_bytes(encode_png(scene(index, size_px=40)))
    paths[9].write_bytes(b"no image")
    sources = sources_of(*paths, media="image")
    assert sorted(map(len, list_items(sources, scoring)["paths"])) == [3, 8, 8]
    scored = score(sources, scoring)
    assert scored["frame_index"].tolist() == list(range(19))
    assert scored["timestamp_s"].tolist() == [0.5 * index for index in range(19)]
    bad = scored[scored["reason"].notna()]
    assert bad["frame_index"].tolist() == [9]
    assert bad["reason"].iloc[0].startswith("9.png: ")
    assert bad[["anomaly_score", "square_side_px", "anomaly_map"]].isna().all(axis=None)
    assert (scored["media"] == "image").all()
    assert scored["motion"].isna().all()
    assert scored.drop(bad.index)["anomaly_score"].between(0, 1).all()


def test_a_key_changes_with_file_model_and_settings_and_with_nothing_else(
    write_video: WRITE_VIDEO, scoring: FrameScoring
) -> None:
    path = write_video()
    sources = sources_of(path)

    def key(settings: FrameScoring) -> str:
        return list_items(sources, settings)["key"].iloc[0]

    before = key(scoring)
    assert key(scoring) == before
    changes = (
        {"view": "tiles"},
        {"interval_s": 1.0},
        {"scorer_folder": "x"},
        {"scene": replace(SCENE, interval_s=2.0)},
    )
    for change in changes:
        assert key(replace(scoring, **change)) != before
    path.touch()
    assert key(scoring) != before


def test_the_highest_square_of_a_frame_counts_with_its_place_and_map(
    scene: Callable[..., np.ndarray], scorer: Scorer
) -> None:
    images = [scene(seed) for seed in range(5)]
    squares = [Square(10 * place, 0, 256) for place in range(5)]
    batch = [
        SeenFrame(0, 0.0, 256, 300, squares[:3], images[:3], [0.5, 2.5, 1.5]),
        SeenFrame(1, 0.1, reason="no"),
        SeenFrame(2, 0.2, 256, 300, squares[3:], images[3:]),
    ]
    rows = score_batch(batch, scorer)
    table, maps = scorer.score(images)
    alone = table["anomaly_score"].to_numpy()
    for row, places in ((rows[0], range(3)), (rows[2], range(3, 5))):
        best = max(places, key=lambda place: alone[place])
        assert row["anomaly_score"] == pytest.approx(alone[best], abs=1e-6)
        assert row["square_left_px"] == 10 * best
        np.testing.assert_allclose(decode_map(row["anomaly_map"]), maps[best], atol=1e-4)
    assert (rows[1]["reason"], "anomaly_score" in rows[1]) == ("no", False)
    assert [row["frame_index"] for row in rows] == [0, 1, 2]
    assert [row.get("motion") for row in rows] == [2.5, None, None]


def test_what_moves_unlike_normal_frames_raises_the_score_of_a_frame_of_video(
    scene: Callable[..., np.ndarray], scorer: Scorer
) -> None:
    high = {"normal_margins": [1e3, 1e4], "normal_distances": [1e3, 1e4]}  # neither part finds anything
    calibration = replace(scorer.calibration, score="combined", normal_motions=[0.5, 1.0, 1.5], **high)
    combined = scorer.with_calibration(calibration)
    frames = [SeenFrame(0, 0.0, 256, 256, [Square(0, 0, 256)], [scene(1)], motions) for motions in ([], [1.0], [50.0])]
    still, usual, unusual = (row["anomaly_score"] for row in score_batch(frames, combined))
    assert unusual > max(still, usual)
    assert still == pytest.approx(combined.score([scene(1)])[0]["anomaly_score"].iloc[0], abs=1e-6)


@pytest.mark.parametrize("view", ["whole", "tiles"])
def test_the_whole_frame_can_be_looked_at(view: str, write_video: WRITE_VIDEO, scoring: FrameScoring) -> None:
    scored = score(sources_of(write_video(frames=9)), replace(scoring, view=view))
    assert scored["frame_index"].tolist() == list(range(9))
    squares = scored[["square_left_px", "square_top_px", "square_side_px"]].drop_duplicates().to_numpy().tolist()
    assert all(square in {"whole": [[0, -16, 96]], "tiles": [[0, 0, 64], [32, 0, 64]]}[view] for square in squares)


def test_what_other_settings_left_is_removed(tmp_path: Path) -> None:
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
    ScoreParts(tmp_path).keep_only({"mine"})
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_is_outside_the_area_moves_neither_score_nor_map(
    scoring: FrameScoring, write_video: WRITE_VIDEO, scene: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    left = json.dumps([[[0, 0], [0.4, 0], [0.4, 1], [0, 1]]])
    recorded = replace(SCENE, region=left, crop_horizontal_bias=0.0)
    frame = cv2.resize(scene(4), (400, 300))
    for number in range(3):
        frame[:, 200:] = 80 * number  # the area ends at 160; JPEG carries a change 32 px further at most
        cv2.imwrite(str(tmp_path / f"{number}.png"), frame)
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    scored = score(sources_of(*paths, media="image"), replace(scoring, scene=recorded))
    assert len(set(scored["anomaly_score"])) == 1
    for anomaly_map in scored["anomaly_map"].map(decode_map):
        assert (anomaly_map[:, 0] > 0).all()
    right = replace(SCENE, ignore=left, crop_horizontal_bias=0.0)
    scored = score(sources_of(*paths, media="image"), replace(scoring, scene=right))
    assert len(set(scored["anomaly_score"])) == 3


def test_a_frame_of_which_nothing_is_looked_at_has_a_reason(scoring: FrameScoring, write_video: WRITE_VIDEO) -> None:
    edge = replace(SCENE, region=json.dumps([[[0.97, 0], [1, 0], [1, 1], [0.97, 1]]]))
    scored = score(sources_of(write_video(frames=3)), replace(scoring, scene=edge))
    assert scored["anomaly_score"].isna().all()
    assert scored["reason"].str.contains("leave nothing of 96x64 pixels to look at").all()
    assert len(score(sources_of(write_video(frames=3)), replace(scoring, scene=edge, view="tiles"))) == 3


def test_a_map_is_blank_outside_the_area(scoring: FrameScoring, write_video: WRITE_VIDEO) -> None:
    left = replace(SCENE, region=json.dumps([[[0, 0], [0.3, 0], [0.3, 1], [0, 1]]]))
    scored = score(sources_of(write_video(frames=2)), replace(scoring, scene=left, view="whole"))
    for anomaly_map in scored["anomaly_map"].map(decode_map):
        assert (anomaly_map[:, 0] > 0).any()
        assert (anomaly_map[:, 1] == 0).all()
