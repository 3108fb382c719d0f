"""Scoring every frame of a 1080p video on Spark, against decoding it and then running the detector on its images.

The baseline is the least that must be done, one after the other with all cores: `VideoCapture.read()` of every frame,
then `Scorer.score` on as many 256x256 images that are there already; its frames per second are 1 / (1 / decoding + 1 /
forward). Ours is what the pipeline does, with all that comes between: the lossy way of an ingested frame, maps, parts,
a Spark job. It can be ahead of 1x because decoding and detector run side by side. The session and the worker's model
are there from the warm-up. The video is MPEG-4 Part 2, the one kind that OpenCV's wheel writes quickly; the detector a
ViT-Tiny (12 layers, 224 px) with random weights.
"""

import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmarks.inputs import full_hd_frames
from benchmarks.measure import Result, Work, compare
from benchmarks.server import TINY, limits, random_detector
from benchmarks.session import parameters_of, spark, training_scene
from cygnet.datasets.videos import list_sources
from cygnet.model.scoring.frame_scores import FrameScoring, list_items
from cygnet.model.scoring.score_parts import ScoreParts
from cygnet.model.serving.runtimes import RUNTIMES
from cygnet.model.serving.scorer import Calibration, Scorer
from cygnet.pipelines.scoring.spark_scoring import score_items

FRAMES = 900  # 36 s: what Spark needs to start a job, near a second, is little of it


def run(frames: int = FRAMES, repetitions: int = 3) -> Result:
    """Measure a video of so many frames."""
    spark()
    runtime = RUNTIMES[parameters_of("serving")["runtime"]].make(random_detector(TINY))
    scorer = Scorer(runtime, Calibration(1.0, 0.5), training_scene(), limits())
    images = [cv2.resize(frame, (256, 256)) for frame in full_hd_frames()]
    images = [images[place % len(images)] for place in range(frames)]
    with tempfile.TemporaryDirectory() as folder:
        video, model, parts = Path(folder, "video.mp4"), Path(folder, "model"), Path(folder, "parts")
        _write_video(video, frames)
        scorer.save(model)
        return compare(
            Work("score 1080p video, ViT-Tiny at 224 px", items=frames, item="frame", target=0.8),
            lambda: _one_after_the_other(video, scorer, images),
            lambda: _ours(video, model, parts, frames),
            repetitions=repetitions,
        )


def _write_video(path: Path, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (1920, 1080))
    for place in range(frames):
        writer.write(full_hd_frames()[place % len(full_hd_frames())])
    writer.release()


def _one_after_the_other(video: Path, scorer: Scorer, images: list[np.ndarray]) -> None:
    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG)
    count = 0
    while capture.read()[0]:
        count += 1
    assert count == len(images)
    scorer.score(images)


def _ours(video: Path, model: Path, parts: Path, frames: int) -> None:
    shutil.rmtree(parts, ignore_errors=True)
    settings = FrameScoring(str(parts), str(model), "square", None, training_scene())
    items = list_items(list_sources(str(video)), settings)
    score_items(items, settings)
    assert ScoreParts(parts).item(items["key"].iloc[0]).count_rows() == frames
