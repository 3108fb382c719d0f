"""What the page promises in a real browser: one key an answer, about the picture on the screen, at any width."""

import threading
from collections.abc import Iterator
from pathlib import Path
from socket import create_server

import numpy as np
import pandas as pd
import pytest
import uvicorn

from cygnet.labelling_page.server import make_app, open_catalog
from support.browser import CHROMIUM, SHIFT, Tab, open_tab
from support.page_tables import make_catalog

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"),
]
COUNT = 4000
IDLE = "typeof labels === 'object' && waiting === 0"
WIDTHS_PX = (400, 700, 880, 1600)


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    """Give the page of a video of thousands of frames, whose scores rise with time from 0.01 to 0.99."""
    catalog = make_catalog(tmp_path, {"swan": COUNT}, np.linspace(0.01, 0.99, COUNT))
    with create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(make_app(*open_catalog(catalog)), log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            with open_tab(f"http://127.0.0.1:{listening.getsockname()[1]}/") as page:
                page.wait_for(IDLE)
                yield page
        finally:
            server.should_exit = True
            thread.join()


def labelled(tmp_path: Path) -> dict[int, str]:
    """Read the file: the label of each frame that has one."""
    table = pd.read_csv(tmp_path / "labels.csv", dtype=str)
    assert set(table["source"]) <= {"human"}
    return {int(name.removeprefix("swan_")) // 4: label for name, label in table[["image_name", "label"]].to_numpy()}


def act(tab: Tab, *keys: str, modifiers: int = 0) -> None:
    """Press keys as fast as they come, then wait until they are carried out."""
    for key in keys:
        tab.press(key, modifiers)
    tab.wait_for(IDLE)


def shown(tab: Tab) -> int:
    """Give the frame on the screen, by what the picture itself is."""
    number = int(tab.value("at"))
    grey = tab.value(
        "(() => { const c = document.createElement('canvas'), p = c.getContext('2d'); c.width = c.height = 1;"
        "p.drawImage(page.picture, 0, 0, 1, 1); return p.getImageData(0, 0, 1, 1).data[0]; })()"
    )
    assert grey == pytest.approx(2 * (number % 128), abs=3)
    return number


def test_a_person_labels_frames_with_keys_ranges_and_undo(tab: Tab, tmp_path: Path) -> None:
    first = shown(tab)
    assert abs(first - COUNT / 2) < 3  # the most uncertain
    act(tab, "a", "n", "n", "a")
    made = labelled(tmp_path)
    assert list(made.values()) == ["abnormal", "normal", "normal", "abnormal"]
    assert next(iter(made)) == first
    assert all(abs(number - COUNT / 2) < 6 for number in made)

    act(tab, "u")
    assert shown(tab) == list(made)[3]
    assert list(labelled(tmp_path)) == list(made)[:3]

    here = shown(tab)
    act(tab, "s")
    assert shown(tab) != here
    act(tab, "u")
    assert shown(tab) == here
    assert len(labelled(tmp_path)) == 3

    tab.value("page.order.value = 'anomalous'; page.order.dispatchEvent(new Event('change'))")
    tab.wait_for(IDLE)
    assert shown(tab) == COUNT - 1
    act(tab, "ArrowLeft", "ArrowLeft", modifiers=SHIFT)
    act(tab, "A", modifiers=SHIFT)
    assert {number: labelled(tmp_path).get(number) for number in range(COUNT - 4, COUNT)} == {
        COUNT - 4: None,
        COUNT - 3: "abnormal",
        COUNT - 2: "abnormal",
        COUNT - 1: "abnormal",
    }
    assert shown(tab) == COUNT - 4

    left, right, top = tab.value(
        "(() => { const b = page.timeline.getBoundingClientRect(); return [b.left, b.right, b.top]; })()"
    )
    tab.click(left + 4, top + 30)
    tab.wait_for(IDLE)
    assert shown(tab) == 0
    tab.click(left + (right - left) / 4, top + 30, SHIFT)
    tab.wait_for(IDLE)
    end = shown(tab)
    assert end == pytest.approx(COUNT / 4, rel=0.02)
    act(tab, "n")
    assert {labelled(tmp_path)[number] for number in range(end + 1)} == {"normal"}
    act(tab, "u")
    assert 0 not in labelled(tmp_path)
    assert tab.value("page.message.hidden")


def test_an_answer_among_thousands_takes_no_time(tab: Tab) -> None:
    times_ms = [
        tab.value(
            "(async () => { const start = performance.now();"
            "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'n'})); await queue;"
            "return performance.now() - start; })()"
        )
        for _ in range(9)
    ]
    assert float(np.median(times_ms)) < 500


def test_the_map_is_shown_over_the_picture_until_it_is_hidden(tab: Tab) -> None:
    assert tab.value("!page.map.hidden && page.map.naturalWidth > 0")
    act(tab, "m")
    assert tab.value("page.map.hidden")


def test_a_server_that_is_gone_is_said_and_the_frame_stays(tab: Tab, tmp_path: Path) -> None:
    here = shown(tab)
    (tmp_path / "labels.csv").write_text("source,start_s,end_s,label\n")
    act(tab, "n")
    assert "labels ranges of time" in tab.value("page.message.textContent")
    assert shown(tab) == here
    tab.value("fetch = () => Promise.reject(new TypeError())")
    act(tab, "n")
    assert "does not answer" in tab.value("page.message.textContent")
    assert shown(tab) == here
    assert not tab.value("labels.size")


@pytest.mark.parametrize("width", WIDTHS_PX)
def test_everything_is_on_one_screen(tab: Tab, width: int) -> None:
    tab.resize(width, 800)
    tab.wait_for(f"innerWidth === {width}")
    boxes = tab.value(
        "[...document.querySelectorAll('figure, p:not([hidden]), canvas, button, select')].map((e) => {"
        "const b = e.getBoundingClientRect();"
        "return [b.left, b.top, b.right, b.bottom, e.scrollWidth - e.clientWidth]; })"
    )
    assert len(boxes) == 12
    for left, top, right, bottom, hidden in boxes:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= 800
        assert hidden <= 0
    assert tab.value("page.figure.clientHeight") > 300
