"""What a browser makes of the pages: they fit a phone, timelines are drawn and zoom, and nothing else is fetched."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cygnet.report.pictures import jpeg_uri
from cygnet.report.run_page import describe_data, draw_pictures, write_report
from cygnet.report.scoring_page import choose_peaks, write_scoring_page
from cygnet.tables import IMAGES
from support.evaluations import toy_evaluation
from support.pages import (
    CHALLENGER,
    EVENTS,
    HOSTILE,
    IMAGES_ROWS,
    LABELS,
    NO_SUSPECTS,
    PASSED,
    SCORED,
    SCORES,
    SPANS,
    dataset,
    images_of,
    predictions_of,
    report_of,
)

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MEASURED = """<!doctype html><iframe id="shown" src="page.html" width="WIDTH" height="900" style="border: 0"></iframe>
<pre id="found"></pre><script>
const found = {};
addEventListener("load", async () => {
  const page = shown.contentWindow, root = page.document.documentElement;
  found.width = root.scrollWidth;
  found.pictures = [...page.document.images].every((image) => image.complete && image.naturalWidth > 0);
  found.cut = [...page.document.querySelectorAll(".scroll")].filter((box) => box.scrollWidth > box.clientWidth).length;
  found.count = page.document.images.length;
  found.timelines = [...page.document.querySelectorAll(".timeline .main-svg")].map((svg) => svg.clientWidth);
  found.title = page.document.title;
  found.attacked = "attacked" in page;
  if (page.Plotly) {
    const first = page.document.querySelector(".timeline");
    await page.Plotly.relayout(first, {"xaxis.range": [0.1, 0.3]});
    found.range = first.layout.xaxis.range;
    found.ticks = first.querySelectorAll(".xtick").length;
  }
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script>"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium: `apt-get install chromium`"),
]


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder on the loopback interface; give its address and the paths that are asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def look_at(page: str, width_px: int, folder: Path) -> dict[str, Any]:
    """Open a page in a browser, in a frame of this width; give what was measured in it."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    (folder / "measured.html").write_text(MEASURED.replace("WIDTH", str(width_px)))
    with served(folder) as (address, asked):
        flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--window-size=1400,1000",
            "--dump-dom",
        ]
        own = [f"--user-data-dir={folder}/profile", "--virtual-time-budget=20000"]
        done = subprocess.run(
            [str(BROWSER), *flags, *own, f"{address}/measured.html"], capture_output=True, text=True, timeout=180
        )
    assert {path for path in asked if "favicon" not in path} == {"/measured.html", "/page.html"}
    (found,) = re.findall(r'<pre id="found">(.+)</pre>', done.stdout)
    return json.loads(found)


@pytest.mark.parametrize("width_px", [400, 1280])
def test_the_report_of_a_run(width_px: int, tmp_path: Path) -> None:
    attack = HOSTILE.replace('alert("x")', "attacked = 1")
    predictions, images, evaluation = predictions_of(SCORES), images_of(SCORES), toy_evaluation(SCORES)
    rejects = pd.DataFrame({"reason": [attack], "count": [1]})
    card = describe_data(dataset(IMAGES_ROWS, IMAGES), images, rejects, NO_SUSPECTS)
    pictures = draw_pictures(predictions, images, evaluation)
    found = look_at(write_report(CHALLENGER, evaluation, PASSED, card, pictures), width_px, tmp_path)
    assert found["width"] == width_px
    assert found["pictures"]
    assert found["cut"] == 0
    assert found["count"] == 6 + sum(len(group) for group in pictures["examples"].values())
    assert not found["attacked"]


@pytest.mark.parametrize("width_px", [400, 1280])
def test_the_report_of_a_scoring_run(width_px: int, tmp_path: Path) -> None:
    picture = jpeg_uri(np.zeros((36, 64, 3), np.uint8))
    attack = "</script><script>attacked = 1</script>"
    scored = SCORED.assign(source=SCORED["source"].where(SCORED["source"] == "pond", attack))
    peaks = choose_peaks(scored, EVENTS).assign(picture=picture)
    page = write_scoring_page(report_of(scored, EVENTS, LABELS), scored, EVENTS, SPANS, peaks)
    found = look_at(page, width_px, tmp_path)
    assert found["width"] == width_px
    assert found["pictures"]
    assert found["timelines"]
    assert all(0.8 * width_px < width <= width_px for width in found["timelines"])
    assert found["range"] == [0.1, 0.3]
    assert found["ticks"] > 0
    assert not found["attacked"]
