"""The frames that the page shows, what the champion says about them, and the orders in which they are asked.

Pictures stay in their tables: a Parquet row group holds about 4 MB of them, and reading the one with a frame takes
milliseconds, however long the table is. Only columns without pixels are in memory.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad
from scipy.special import logit

from cygnet.errors import UserError
from cygnet.vision.codec import decode_map
from cygnet.vision.frame_squares import Square

FRAME_COLUMNS = ["frame_id", "source", "frame_index", "timestamp_s", "width", "height"]
SQUARE_COLUMNS = ["square_left_px", "square_top_px", "square_side_px"]
SCORE_COLUMNS = ["anomaly_score", "logit_abnormal", "logit_normal", *SQUARE_COLUMNS]

MOST_OVERLAY_SIDE_PX = 640
"""An overlay is smooth: the browser scales it up to the frame."""

LEAST_SCORE = 1e-9
"""A threshold of 0 or 1 has no logit."""

OVERLAY_RGB = (255, 100, 44)
OVERLAY_OPACITY = 0.7
"""Where the map is 1: what is below must stay visible. It falls with the square of the map, because 0.1-0.3,
which normal places have, would tint all of it."""


@dataclass(frozen=True)
class PageFrames:
    """The frames of the table `frames` that decoded.

    Attributes:
        table: One row per frame, by source and time; its position is the frame's number. `FRAME_COLUMNS`,
            `SCORE_COLUMNS` (null where `scores` says nothing), and where picture and map are.
        parts: The row groups of `frames`.
        score_parts: The row groups of `scores`.
        threshold: Score from which a frame is anomalous; None if no frame has a score.
    """

    table: pd.DataFrame
    parts: list[pad.Fragment]
    score_parts: list[pad.Fragment]
    threshold: float | None

    def picture(self, number: int) -> bytes:
        """Read a frame as JPEG."""
        part, row = self.table[["part", "row"]].iloc[number]
        return self.parts[part].to_table(columns=["image"])["image"][row].as_py()

    def overlay(self, number: int) -> bytes | None:
        """Draw a frame's anomaly map as a PNG with transparency, to be scaled to the frame; None where it has none."""
        row = self.table.iloc[number]
        if pd.isna(row["score_part"]):
            return None
        maps = self.score_parts[int(row["score_part"])].to_table(columns=["anomaly_map"])["anomaly_map"]
        encoded = maps[int(row["score_row"])].as_py()
        if encoded is None:
            return None
        square = Square(*(int(row[name]) for name in SQUARE_COLUMNS))
        return draw_overlay(decode_map(encoded), square, row["height"], row["width"])

    def orders(self) -> dict[str, list[int]]:
        """Give the numbers of all frames, in each order that can be chosen; the first is the page's own choice.

        `uncertain` starts with what is nearest to the threshold, in logits, and `anomalous` with the highest score.
        Frames without a score come last, in time order. Without scores there is `time` alone.
        """
        orders = {"time": list(range(len(self.table)))}
        if self.threshold is None:
            return orders
        margin = (self.table["logit_abnormal"] - self.table["logit_normal"]).to_numpy(np.float64)
        at_threshold = logit(np.clip(self.threshold, LEAST_SCORE, 1 - LEAST_SCORE))
        keys = {"uncertain": np.abs(margin - at_threshold), "anomalous": -margin}
        return {name: np.argsort(key, kind="stable").tolist() for name, key in keys.items()} | orders


def open_frames(frames: pad.Dataset, scores: pad.Dataset | None, threshold: float | None) -> PageFrames:
    """Index the frames, and the scores of the same frames: those with their name and size.

    Args:
        frames: The table `frames`.
        scores: The table `scores`; None if there is none.
        threshold: The one by which these scores were decided, 0-1; None without scores.

    Raises:
        UserError: No frame decoded.
    """
    table, parts = _index(frames, FRAME_COLUMNS)
    table = table[table["width"] > 0].sort_values(["source", "frame_index"], ignore_index=True)
    if not len(table):
        msg = "No frame of the table 'frames' decoded: run `kedro run --pipeline=ingestion` on another video."
        raise UserError(msg)
    keys = ["frame_id", "width", "height"]
    if scores is None:
        empty = dict.fromkeys([*SCORE_COLUMNS, "score_part", "score_row"], np.nan)
        return PageFrames(table.assign(**empty), parts, [], None)
    scored, score_parts = _index(scores, [*keys, *SCORE_COLUMNS])
    scored = scored.rename(columns={"part": "score_part", "row": "score_row"})
    merged = table.merge(scored, on=keys, how="left")
    return PageFrames(merged, parts, score_parts, threshold if merged["anomaly_score"].notna().any() else None)


def draw_overlay(anomaly_map: np.ndarray, square: Square, height: int, width: int) -> bytes:
    """Draw a map where its square is, more opaque where it is higher.

    Args:
        anomaly_map: `(G, G)` float32, 0-1.
        square: Its position in the frame; parts outside are cut off.
        height: Of the frame, in pixels.
        width: Of the frame, in pixels.

    Returns:
        PNG with transparency and the aspect ratio of the frame.
    """
    scale = min(MOST_OVERLAY_SIDE_PX / max(height, width), 1.0)
    drawn = np.zeros((max(round(height * scale), 1), max(round(width * scale), 1), 4), np.uint8)
    side, left, top = (
        max(round(square.side_px * scale), 1),
        round(square.left_px * scale),
        round(square.top_px * scale),
    )
    opacity = cv2.resize(anomaly_map, (side, side), interpolation=cv2.INTER_LINEAR)
    opacity = opacity[max(-top, 0) : drawn.shape[0] - top, max(-left, 0) : drawn.shape[1] - left]
    seen = drawn[max(top, 0) :, max(left, 0) :][: opacity.shape[0], : opacity.shape[1]]
    seen[..., :3] = OVERLAY_RGB[::-1]
    seen[..., 3] = np.rint(255 * OVERLAY_OPACITY * opacity**2)
    return cv2.imencode(".png", drawn)[1].tobytes()


def _index(table: pad.Dataset, columns: list[str]) -> tuple[pd.DataFrame, list[pad.Fragment]]:
    """Read columns without pixels, with the number of the row group (`part`) and the position in it (`row`)."""
    parts = [part for fragment in table.get_fragments() for part in fragment.split_by_row_group()]
    read = [part.to_table(schema=table.schema, columns=columns) for part in parts]
    rows = pa.concat_tables([table.schema.empty_table().select(columns), *read]).to_pandas()
    lengths = [len(each) for each in read]
    part_of_row = np.repeat(np.arange(len(parts)), lengths)
    return rows.assign(part=part_of_row, row=np.concatenate([np.arange(0), *map(np.arange, lengths)])), parts
