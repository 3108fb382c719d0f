"""Matches labels to frames by name: a node of ingestion and of scoring alike."""

import logging
import re
from collections import defaultdict
from pathlib import PurePath

import pandas as pd

from cygnet.errors import UserError
from cygnet.tables import FRAME_LABELS, IMAGE_LABELS, LABELS, frame_id_of

logger = logging.getLogger(__name__)

REJECT_COLUMNS = ["source", "frame_id", "image_name", "reason", "count"]


def match_labels(sources: pd.DataFrame, labels: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Find the frame that each label is about.

    A label's `image_name` is the name of an image file with or without its extension, or `<source>_<frame index, 6
    digits>`. Labels of sources that are not in this run are ignored, and counted once.

    Args:
        sources: One row per file: `source`, `path`, `media`, `file_index`.
        labels: `image_name`, `label` (`normal`, `abnormal`), `source` (`human`, `llm`).

    Returns:
        The sources as they are; `frame_id`, `label` (int), `label_source`, `image_name` of each label of this run; and
        rows of `rejects` for the labels that are of no use.

    Raises:
        UserError: One image is labelled twice, by two of its names, and differently.
    """
    frames_of_file = _frames_of_files(sources)
    names = set(sources["source"])
    series = {_series_of(file) for file in frames_of_file}
    matched, missing, others = [], [], 0
    for name, label, label_source in labels[IMAGE_LABELS.names].itertuples(index=False):
        numbered = re.fullmatch(r"(.+)_(\d{6})", name)
        if name in frames_of_file:
            frame_id = _the_one_frame(name, frames_of_file[name])
        elif numbered and numbered[1] in names:
            frame_id = frame_id_of(numbered[1], int(numbered[2]))
        elif _names_this_run(name, names, series):
            missing.append(("", "", name, "a label for an image that is not there", 1))
            continue
        else:
            others += 1
            continue
        matched.append((frame_id, LABELS[label], label_source, name))
    if others:
        logger.warning("%d labels are of sources that are not in this run: ignored.", others)
        missing.append(("", "", "", "labels of sources that are not in this run", others))
    frame_labels = pd.DataFrame(matched, columns=FRAME_LABELS.names)
    return sources, _one_per_frame(frame_labels), pd.DataFrame(missing, columns=REJECT_COLUMNS)


def _frames_of_files(sources: pd.DataFrame) -> dict[str, set[str]]:
    """Map the names of image files, with and without extension, to the `frame_id`s that bear them."""
    frames_of_file: dict[str, set[str]] = defaultdict(set)
    images = sources.loc[sources["media"] == "image", ["source", "path", "file_index"]]
    for source, path, file_index in images.to_numpy():
        for name in (PurePath(path).stem, PurePath(path).name):
            frames_of_file[name].add(frame_id_of(source, file_index))
    return frames_of_file


def _names_this_run(name: str, sources: set[str], series: set[str]) -> bool:
    """Tell whether a label that found no frame is about this run: by a source's name, or like the images' files."""
    if any(name == source or name.startswith(f"{source}_") for source in sources):
        return True
    is_numbered = re.fullmatch(r".+_\d{6}", name) is not None
    return _series_of(name) in series or (bool(series) and not is_numbered)


def _series_of(file_name: str) -> str:
    """Give what the files of one series share: `shot_` of `shot_0001.png`."""
    return re.sub(r"\d+$", "", PurePath(file_name).stem)


def _the_one_frame(name: str, frame_ids: set[str]) -> str:
    if len(frame_ids) > 1:
        first, second, *_ = sorted(frame_ids)
        msg = f"labels: {name} names both {first} and {second}; write <source>_<frame index, 6 digits> instead."
        raise UserError(msg)
    return next(iter(frame_ids))


def _one_per_frame(frame_labels: pd.DataFrame) -> pd.DataFrame:
    for frame_id, group in frame_labels.groupby("frame_id"):
        if len(set(group["label"])) > 1:
            msg = f"labels: {' and '.join(group['image_name'])} both name {frame_id} and disagree; keep one."
            raise UserError(msg)
    return frame_labels.drop_duplicates("frame_id").reset_index(drop=True)
