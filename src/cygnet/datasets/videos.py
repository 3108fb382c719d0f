"""The videos that a run is about: a file, a folder or a glob, loaded as a table of sources.

Only names are read here; the pixels are read by Spark's workers. The table has one row per file: `source` (name),
`path`, `media` (`video` or `image`), `file_index` (an image's place in the natural name order of its folder; 0 for a
video).
"""

import glob
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset

from cygnet.errors import UserError
from cygnet.sample.video import SampleVideo
from cygnet.storage import check_place, exists, is_remote, reached
from cygnet.vision.clip import Clip, write_clip
from cygnet.vision.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES


class VideosDataset(AbstractDataset[None, pd.DataFrame]):
    """Loads the table of sources; read-only."""

    def __init__(self, *, filepath: Any, sample: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        """Describe where the videos are.

        Args:
            filepath: A video, a folder of videos or of images, or a glob, local or on ADLS.
            sample: The sample video: its `filepath` and the fields of `cygnet.sample.video.SampleVideo`. It is
                generated if `filepath` asks for it and it is missing.
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
        sample_path = self._sample["filepath"]
        if PurePath(self._filepath) == PurePath(sample_path) and not exists(sample_path):
            sample = SampleVideo(**{key: value for key, value in self._sample.items() if key != "filepath"})
            write_clip(Clip(sample.frames(), sample.frames_per_s), sample_path)
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
        UserError: The path does not exist, holds nothing usable, or two sources have one name; ADLS can't be reached.
    """
    files = _list_files(path)
    videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
    folders: dict[PurePath, list[PurePath]] = defaultdict(list)
    for file in files:
        if file.suffix.lower() in IMAGE_SUFFIXES:
            folders[file.parent].append(file)
    names = {folder: (folder.resolve() if isinstance(folder, Path) else folder).name for folder in folders}
    rows = [(file.stem, _path_of(file, path), "video", 0) for file in videos]
    for folder, images in folders.items():
        rows += [(names[folder], _path_of(file, path), "image", index) for index, file in enumerate(images)]
    if not rows:
        suffixes = ", ".join(sorted(VIDEO_SUFFIXES)) + "; images: " + ", ".join(sorted(IMAGE_SUFFIXES))
        msg = f"video={path}: nothing usable there among {len(files)} files; videos end in {suffixes}."
        raise UserError(msg)
    _check_names([file.stem for file in videos] + list(names.values()), path)
    return pd.DataFrame(rows, columns=["source", "path", "media", "file_index"])


def natural_key(path: PurePath) -> list[tuple[int, int, str]]:
    """Sort key by which `frame_2.png` comes before `frame_10.png`."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _list_files(path: str) -> list[PurePath]:
    found = _remote_files(path) if is_remote(path) else _local_files(path)
    if found is None:
        msg = f"video={path}: no such file or folder, and no file matches it as a glob."
        raise UserError(msg)
    return sorted(
        (file for file in found if not file.name.startswith(".")),
        key=lambda file: (str(file.parent), natural_key(file), file.name),
    )


def _local_files(path: str) -> Iterable[PurePath] | None:
    places = [Path(path)]
    if not places[0].exists():
        places = [Path(match) for match in glob.glob(path, recursive=True)]  # noqa: PTH207 - absolute patterns too
    if not places:
        return None
    files = {file for place in places for file in (place.iterdir() if place.is_dir() else [place])}
    return {file for file in files if file.is_file()}


def _remote_files(path: str) -> Iterable[PurePath] | None:
    """List files as paths that start with the container's name."""
    check_place(path)
    with reached(path) as (fs, place):
        try:
            found = [fs.info(place)]
        except FileNotFoundError:
            found = list(fs.glob(place, detail=True).values())
        folders = [info["name"] for info in found if info["type"] == "directory"]
        infos = found + [info for folder in folders for info in fs.ls(folder, detail=True)]
    if not found:
        return None
    return {PurePosixPath(info["name"]) for info in infos if info["type"] == "file"}


def _path_of(file: PurePath, path: str) -> str:
    """Give the path by which workers open a file; on ADLS with the container and account that were asked for."""
    if not is_remote(path):
        return str(file)
    root = "/".join(path.split("/")[:3])
    return f"{root}/{file.relative_to(file.parts[0])}"


def _check_names(names: list[str], path: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"video={path}: two sources are named '{twice[0]}'; rename one, frames are told apart by that name."
        raise UserError(msg)
