"""What matching labels promises beyond single frames: ranges of time, and folders."""

import pandas as pd
import pytest

from cygnet.errors import UserError
from cygnet.labels import REJECT_COLUMNS, label_by_time, match_labels, name_frames
from cygnet.tables import FRAME_LABELS, IMAGE_LABELS, SOURCES
from support.toys import label_ranges

VIDEOS = pd.DataFrame([(name, f"{name}.mp4", "video", 0, None) for name in "ab"], columns=SOURCES.names)
FRAMES = pd.DataFrame({"source": ["a"] * 10 + ["b"] * 10, "frame_index": [*range(10)] * 2}).assign(
    timestamp_s=lambda frames: frames["frame_index"] / 2
)
NO_LABELS = pd.DataFrame(columns=FRAME_LABELS.names)
NO_REJECTS = pd.DataFrame(columns=REJECT_COLUMNS)


def test_range_in_a_source_that_is_not_there_is_refused() -> None:
    told = "^labels: the range 1-2 s is in the source 'c', which is not in this run; its sources are a, b.$"
    with pytest.raises(UserError, match=told):
        match_labels(VIDEOS, label_ranges(("a", 0, 1, "normal"), ("c", 1, 2, "normal")))


def test_range_has_its_start_and_not_its_end() -> None:
    labels, rejects = label_by_time(FRAMES, NO_LABELS, label_ranges(("a", 1, 2, "abnormal")), NO_REJECTS)
    assert list(labels.columns) == FRAME_LABELS.names
    assert labels["frame_id"].tolist() == ["a/000002", "a/000003"]
    assert set(labels["label"]) == {0}
    assert rejects.empty


def test_normal_range_makes_the_rest_of_its_own_source_unknown() -> None:
    labelled = label_ranges(
        ("a", 0, 1, "normal"), ("a", 1, 2, "abnormal"), ("b", 1, 2, "abnormal"), ("b", 7, 8, "abnormal")
    )
    labels, rejects = label_by_time(FRAMES, NO_LABELS, labelled, NO_REJECTS)
    by_frame = labels.set_index("frame_id")["label"]
    assert by_frame[[f"a/{index:06d}" for index in range(4)]].tolist() == [1, 1, 0, 0]
    assert by_frame[[f"a/{index:06d}" for index in range(4, 10)]].isna().all()
    assert [frame_id for frame_id in by_frame.index if frame_id.startswith("b")] == ["b/000002", "b/000003"]
    assert rejects[["source", "image_name", "reason"]].to_numpy().tolist() == [
        ["b", "b 7-8 s", "a labelled range without a frame"]
    ]


def test_label_by_name_goes_before_the_folder() -> None:
    images = [("good", "good/1.png", "image", 0, "normal"), ("odd", "odd/2.png", "image", 0, "abnormal")]
    own = pd.DataFrame([("2", "normal", "llm")], columns=IMAGE_LABELS.names)
    _, labels, _, rejects = match_labels(pd.DataFrame(images, columns=SOURCES.names), own)
    assert labels.sort_values("frame_id").to_numpy().tolist() == [
        ["good/000000", 1, "folder", "1.png"],
        ["odd/000000", 1, "llm", "2"],
    ]
    assert rejects.empty


def test_label_of_a_person_goes_before_a_models_under_another_name() -> None:
    image = pd.DataFrame([("shots", "shots/1.png", "image", 0, None)], columns=SOURCES.names)
    own = pd.DataFrame([("1.png", "abnormal", "llm"), ("1", "normal", "human")], columns=IMAGE_LABELS.names)
    assert match_labels(image, own)[1].to_numpy().tolist() == [["shots/000000", 1, "human", "1"]]


def test_names_of_frames_find_their_frames_again() -> None:
    """Also where files are numbered like frames, but from another number on, and where two folders share names."""
    images = [
        *[("shot", f"shot/shot_{index + 1:06d}.png", "image", index, None) for index in range(3)],
        *[(name, f"{name}/{index}.png", "image", index, None) for name in ("a", "b") for index in range(2)],
    ]
    sources = pd.concat([VIDEOS.replace({"a": "film", "b": "film two"}), pd.DataFrame(images, columns=SOURCES.names)])
    frame_ids = ["film/000003", "film two/000012", "shot/000000", "shot/000002", "a/000001", "b/000001"]
    names = name_frames(sources, frame_ids)
    assert names == ["film_000003", "film two_000012", "shot_000001.png", "shot_000003.png", "a_000001", "b_000001"]
    labels = pd.DataFrame({"image_name": names, "label": "abnormal", "source": "llm"})
    _, matched, _, rejects = match_labels(sources, labels)
    assert sorted(matched["frame_id"]) == sorted(frame_ids)
    assert rejects.empty


def test_a_frame_that_no_name_can_tell_is_refused() -> None:
    images = [
        ("a", "a/1.png", "image", 0, None),
        ("b", "b/1.png", "image", 0, None),
        ("b", "b/a_000000.png", "image", 1, None),
    ]
    with pytest.raises(UserError, match=r"other images bear the names 1\.png and a_000000 of a/000000"):
        name_frames(pd.DataFrame(images, columns=SOURCES.names), ["a/000000"])
