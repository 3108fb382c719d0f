"""The videos that a run is about: a file, a folder or a glob, loaded as a table of sources.

Only names are read here; the pixels are read by Spark's workers. The table has one row per file: `source` (name),
`path`, `media` (`video` or `image`), `file_index` (an image's place in the natural name order of its folder; 0 for a
video).
"""

import glob
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset

from cygnet.errors import UserError
from cygnet.vision.swan import write_swan_video
from cygnet.vision.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES


class VideosDataset(AbstractDataset[None, pd.DataFrame]):
    """Loads the table of sources; read-only."""

    def __init__(self, *, filepath: Any, sample: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        """Describe where the videos are.

        Args:
            filepath: A video, a folder of videos or of images, or a glob.
            sample: The sample video, `filepath` and the arguments of `cygnet.vision.swan.write_swan_video`. It is
                drawn when it is what `filepath` asks for and it is not there.
            metadata: For kedro-viz.
        """
        self._filepath = str(filepath)
        self._sample = sample
        self.metadata = metadata

    def check(self) -> pd.DataFrame:
        """List the sources, drawing the sample if it is missing.

        Raises:
            UserError: The path does not exist, holds nothing usable, or two sources have one name.
        """
        sample_path = Path(self._sample["filepath"])
        if Path(self._filepath) == sample_path and not sample_path.exists():
            write_swan_video(sample_path, **{key: self._sample[key] for key in self._sample if key != "filepath"})
        return list_sources(self._filepath)

    def load(self) -> pd.DataFrame:
        """Give the table of sources; raises as `check` does."""
        return self.check()

    def save(self, data: None) -> None:
        """Refuse: videos are only read."""
        raise NotImplementedError

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


def list_sources(path: str) -> pd.DataFrame:
    """List what a path, a folder or a glob holds, as a table with one row per file.

    Raises:
        UserError: The path does not exist, holds nothing usable, or two sources have one name.
    """
    files = _list_files(path)
    videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
    folders: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        if file.suffix.lower() in IMAGE_SUFFIXES:
            folders[file.parent].append(file)
    rows = [(file.stem, str(file), "video", 0) for file in videos]
    for folder, images in folders.items():
        rows += [(folder.resolve().name, str(file), "image", index) for index, file in enumerate(images)]
    if not rows:
        suffixes = ", ".join(sorted(VIDEO_SUFFIXES)) + "; images: " + ", ".join(sorted(IMAGE_SUFFIXES))
        msg = f"video={path}: nothing usable there among {len(files)} files; videos end in {suffixes}."
        raise UserError(msg)
    _check_names([file.stem for file in videos] + [folder.resolve().name for folder in folders], path)
    return pd.DataFrame(rows, columns=["source", "path", "media", "file_index"])


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sort key by which `frame_2.png` comes before `frame_10.png`."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _list_files(path: str) -> list[Path]:
    places = [Path(path)]
    if not places[0].exists():
        places = [Path(match) for match in glob.glob(path, recursive=True)]  # noqa: PTH207 - absolute patterns too
    if not places:
        msg = f"video={path}: no such file or folder, and no file matches it as a glob."
        raise UserError(msg)
    files = {file for place in places for file in (place.iterdir() if place.is_dir() else [place])}
    return sorted(
        (file for file in files if file.is_file() and not file.name.startswith(".")),
        key=lambda file: (str(file.parent), natural_key(file), file.name),
    )


def _check_names(names: list[str], path: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"video={path}: two sources are named '{twice[0]}'; rename one, frames are told apart by that name."
        raise UserError(msg)
