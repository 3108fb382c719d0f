"""A folder that is watched: images and videos are read as they arrive.

Files wait where they are, so none is left out, however long scoring takes. A file is read once it has not changed for
`settle_s`, in the order in which files were written. Images are the frames of one source, the folder; a video is a
source of its own, read at once with the times in the file. Names that begin with a dot are ignored, as uploads use them
for files that are not complete.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from cygnet.vision.live import LiveFrame, Position, Reader
from cygnet.vision.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Sample, read_samples

SHORTEST_LOOK_S, LONGEST_LOOK_S = 0.05, 1.0
"""Bounds of the time between two looks at the folder."""


@dataclass(frozen=True, order=True)
class _File:
    """A file as it was seen; files are read in this order."""

    modified_ns: int
    name: str
    size_bytes: int


@dataclass(kw_only=True)
class WatchedFolder(Reader):
    """A folder on this machine, or mounted."""

    folder: Path
    settle_s: float
    image_interval_s: float  # between two images at least, however quickly their files were written
    finished: set[str]  # names of the files that an earlier run has stored
    image: Position | None = None  # the last image
    interrupted: Position | None = None  # the last frame of the video that an earlier run has stored in part
    waits = True
    _seen: dict[str, tuple[_File, float]] = field(default_factory=dict)  # and since when it has been like that

    def read(self) -> None:
        """Read each file as it arrives."""
        segment = 0
        while not self.stopped.is_set():
            for file in self._settled():
                self.finished.add(file.name)
                written_at = datetime.fromtimestamp(file.modified_ns / 1e9, UTC)
                path = self.folder / file.name
                if path.suffix.lower() in VIDEO_SUFFIXES:
                    segment += 1
                    frames = self._video(path, segment)
                else:
                    self.image = self._after(self.image, written_at)
                    frames = self._image(path, self.image)
                for source, media, number, sample, is_last in frames:
                    finishes = file.name if is_last else None
                    self.buffer.put(LiveFrame(source, media, number, sample, written_at, finishes))
                if self.stopped.is_set():
                    return
            self.stopped.wait(min(max(self.settle_s / 2, SHORTEST_LOOK_S), LONGEST_LOOK_S))

    def _settled(self) -> list[_File]:
        """List the files that are new and have not changed for long enough."""
        try:
            found = [file for entry in os.scandir(self.folder) if (file := self._look(entry))]
        except OSError as error:
            self.lose(f"the folder can't be read ({error.strerror})")
            return []
        self.find()
        now_s = time.monotonic()
        before, self._seen = self._seen, {}
        for file in found:
            known = before.get(file.name)
            self._seen[file.name] = known if known and known[0] == file else (file, now_s)
        return sorted(file for file, since_s in self._seen.values() if now_s - since_s >= self.settle_s)

    def _is_wanted(self, entry: os.DirEntry[str]) -> bool:
        is_media = Path(entry.name).suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES
        return is_media and not entry.name.startswith(".") and entry.name not in self.finished and entry.is_file()

    def _look(self, entry: os.DirEntry[str]) -> _File | None:
        """See a file as it is; None: it is not wanted, or gone since the folder was listed."""
        try:
            state = entry.stat() if self._is_wanted(entry) else None
        except OSError:
            return None
        return _File(state.st_mtime_ns, entry.name, state.st_size) if state else None

    def _video(self, path: Path, segment: int) -> Iterator[tuple[str, str, int, Sample, bool]]:
        """Read a video, from where an earlier run stopped in it."""
        first_index = 0
        if self.interrupted and self.interrupted.source == path.stem:
            first_index, self.interrupted = self.interrupted.index + 1, None
        source = {"path": str(path), "media": "video", "file_index": 0}
        last: Sample | None = None
        for sample in read_samples(source, self.interval_s, first_index):
            if last is not None:
                yield path.stem, "video", segment, last, False
            last = sample
            if self.stopped.is_set():
                return
        if last is not None:
            yield path.stem, "video", segment, last, True

    def _image(self, path: Path, place: Position) -> Iterator[tuple[str, str, int, Sample, bool]]:
        source = {"path": str(path), "media": "image", "file_index": place.index}
        for sample in read_samples(source, None):
            yield self.name, "image", 0, replace(sample, timestamp_s=place.timestamp_s), True

    def _after(self, image: Position | None, written_at: datetime) -> Position:
        """Place an image after the one before: the time between them is that between their files."""
        if image is None:
            return Position(self.name, 0, 0.0, written_at)
        passed_s = max((written_at - image.taken_at).total_seconds(), self.image_interval_s)
        return Position(self.name, image.index + 1, image.timestamp_s + passed_s, max(written_at, image.taken_at))
