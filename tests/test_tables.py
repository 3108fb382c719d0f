"""What the declared tables promise: a frame's id gives back its source and its index."""

import pytest

from cygnet.tables import frame_id_of, parse_frame_id


@pytest.mark.parametrize("source", ["swan", "a/b", "with space_000001", "näme"])
@pytest.mark.parametrize("frame_index", [0, 7, 999_999, 1_000_000])
def test_a_frame_id_gives_back_source_and_index(source: str, frame_index: int) -> None:
    assert parse_frame_id(frame_id_of(source, frame_index)) == (source, frame_index)


def test_a_frame_id_has_six_digits() -> None:
    assert frame_id_of("swan", 120) == "swan/000120"


def test_what_names_no_frame_is_an_error() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        parse_frame_id("swan/polygon-0")
