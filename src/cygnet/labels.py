"""Matches labels to frames, by name, by time or by folder: nodes of ingestion and of scoring alike."""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePath

import numpy as np
import pandas as pd

from cygnet.errors import UserError
from cygnet.tables import FRAME_LABELS, IMAGE_LABELS, LABEL_RANGES, LABELS, NORMAL, frame_id_of, parse_frame_id

logger = logging.getLogger(__name__)

REJECT_COLUMNS = ["source", "frame_id", "image_name", "reason", "count"]


def match_labels(
    sources: pd.DataFrame, labels: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Find the frames that labels and folders name, and the ranges of time that are labelled.

    A label's `image_name` is the name of an image file with or without its extension, or `<source>_<frame index, 6
    digits>`. Labels of images that are not in this run are ignored, and counted once. An image that no label names has
    the label of its folder.

    Args:
        sources: The table `SOURCES`.
        labels: The table `IMAGE_LABELS` or `LABEL_RANGES`.

    Returns:
        The sources as they are; the tables `FRAME_LABELS` and `LABEL_RANGES` of this run; and rows of `rejects` for the
        labels that are of no use.

    Raises:
        UserError: One image is labelled twice, by two of its names, and differently, or a range is in a source that is
            not there.
    """
    is_ranges = "start_s" in labels
    of_images = pd.DataFrame(columns=IMAGE_LABELS.names) if is_ranges else labels
    ranges = labels if is_ranges else pd.DataFrame(columns=LABEL_RANGES.names)
    _check_sources(ranges, set(sources["source"]))
    frame_labels, rejects = _match_names(sources, of_images)
    return sources, _with_folders(frame_labels, sources), ranges, rejects


def label_by_time(
    frames: pd.DataFrame, frame_labels: pd.DataFrame, label_ranges: pd.DataFrame, label_rejects: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Label the frames that lie in a labelled range.

    Where a source has a normal range, only its ranges are known. Its other frames get null for a label: they are left
    out. Without a normal range they have the default label, as all frames without a label.

    Args:
        frames: `source`, `frame_index`, `timestamp_s` of the frames that decoded.
        frame_labels: The table `FRAME_LABELS`.
        label_ranges: The table `LABEL_RANGES`.
        label_rejects: Rows of `rejects`.

    Returns:
        `frame_labels` and `label_rejects` with what the ranges add: labels, and the ranges without a frame.
    """
    found, empty = [], []
    frames_of = dict(iter(frames.groupby("source")))
    for name, ranges in label_ranges.groupby("source"):
        source = str(name)
        of_source = frames_of.get(name, frames.head(0))
        times_s, label = of_source["timestamp_s"].to_numpy(), np.full(len(of_source), np.nan)
        for start_s, end_s, said in ranges[["start_s", "end_s", "label"]].to_numpy():
            is_inside = (times_s >= start_s) & (times_s < end_s)
            label[is_inside] = LABELS[said]
            if not is_inside.any():
                reason = "a labelled range without a frame"
                empty.append((source, "", f"{source} {start_s:g}-{end_s:g} s", reason, 1))
        is_said = ~np.isnan(label) | (ranges["label"].map(LABELS) == NORMAL).any()
        ids = [frame_id_of(source, index) for index in of_source["frame_index"].to_numpy()[is_said]]
        found.append(_frame_labels(ids, label[is_said]).assign(label_source="human", image_name=""))
    return (
        pd.concat([frame_labels, *found], ignore_index=True),
        pd.concat([label_rejects, pd.DataFrame(empty, columns=REJECT_COLUMNS)], ignore_index=True),
    )


def name_frames(sources: pd.DataFrame, frame_ids: Iterable[str]) -> list[str]:
    """Name frames such that `match_labels` finds them again: by their file if no other has its name, else by number.

    Args:
        sources: The table `SOURCES`.
        frame_ids: Of frames of these sources.

    Raises:
        UserError: Other images bear both names of a frame.
    """
    frames_of_file = frames_of_files(sources)
    images = sources.loc[sources["media"] == "image", ["source", "path", "file_index"]]
    file_of = {frame_id_of(source, index): PurePath(path).name for source, path, index in images.to_numpy()}
    names = []
    for frame_id in frame_ids:
        source, index = parse_frame_id(frame_id)
        candidates = [*filter(None, [file_of.get(frame_id)]), f"{source}_{index:06d}"]
        fitting = [name for name in candidates if frames_of_file.get(name, {frame_id}) == {frame_id}]
        if not fitting:
            msg = f"labels: other images bear the names {' and '.join(candidates)} of {frame_id}; rename their files."
            raise UserError(msg)
        names.append(fitting[0])
    return names


def _check_sources(ranges: pd.DataFrame, sources: set[str]) -> None:
    """Refuse a range in a source that is not in this run."""
    strange = ranges[~ranges["source"].isin(sources)]
    if len(strange):
        source, start_s, end_s = strange[["source", "start_s", "end_s"]].iloc[0]
        msg = (
            f"labels: the range {start_s:g}-{end_s:g} s is in the source '{source}', which is not in this run; its "
            f"sources are {', '.join(sorted(sources))}."
        )
        raise UserError(msg)


def _with_folders(frame_labels: pd.DataFrame, sources: pd.DataFrame) -> pd.DataFrame:
    """Label the images whose folder says what they are, and that have no label of their own."""
    named = sources[sources["label"].notna()]
    ids = [frame_id_of(*key) for key in named[["source", "file_index"]].itertuples(index=False)]
    by_folder = _frame_labels(ids, named["label"].map(LABELS).to_numpy()).assign(
        label_source="folder", image_name=[PurePath(path).name for path in named["path"]]
    )
    is_new = ~by_folder["frame_id"].isin(frame_labels["frame_id"])
    return pd.concat([frame_labels, by_folder[is_new]], ignore_index=True)


def _frame_labels(frame_ids: list[str], labels: np.ndarray) -> pd.DataFrame:
    """Put frames and their labels, NaN where unknown, into the first columns of `FRAME_LABELS`."""
    return pd.DataFrame({"frame_id": pd.Series(frame_ids, dtype=str), "label": pd.array(labels, dtype="Int32")})


def _match_names(sources: pd.DataFrame, labels: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find the frame that each label of an image is about; return the labels, and rows of `rejects`."""
    frames_of_file = frames_of_files(sources)
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
    frame_labels = pd.DataFrame(matched, columns=FRAME_LABELS.names).astype({"label": "Int32"})
    return _one_per_frame(frame_labels), pd.DataFrame(missing, columns=REJECT_COLUMNS)


def frames_of_files(sources: pd.DataFrame) -> dict[str, set[str]]:
    """Map the names of image files, with and without extension, to the values of `frame_id` that bear them."""
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
    """Keep one label of each frame, a person's where there is one."""
    is_human = frame_labels["label_source"] == "human"
    frame_labels = frame_labels[is_human | ~frame_labels["frame_id"].isin(frame_labels.loc[is_human, "frame_id"])]
    for frame_id, group in frame_labels.groupby("frame_id"):
        if len(set(group["label"])) > 1:
            msg = f"labels: {' and '.join(group['image_name'])} both name {frame_id} and disagree; keep one."
            raise UserError(msg)
    return frame_labels.drop_duplicates("frame_id").reset_index(drop=True)
