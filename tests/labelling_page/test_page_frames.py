"""What the page's frames promise: what tells most is asked first, and each picture and map is where it belongs."""

import time
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cygnet.datasets.table import TableDataset
from cygnet.errors import UserError
from cygnet.labelling_page.frames import PageFrames, draw_overlay, open_frames
from cygnet.tables import FRAMES
from cygnet.vision.codec import decode_image
from cygnet.vision.frame_squares import Square
from support.page_tables import HEIGHT_PX, THRESHOLD, WIDTH_PX, frame_rows, make_catalog

SCORES = np.array([0.08, 0.55, 0.9, 0.45, 0.2])


NAMES = ("frames", "scores")


def opened(folder: Path, scores: bool = True) -> PageFrames:
    """Open the tables of a folder, without Spark."""
    frames, of_frames = (TableDataset(filepath=str(folder / name), table=name, load_as="arrow") for name in NAMES)
    return open_frames(frames.load(), *((of_frames.load(), THRESHOLD) if scores else (None, None)))


def test_uncertain_frames_come_first_then_certain_ones(tmp_path: Path) -> None:
    make_catalog(tmp_path, {"swan": 5}, SCORES)
    frames = opened(tmp_path)
    assert frames.threshold == THRESHOLD
    orders = frames.orders()
    assert list(orders) == ["uncertain", "anomalous", "time"]
    assert orders["uncertain"] == [1, 3, 4, 2, 0]
    assert orders["anomalous"] == [2, 1, 3, 4, 0]


@pytest.mark.parametrize(("threshold", "first"), [(0.0, 0), (0.75, 1), (1.0, 2)])
def test_uncertain_is_what_is_near_the_threshold_wherever_the_scores_are(
    threshold: float, first: int, tmp_path: Path
) -> None:
    catalog = make_catalog(tmp_path, {"swan": 3}, np.array([0.1, 0.55, 0.98]))
    tables = [TableDataset(filepath=catalog[name].folder, table=name, load_as="arrow").load() for name in NAMES]
    frames = open_frames(*tables, threshold)
    assert frames.threshold == threshold
    assert frames.orders()["uncertain"][0] == first


def test_without_scores_frames_come_in_the_order_of_time(tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path, {"swan": 3, "duck": 2})
    catalog["frames"].save(frame_rows({"swan": 3, "duck": 2}).sample(frac=1, random_state=0))
    frames = opened(tmp_path, scores=False)
    assert frames.orders() == {"time": [0, 1, 2, 3, 4]}
    assert frames.table["frame_id"].tolist() == [
        "duck/000000",
        "duck/000004",
        "swan/000000",
        "swan/000004",
        "swan/000008",
    ]
    assert frames.overlay(0) is None


def test_frames_that_failed_are_not_asked(tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path, {"swan": 3})
    broken = frame_rows({"swan": 3})
    broken.loc[1, ["width", "height", "image", "reason"]] = [0, 0, None, "truncated"]
    catalog["frames"].save(broken)
    frames = opened(tmp_path, scores=False)
    assert frames.table["frame_index"].tolist() == [0, 8]
    catalog["frames"].save(broken.loc[[1]])
    with pytest.raises(UserError, match="No frame"):
        opened(tmp_path, scores=False)


def test_scores_of_another_video_of_that_name_say_nothing(tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path, {"swan": 5}, SCORES)
    catalog["frames"].save(frame_rows({"swan": 5}).assign(width=2 * WIDTH_PX))
    frames = opened(tmp_path)
    assert list(frames.orders()) == ["time"]
    assert frames.threshold is None


def test_each_number_has_its_own_picture_in_whatever_row_group(tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path, {"swan": 90})
    rows = frame_rows({"swan": 90}).sample(frac=1, random_state=0)
    table = pa.Table.from_pandas(rows, schema=FRAMES, preserve_index=False)
    catalog["frames"]._remove()
    (tmp_path / "frames").mkdir()
    for part in range(3):
        pq.write_table(
            table[30 * part : 30 * part + 30], tmp_path / "frames" / f"part-{part}.parquet", row_group_size=7
        )
    catalog["frames"]._commit()
    frames = opened(tmp_path, scores=False)
    assert len(frames.parts) == 15
    for number in (0, 1, 44, 89):
        assert decode_image(frames.picture(number)).mean() == pytest.approx(2 * number, abs=2)


def test_the_map_lies_on_its_square_and_shows_what_is_below() -> None:
    anomaly_map = np.zeros((4, 4), np.float32)
    anomaly_map[:2, :2] = 1
    drawn = cv2.imdecode(
        np.frombuffer(draw_overlay(anomaly_map, Square(32, 0, 64), HEIGHT_PX, WIDTH_PX), np.uint8), cv2.IMREAD_UNCHANGED
    )
    assert drawn.shape == (HEIGHT_PX, WIDTH_PX, 4)
    opacity = drawn[..., 3]
    assert not opacity[:, :31].any()
    assert 100 < opacity[4, 36] < 200
    assert not opacity[40:, 72:].any()


@pytest.mark.parametrize("square", [Square(-40, 0, 180), Square(0, -58, 180)], ids=["wide", "tall"])
def test_a_square_that_extends_beyond_the_frame_is_cut_off(square: Square) -> None:
    shape = (180, 100) if square.left_px else (64, 180)
    drawn = cv2.imdecode(
        np.frombuffer(draw_overlay(np.eye(2, dtype=np.float32), square, *shape), np.uint8), cv2.IMREAD_UNCHANGED
    )
    assert drawn.shape == (*shape, 4)
    assert drawn[..., 3].any()


def test_thousands_of_frames_open_and_show_at_once(tmp_path: Path) -> None:
    count = 10_000
    make_catalog(tmp_path, {"swan": count}, np.linspace(0.01, 0.99, count))
    start_s = time.perf_counter()
    frames = opened(tmp_path)
    orders = frames.orders()
    assert time.perf_counter() - start_s < 5
    assert sorted(orders["uncertain"]) == list(range(count))
    start_s = time.perf_counter()
    for number in range(0, count, 1000):
        frames.picture(number)
        frames.overlay(number)
    assert (time.perf_counter() - start_s) / 10 < 0.5
