"""Scores frames as they come, to the rows that scoring gives for their recording.

Frames are seen, scored, smoothed and decided on by the code of scoring. What that needs of the past is kept here: the
frames of one lag for motion, the scores of `smoothing_s`, and the event that is open. All of it is forgotten where a
new segment begins, which is after a gap.
"""

from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd

from cygnet.model.evaluation.live_events import EventFinder, LiveEvent, ScoredFrame
from cygnet.model.evaluation.smoothing import SMOOTHED, smooth_scores
from cygnet.model.scoring.clips import frame_score
from cygnet.model.scoring.frame_scores import BATCH_IMAGES, FrameScoring, Row, score_batch, see_frame, with_motion
from cygnet.model.serving.scorer import Scorer
from cygnet.parameters.scoring import Scoring
from cygnet.reports import Model
from cygnet.tables import frame_id_of
from cygnet.vision.annotate import annotated_frames
from cygnet.vision.codec import encode_jpeg
from cygnet.vision.live import LiveFrame
from cygnet.vision.motion import MotionMeter
from cygnet.vision.shown import scaled_down

PICTURE_PX = 480
"""Longer side of the picture of an event."""
PICTURE_JPEG_QUALITY = 80


@dataclass(frozen=True)
class LiveScores:
    """What came of some frames."""

    rows: list[Row]  # of `cygnet.tables.WATCH_SCORES`
    certain: list[LiveEvent]  # events that have become certain
    over: list[LiveEvent]  # certain events that have ended


class LiveScorer:
    """Scores the frames of one source in their order.

    Args:
        scorer: The champion's.
        scoring: `interval_s`, `crop`, `threshold`, `smoothing_s` and `events`, as for scoring.
        model: The champion.
    """

    def __init__(self, scorer: Scorer, scoring: Scoring, model: Model) -> None:
        self.model = model
        self._scorer = scorer
        self._scoring = scoring
        self.threshold = scoring.threshold or scorer.calibration.threshold
        self.seeing = FrameScoring(
            parts_folder="",
            scorer_folder="",
            view=scoring.view or scorer.scene.view,
            interval_s=scoring.interval_s,
            scene=scorer.scene,
        )
        self._segment: tuple[str, int] | None = None
        self._forget()

    def _forget(self) -> None:
        self._meter = MotionMeter(self.seeing.scene.interval_s)
        self._recent: list[Row] = []  # unsmoothed, of the last `smoothing_s`
        self._finder = EventFinder(self.threshold, self._scoring.events)

    def score(self, frames: list[LiveFrame]) -> LiveScores:
        """Score the next frames."""
        scores = LiveScores([], [], [])
        for segment, group in groupby(frames, lambda frame: (frame.source, frame.segment)):
            if segment != self._segment:
                scores.over.extend(self.close())
                self._segment = segment
            of_segment = list(group)
            for start in range(0, len(of_segment), BATCH_IMAGES):
                self._score_segment(of_segment[start : start + BATCH_IMAGES], scores)
        return scores

    def close(self) -> list[LiveEvent]:
        """End the segment; give the event that was open, if it is certain."""
        event = self._finder.close()
        self._forget()
        return [event] if event else []

    def picture(self, event: LiveEvent) -> bytes:
        """Draw the event's peak so far, with score and abnormal region: JPEG, at most `PICTURE_PX` wide and high."""
        image, row = event.peak.shown
        frames = [(image, frame_score(row))]
        drawn = next(annotated_frames(frames, self.threshold, self.seeing.scene.area))
        return encode_jpeg(scaled_down(drawn, PICTURE_PX), PICTURE_JPEG_QUALITY)

    def _score_segment(self, frames: list[LiveFrame], scores: LiveScores) -> None:
        seen = [see_frame(frame.sample, self.seeing) for frame in frames]
        if frames[0].media == "video":
            seen = [with_motion(frame, self._meter) for frame in seen]
        rows = [
            {
                "frame_id": frame_id_of(frame.source, frame.sample.index),
                "source": frame.source,
                "media": frame.media,
                **row,
                "taken_at": frame.taken_at,
            }
            for frame, row in zip(frames, score_batch(seen, self._scorer), strict=True)
        ]
        for row in self._smoothed([row for row in rows if row["reason"] is None]):
            row["is_anomalous"] = bool(np.float32(row["anomaly_score"]) >= np.float32(self.threshold))
        scores.rows.extend(rows)
        for frame, row in zip(frames, rows, strict=True):
            if row["reason"] is None:
                self._find(frame, row, scores)

    def _smoothed(self, rows: list[Row]) -> list[Row]:
        """Smooth the scores of rows in place, by the frames before them too."""
        if not rows:
            return rows
        columns = ["source", "media", "frame_index", "timestamp_s", *SMOOTHED]
        recent = [*self._recent, *({name: row[name] for name in columns} for row in rows)]
        smoothed = smooth_scores(pd.DataFrame(recent), self._scoring.smoothing_s)[SMOOTHED].tail(len(rows))
        for row, values in zip(rows, smoothed.to_dict("records"), strict=True):
            row.update({str(name): value for name, value in values.items()})
        from_s = rows[-1]["timestamp_s"] - self._scoring.smoothing_s
        self._recent = [row for row in recent if row["timestamp_s"] > from_s]
        return rows

    def _find(self, frame: LiveFrame, row: Row, scores: LiveScores) -> None:
        scored = ScoredFrame(
            source=frame.source,
            frame_index=row["frame_index"],
            timestamp_s=row["timestamp_s"],
            taken_at=frame.taken_at,
            anomaly_score=row["anomaly_score"],
            shown=(frame.sample.image, row),
            follows_loss=frame.follows_loss,
        )
        certain, over = self._finder.add(scored)
        scores.certain.extend([certain] if certain else [])
        scores.over.extend([over] if over else [])
