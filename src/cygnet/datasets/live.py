"""The catalog's entry for what is watched: an address of a camera, a device, a folder or a video file."""

from pathlib import Path
from typing import Any

from cygnet.addresses import check_address, is_url, shown, with_password
from cygnet.datasets.base import ReadOnly
from cygnet.errors import UserError
from cygnet.model.scoring.live_source import LiveSource
from cygnet.secrets import read_secret
from cygnet.storage import is_remote
from cygnet.vision.video import VIDEO_SUFFIXES

SCHEMES = ("rtsp://", "rtsps://", "http://", "https://", "rtmp://", "udp://", "srt://")

MOST_DIGITS = 4
"""Of the number of a camera: OpenCV takes no number of any size."""


class LiveSourceDataset(ReadOnly[LiveSource]):
    """Loads a handle to the source. No description, message or log has its user or password."""

    def __init__(
        self,
        *,
        source: Any,
        password_variable: str,
        password_secret: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Describe the source.

        Args:
            source: An address, the number of a device, a folder, or a video file; None: there is none.
            password_variable: Environment variable with the password of the user that an address names.
            password_secret: Scope and key, `scope/key`, of the secret that is it instead; None: the environment.
            metadata: For kedro-viz.
        """
        self._source = None if source is None else str(source)
        self._password_variable = password_variable
        self._password_secret = password_secret
        self.metadata = metadata

    def check(self) -> LiveSource:
        """Check that there is a source; a camera may be away.

        Raises:
            UserError: There is none, it is of no known kind, or the secret with the password can't be read.
        """
        source = self._source
        if not source:
            msg = "There is nothing to watch: pass --params=source=rtsp://..., a folder, a video, or 0 for a camera."
            raise UserError(msg)
        if is_url(source) and not is_remote(source):
            if not source.lower().startswith(SCHEMES):
                msg = f"source={shown(source)}: the address must start with {', '.join(SCHEMES)}."
                raise UserError(msg)
            check_address(source)
            return LiveSource(with_password(source, read_secret(self._password_variable, self._password_secret)))
        is_video = Path(source).is_file() and Path(source).suffix.lower() in VIDEO_SUFFIXES
        is_camera = source.isdecimal() and len(source) <= MOST_DIGITS
        if not (is_camera or Path(source).is_dir() or is_video):
            msg = (
                f"source={source}: it is no address, no number of a camera, and no folder or video on this machine; "
                "mount a folder that is elsewhere."
            )
            raise UserError(msg)
        return LiveSource(source)

    def load(self) -> LiveSource:
        """Give the handle; raises as `check` does."""
        return self.check()

    def _describe(self) -> dict[str, Any]:
        return {"source": None if self._source is None else shown(self._source)}
