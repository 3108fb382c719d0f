"""Sampling every tenth frame of a 1080p video: grabbing up to the frames that are kept, or reading every frame.

Ours is `cygnet.vision.video.sample_video` with everything it does: times from the decoded frames, the nearest frame to
each tick. The baseline is the loop of every tutorial, `VideoCapture.read()` and a counter, with the same decoder and
threads. Both decode the whole clip several times per turn and keep the pixels of the same frames, which is checked.

Grabbing saves the conversion to BGR pixels and their copy. The work of the codec remains, because a frame can't be
decoded without those before it; the ratio therefore depends on the codec and on OpenCV's version, and both are printed.
"""

from pathlib import Path

import cv2
import numpy as np

from benchmarks.inputs import video
from benchmarks.measure import Result, SkipBenchmark, Work, compare
from cygnet.vision.video import sample_video

EVERY = 10
LOOPS = 4


def run() -> Result:
    path = video()
    if path is None:
        msg = "set CYGNET_BENCH_VIDEO to a 1080p video"
        raise SkipBenchmark(msg)
    frames = _check_same_frames(path)
    return compare(
        Work(f"sample every {EVERY}th frame, 1080p {_codec(path)}", LOOPS * frames, "frame", 2),
        lambda: [_read_all(path) for _ in range(LOOPS)],
        lambda: [_sample(path) for _ in range(LOOPS)],
        repetitions=7,
    )


def _read_all(path: Path) -> tuple[int, dict[int, np.ndarray]]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    index = 0
    kept: dict[int, np.ndarray] = {}
    while True:
        decoded, image = capture.read()
        if not decoded:
            return index, kept
        if index % EVERY == 0:
            kept[index] = image
        index += 1


def _sample(path: Path) -> dict[int, np.ndarray]:
    frames_per_s = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FPS)
    sampled = sample_video(path, EVERY / frames_per_s)
    return {sample.index: sample.image for sample in sampled if sample.image is not None}


def _check_same_frames(path: Path) -> int:
    (frames, read), sampled = _read_all(path), _sample(path)
    assert list(read) == list(sampled)
    assert all(np.array_equal(read[index], sampled[index]) for index in read)
    return frames


def _codec(path: Path) -> str:
    fourcc = int(cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode()
    return {"FMP4": "MPEG-4 Part 2", "h264": "H.264", "avc1": "H.264", "hevc": "H.265"}.get(fourcc, fourcc)
