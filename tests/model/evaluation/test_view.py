"""What `evaluation.json` says of the view: for each size of frame its share and the smallest object."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.dataset as pad
import pytest

from cygnet.model.evaluation.view import describe_view
from cygnet.reports import View
from cygnet.tables import IMAGES
from support.reports import assert_conforms
from support.toys import SCENE

TOP = json.dumps([[[0, 0], [1, 0], [1, 0.5], [0, 0.5]]])


def frames(*sizes_px: tuple[int | None, int | None]) -> pad.Dataset:
    """The table `images` with frames of these sizes."""
    columns = {"width": [size[0] for size in sizes_px], "height": [size[1] for size in sizes_px]}
    rows = pa.table(
        {name: pa.array(columns.get(name, [None] * len(sizes_px)), IMAGES.field(name).type) for name in IMAGES.names}
    )
    return pad.dataset(rows)


def test_each_frame_size_is_described_once() -> None:
    view = describe_view(frames((640, 360), (640, 360), (100, 100)), replace(SCENE, view="tiles"), 16)
    assert_conforms(view, View)
    assert (view["view"], view["region"], view["ignore"]) == ("tiles", None, None)
    assert view["by_frame_size"] == {
        "100x100": {"tiles": 1, "seen_frac": 1.0, "smallest_object_px": 6.25},
        "640x360": {"tiles": 2, "seen_frac": 1.0, "smallest_object_px": 22.5},
    }


def test_a_region_is_named_and_takes_its_share() -> None:
    view = describe_view(frames((200, 100)), replace(SCENE, view="whole", region=TOP), 10)
    assert str(view["region"]).startswith("1 polygon(s)")
    assert view["by_frame_size"]["200x100"]["seen_frac"] == pytest.approx(0.5, abs=0.02)  # a row of rounding
    assert view["by_frame_size"]["200x100"]["smallest_object_px"] == 20


def test_a_table_of_an_earlier_version_has_no_sizes() -> None:
    assert describe_view(frames((None, None)), SCENE, 16)["by_frame_size"] == {}
