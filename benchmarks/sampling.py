"""Sampling every tenth frame of a 1080p video: grabbing to the frames that are kept against reading every frame.

Ours is `cygnet.vision.video.sample_video`, with all it does besides: times by the decoded frames, the nearest frame to
each tick. The baseline is the loop in every tutorial, `VideoCapture.read()` and a counter, with the same decoder and
the same threads. Both decode the whole clip several times per turn and keep the pixels of the same frames, which is
checked.

What is saved is the conversion to BGR pixels and their copy; the codec's own work remains, since a frame can't be
decoded without those before it. So the ratio depends on the codec and on OpenCV's version, and both are printed. The
1080p video that is here is MPEG-4 Part 2: no H.264 of that size can be made with what the project installs.
"""

from pathlib import Path

import cv2
import numpy as np

from benchmarks.inputs import VIDEO, VIDEO_FRAMES_PER_S
from benchmarks.measure import Result, SkipBenchmark, compare
from cygnet.vision.video import sample_video

EVERY = 10
LOOPS = 4


def run() -> Result:
    if not VIDEO.exists():
        msg = f"{VIDEO} is not here"
        raise SkipBenchmark(msg)
    frames = _check_same_frames(VIDEO)
    return compare(
        f"sample every {EVERY}th frame, 1080p {_codec(VIDEO)}",
        lambda: [_read_all(VIDEO) for _ in range(LOOPS)],
        lambda: [_sample(VIDEO) for _ in range(LOOPS)],
        items=LOOPS * frames,
        item="frame",
        asked=2,
        repetitions=7,
    )


def _read_all(path: Path) -> tuple[int, dict[int, np.ndarray]]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    index, kept = 0, {}
    while True:
        decoded, image = capture.read()
        if not decoded:
            return index, kept
        if index % EVERY == 0:
            kept[index] = image
        index += 1


def _sample(path: Path) -> dict[int, np.ndarray | None]:
    return {sample.index: sample.image for sample in sample_video(path, EVERY / VIDEO_FRAMES_PER_S)}


def _check_same_frames(path: Path) -> int:
    (frames, read), sampled = _read_all(path), _sample(path)
    assert list(read) == list(sampled)
    assert all(np.array_equal(read[index], sampled[index]) for index in read)
    return frames


def _codec(path: Path) -> str:
    fourcc = int(cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode()
    return {"FMP4": "MPEG-4 Part 2", "h264": "H.264", "avc1": "H.264", "hevc": "H.265"}.get(fourcc, fourcc)
