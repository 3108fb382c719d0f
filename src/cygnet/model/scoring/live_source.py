"""What is watched, and how it is read: a camera, or a folder, from where an earlier run stopped."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from cygnet.addresses import folder_name, is_url, source_name
from cygnet.model.scoring.frame_scores import FrameScoring
from cygnet.model.scoring.watch_parts import TableParts
from cygnet.parameters.watch import Watch
from cygnet.vision.live import Camera, Reader
from cygnet.vision.watched_folder import WatchedFolder


@dataclass(frozen=True)
class LiveSource:
    """An address, the number of a device, a folder, or a video file that is played in real time."""

    address: str = field(repr=False)  # with user and password, if it needs them

    @property
    def name(self) -> str:
        """Its name in tables and logs."""
        return source_name(self.address)

    @property
    def folder(self) -> str:
        """The name of the folders that it has to itself."""
        return folder_name(self.address)

    def reader(self, scores: TableParts, seeing: FrameScoring, settings: Watch, stopped: threading.Event) -> Reader:
        """Prepare to read; nothing is opened yet.

        Args:
            scores: The scores that earlier runs have stored.
            seeing: `interval_s` of videos and streams; all images are read.
            settings: `source` and `buffer_frames`.
            stopped: Ends reading once it is set.
        """
        if is_url(self.address) or not Path(self.address).is_dir():
            return Camera(
                name=self.name,
                interval_s=seeing.interval_s,
                buffer_frames=settings.buffer_frames,
                stopped=stopped,
                address=self.address,
                timeout_s=settings.source.timeout_s,
                retry_s=settings.source.retry_s,
                position=None if Path(self.address).is_file() else scores.last_position("video"),
            )
        finished, last = scores.finished_files(), scores.last_position("video")
        return WatchedFolder(
            name=self.name,
            interval_s=seeing.interval_s,
            buffer_frames=settings.buffer_frames,
            stopped=stopped,
            folder=Path(self.address),
            settle_s=settings.source.settle_s,
            image_interval_s=seeing.interval_of("image") or 0.0,
            image=scores.last_position("image", self.name),
            interrupted=None if last and last.source in {Path(name).stem for name in finished} else last,
            finished=finished,
        )
