"""What the picture of the pipelines promises: it is that of the pipelines of today, and shows each of them."""

from xml.etree import ElementTree

import pytest
from scripts.pipelines_picture import PICTURE, WIDTH_PX, picture

from cygnet.pipeline_registry import register_pipelines

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def drawn() -> str:
    return picture()


def test_the_committed_picture_is_up_to_date(drawn: str) -> None:
    assert PICTURE.read_text() == drawn, "make picture"


def test_it_shows_every_pipeline_with_its_nodes_in_order(drawn: str) -> None:
    texts = [text.text or "" for text in ElementTree.fromstring(drawn).iter(f"{SVG}text")]  # noqa: S314 - our own
    for name, pipeline in register_pipelines().items():
        if name != "__default__":
            at = texts.index(name)
            steps = [f"{place} {node.short_name.replace('_', ' ')}" for place, node in enumerate(pipeline.nodes, 1)]
            assert [text for text in texts[at:] if text in steps][: len(steps)] == steps


def test_one_place_has_one_name_and_nothing_leaves_the_page(drawn: str) -> None:
    root = ElementTree.fromstring(drawn)  # noqa: S314
    pills = [text.text for text in root.iter(f"{SVG}text") if "pill" in text.get("class", "")]
    assert {"images", "champion", "figures", "scores"} <= set(pills)
    assert not {"train_frames", "incumbent", "calibrated_champion", "stored_frames", "roc_figure", "fitted"} & set(
        pills
    )
    ends = [float(box.get("x", 0)) + float(box.get("width", 0)) for box in root.iter(f"{SVG}rect")]
    assert max(ends) <= WIDTH_PX
