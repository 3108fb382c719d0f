"""The input videos of a run: a file, a folder or a glob, loaded as a table of sources.

Only names are read here, pixels are read by Spark's workers. The table has one row per file: `source` (its name),
`path`, `media` (`video` or `image`), `file_index` (an image's position in the natural name order of its folder; 0 for a
video), `label` (by its folder).

A folder without videos and images of its own, but with a folder `normal` or `good`, is a labelled set, as public ones
are laid out: images in `normal` or `good` are normal, those in all other folders beside it are abnormal.
"""

import glob
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import pandas as pd
from fsspec import AbstractFileSystem

from cygnet.addresses import shown
from cygnet.datasets.base import ReadOnly
from cygnet.errors import UserError
from cygnet.progress import tracked
from cygnet.sample.video import SampleVideo
from cygnet.storage import check_access, exists, is_remote, reached
from cygnet.tables import SOURCES
from cygnet.vision.clip import Clip, write_clip
from cygnet.vision.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES

NORMAL_FOLDERS = ("normal", "good")

Entry = tuple[PurePath, bool]
"""A path, and whether it is a folder."""


class VideosDataset(ReadOnly[pd.DataFrame]):
    """Loads the table of sources."""

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
        """List the sources; render the sample video first if it is missing.

        Raises:
            UserError: The path does not exist or holds no video or image, or two sources share a name.
        """
        sample_path = self._sample["filepath"]
        if PurePath(self._filepath) == PurePath(sample_path) and not exists(sample_path):
            sample = SampleVideo(**{key: value for key, value in self._sample.items() if key != "filepath"})
            count = round(sample.duration_s * sample.frames_per_s)
            frames = tracked(sample.frames(), "Drawing the sample video", "frames", count)
            write_clip(Clip(frames, sample.frames_per_s), sample_path)
        return list_sources(self._filepath)

    def load(self) -> pd.DataFrame:
        """Give the table of sources; raises as `check` does."""
        return self.check()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


def list_sources(path: str) -> pd.DataFrame:
    """List the files of a path, a folder or a glob as a table of sources, one row per file.

    Raises:
        UserError: The path does not exist or holds no video or image, two sources share a name, or ADLS can't be
            reached.
    """
    files, is_labelled_set = _list_files(path)
    videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
    folders: dict[PurePath, list[PurePath]] = defaultdict(list)
    for file in files:
        if file.suffix.lower() in IMAGE_SUFFIXES:
            folders[file.parent].append(file)
    names = {folder: (folder.resolve() if isinstance(folder, Path) else folder).name for folder in folders}
    rows: list[tuple[str, str, str, int, str | None]] = [
        (file.stem, _path_of(file, path), "video", 0, None) for file in videos
    ]
    for folder, images in folders.items():
        label = ("normal" if _is_normal(folder) else "abnormal") if is_labelled_set else None
        rows += [(names[folder], _path_of(file, path), "image", index, label) for index, file in enumerate(images)]
    if not rows:
        suffixes = ", ".join(sorted(VIDEO_SUFFIXES)) + "; images: " + ", ".join(sorted(IMAGE_SUFFIXES))
        msg = f"video={path}: none of the {len(files)} files there is a video or an image; videos end in {suffixes}."
        raise UserError(msg)
    _check_names([file.stem for file in videos] + list(names.values()), path)
    return pd.DataFrame(rows, columns=SOURCES.names)


def natural_key(path: PurePath) -> list[tuple[int, int, str]]:
    """Sort key by which `frame_2.png` comes before `frame_10.png`."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _list_files(path: str) -> tuple[list[PurePath], bool]:
    """List the files in natural order, and tell whether they are those of a labelled set."""
    if is_remote(path):
        check_access(path)
        with reached(path) as (fs, inner):
            files, is_labelled_set = _files_of(*_remote(fs, inner))
    else:
        files, is_labelled_set = _files_of(*_local(path))
    if files is None:
        msg = f"video={shown(path)}: no such file or folder, and no file matches it as a glob."
        raise UserError(msg)
    visible = (file for file in files if not file.name.startswith("."))
    return sorted(visible, key=lambda file: (str(file.parent), natural_key(file), file.name)), is_labelled_set


def _files_of(found: list[Entry], list_folder: Callable[[PurePath], list[Entry]]) -> tuple[set[PurePath] | None, bool]:
    """Give the files that were found or lie in folders that were found, or the files of a labelled set's folders."""
    if not found:
        return None, False
    inside = [entry for path, is_folder in found if is_folder for entry in list_folder(path)]
    files = {path for path, is_folder in found + inside if not is_folder}
    folders = [path for path, is_folder in inside if is_folder and not path.name.startswith(".")]
    has_media = any(file.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES for file in files)
    if len(found) > 1 or has_media or not any(_is_normal(folder) for folder in folders):
        return files, False
    return {path for folder in folders for path, is_folder in list_folder(folder) if not is_folder}, True


def _is_normal(folder: PurePath) -> bool:
    return folder.name.lower() in NORMAL_FOLDERS


def _local(path: str) -> tuple[list[Entry], Callable[[PurePath], list[Entry]]]:
    """Find what a path or glob names, and give a function that lists a folder."""
    found = [Path(path)]
    if not found[0].exists():
        found = [Path(match) for match in glob.glob(path, recursive=True)]  # noqa: PTH207 - absolute patterns too

    def entries(paths: Iterable[Path]) -> list[Entry]:
        return [(path, path.is_dir()) for path in paths if path.is_dir() or path.is_file()]

    return entries(found), lambda folder: entries(Path(folder).iterdir())


def _remote(fs: AbstractFileSystem, path: str) -> tuple[list[Entry], Callable[[PurePath], list[Entry]]]:
    """Find what a path or glob names, as paths that start with the container's name; as `_local`."""
    try:
        found = [fs.info(path)]
    except FileNotFoundError:
        found = list(fs.glob(path, detail=True).values())

    def entries(infos: Iterable[dict[str, Any]]) -> list[Entry]:
        return [(PurePosixPath(info["name"]), info["type"] == "directory") for info in infos]

    return entries(found), lambda folder: entries(fs.ls(str(folder), detail=True))


def _path_of(file: PurePath, path: str) -> str:
    """Give the path by which workers open a file; on ADLS with the container and account of `path`."""
    if not is_remote(path):
        return str(file)
    root = "/".join(path.split("/")[:3])
    return f"{root}/{file.relative_to(file.parts[0])}"


def _check_names(names: list[str], path: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"video={path}: two sources are named '{twice[0]}': rename one, because names identify frames."
        raise UserError(msg)
