"""Draws `docs/images/pipelines.svg`, every pipeline in one picture, from the pipelines themselves: `make picture`.

kedro-viz shows eighty nodes and as many tables: on a page of 900 px nobody can read them. Here a pipeline is a row:
what it reads on the left, its nodes in their order, what it stores on the right. Entries of the catalog that are one
place (`images` and `train_frames`) get one name; parameters, and what passes within a pipeline or lets it resume, are
left out. The test of this script fails when the picture is out of date.
"""

import importlib
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from kedro.framework.project import configure_project
from kedro.pipeline import Pipeline

from cygnet.pipeline_registry import register_pipelines
from cygnet.settings import CONFIG_LOADER_ARGS

PROJECT = Path(__file__).parents[1]
PICTURE = PROJECT / "docs/images/pipelines.svg"
MODELS = {"models", "deployment"}
REPORTS = {"evaluation", "reporting"}
FIGURES = "figures"
"""Stands for all entries `<name>_figure`, which one pattern of the catalog describes."""

WIDTH_PX = 900
READS_PX, STEPS_PX, WRITES_PX = (12, 184), (200, 650), (666, 892)
"""Left and right end of the three columns."""
PILL_PX, LINE_PX, GAP_PX, TEXT_LINE_PX, STEPS_PER_LINE = 20, 26, 6, 18, 3
LETTER_PX, TEXT_LETTER_PX = 6.65, 6.1
"""Width of a letter: of a monospace font at 11 px; and on the average at most, of a sans-serif one at 12 px."""

STYLE = """
svg { font: 11px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
.page { fill: #ffffff; } .ink { fill: #1f2328; } .faint { fill: #59636e; }
.card { fill: #f6f8fa; stroke: #d1d9e0; } .line { stroke: #818b98; fill: none; }
.name { font-size: 13.5px; font-weight: 600; } .head { font-size: 13px; }
.pill { font: 11px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.table { fill: #ddf4ff; stroke: #54aeff; } .model { fill: #fff1e5; stroke: #fb8f44; }
.report { fill: #fff; stroke: #d1d9e0; }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117; } .ink { fill: #f0f6fc; } .faint { fill: #9198a1; }
  .card { fill: #151b23; stroke: #3d444d; } .line { stroke: #656c76; }
  .table { fill: #051d4d; stroke: #1f6feb; } .model { fill: #3d1300; stroke: #bd561d; }
  .report { fill: #0d1117; stroke: #3d444d; }
}
"""


@dataclass(frozen=True)
class Row:
    """A pipeline: `reads` and `writes` are pairs of a name and its class, `table`, `model` or `report`."""

    name: str
    purpose: str
    reads: list[tuple[str, str]]
    steps: list[str]
    writes: list[tuple[str, str]]


def list_rows(catalog: dict[str, Any], pipelines: dict[str, Pipeline]) -> list[Row]:
    """List what the picture shows: the pipelines of a plain run, then scoring, for which they run, then the others.

    Args:
        catalog: The configuration of the catalog.
        pipelines: By name, as they are registered.
    """
    made = {_place(catalog, name) for pipeline in pipelines.values() for name in pipeline.all_outputs()}

    def shown(names: Iterable[str]) -> list[tuple[str, str]]:
        stored = [name for name in names if (entry := _entry(catalog, name)) and entry["type"] != "MemoryDataset"]
        found = {known: _class_of(_entry(catalog, known)) for known in (_name(catalog, name) for name in stored)}
        return sorted(found.items(), key=lambda item: item[1] == "report")

    rows = []
    plain = set(pipelines["__default__"].nodes)
    alone = [name for name, pipeline in pipelines.items() if not plain.issuperset(pipeline.nodes)]
    in_order = [name for name in pipelines if name not in {*alone, "__default__"}]
    for name in in_order + sorted(alone, key=lambda name: name != "scoring"):
        pipeline = pipelines[name]
        wiring = importlib.import_module(f"cygnet.pipelines.{name}.pipeline").create_pipeline
        read = [n for n in sorted(pipeline.inputs()) if _place(catalog, n) in made or _layer(catalog, n) == "raw"]
        steps = [node.short_name.replace("_", " ") for node in pipeline.nodes]
        written = [output for node in pipeline.nodes for output in node.outputs]
        rows.append(Row(name, (wiring.__doc__ or "").replace("`", "").strip(), shown(read), steps, shown(written)))
    return rows


def _entry(catalog: dict[str, Any], name: str) -> dict[str, Any]:
    is_figure = name == FIGURES or name.endswith("_figure")
    return dict(catalog["{name}_figure"] if is_figure else catalog.get(name, {}))


def _layer(catalog: dict[str, Any], name: str) -> str:
    return str(_entry(catalog, name).get("metadata", {}).get("kedro-viz", {}).get("layer", ""))


def _place(catalog: dict[str, Any], name: str) -> str:
    """Tell where an entry is: two with the same answer are one thing."""
    entry = _entry(catalog, name)
    folder = entry.get("path", "") + entry.get("filename_suffix", "")
    return str(entry.get("filepath") or folder or entry.get("alias") or entry.get("type") or name)


def _name(catalog: dict[str, Any], name: str) -> str:
    """Give the name of the first entry of the catalog that is the same thing."""
    if name.endswith("_figure"):
        return FIGURES
    return next(other for other in catalog if _place(catalog, other) == _place(catalog, name))


def _class_of(entry: dict[str, Any]) -> str:
    layer = entry.get("metadata", {}).get("kedro-viz", {}).get("layer")
    if entry["type"].endswith("ReportDataset") or layer in REPORTS:
        return "report"
    return "model" if layer in MODELS else "table"


def draw(rows: list[Row], plain: int) -> str:
    """Draw the rows as SVG.

    Args:
        rows: The pipelines.
        plain: Number of those that a plain run consists of, the first ones.
    """
    top, parts = 14.0, []
    heads = {0: "kedro run: these pipelines, in this order", plain: "each alone: kedro run --pipeline=NAME"}
    for number, row in enumerate(rows):
        if number in heads:
            parts.append(_text(READS_PX[0], top + 14, heads[number], "head faint"))
            parts.append(_legend(top) if number == 0 else "")
            top += 28
        drawn, height = _row(row, top)
        parts.append(drawn)
        if number + 1 < plain:
            parts.append(_arrow((STEPS_PX[0] + 24, top + height), (STEPS_PX[0] + 24, top + height + 12)))
        top += height + 14
    size = f'width="{WIDTH_PX}" height="{top:.0f}" viewBox="0 0 {WIDTH_PX} {top:.0f}"'
    tip = '<marker id="tip" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="6" markerHeight="6" orient="auto">'
    tip += '<path d="M0 0 6 3 0 6z" class="faint"/></marker>'
    page = f'<rect class="page" width="{WIDTH_PX}" height="{top:.0f}" rx="8"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="The pipelines of Cygnet">'
    return "\n".join([head, f"<style>{STYLE}</style><defs>{tip}</defs>{page}", *filter(None, parts), "</svg>", ""])


def _row(row: Row, top: float) -> tuple[str, float]:
    """Draw a pipeline; give it, and its height in pixels."""
    left, right = STEPS_PX
    reads, reads_px = _pills(row.reads, READS_PX, top + 8)
    writes, writes_px = _pills(row.writes, WRITES_PX, top + 8)
    letters = int((right - left - 24) / TEXT_LETTER_PX)
    lines = textwrap.wrap(row.purpose, letters, initial_indent=" " * round(1.4 * len(row.name) + 2))
    texts = [_text(left + 12, top + 20, row.name, "name ink")]
    for place, line in enumerate(lines):
        x = left + 12.0 + (9 * len(row.name) + 8 if place == 0 else 0)
        texts.append(_text(x, top + 20 + place * TEXT_LINE_PX, line.strip(), "faint"))
    below = top + 24 + len(lines) * TEXT_LINE_PX
    for place, step in enumerate(row.steps):
        x = left + 12 + place % STEPS_PER_LINE * (right - left - 16) / STEPS_PER_LINE
        texts.append(_text(x, below + place // STEPS_PER_LINE * TEXT_LINE_PX, f"{place + 1} {step}", "ink"))
    steps_px = below - top + -(-len(row.steps) // STEPS_PER_LINE) * TEXT_LINE_PX - 6
    height = max(reads_px + 10, steps_px, writes_px + 10)
    card = f'<rect class="card" x="{left}" y="{top:.1f}" width="{right - left}" height="{height:.1f}" rx="6"/>'
    ends = ((left, row.reads), (WRITES_PX[0], row.writes))
    arrows = [_arrow((x - 15, top + 18), (x, top + 18)) for x, pills in ends if pills]
    return "\n".join([card, *texts, *reads, *writes, *arrows]), height


def _pills(pills: list[tuple[str, str]], ends_px: tuple[int, int], top: float) -> tuple[list[str], float]:
    """Set pairs of a text and its class in lines, as words are set; give them, and the height in pixels."""
    x, y, drawn = float(ends_px[0]), top, []
    for text, style in pills:
        width = len(text) * LETTER_PX + 14
        if x > ends_px[0] and x + width > ends_px[1]:
            x, y = float(ends_px[0]), y + LINE_PX
        drawn.append(f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{PILL_PX}" rx="10"/>')
        drawn.append(_text(x + 7, y + 14, text, "ink pill"))
        x += width + GAP_PX
    return drawn, y - top + PILL_PX


def _legend(top: float) -> str:
    drawn, _ = _pills([(name, name) for name in ("table", "model", "report")], (704, WIDTH_PX), top)
    return "\n".join(drawn)


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style.strip()}">{escape(text)}</text>'


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    return f'<path class="line" marker-end="url(#tip)" d="M{start[0]:.1f} {start[1]:.1f} {end[0]:.1f} {end[1]:.1f}"/>'


def picture() -> str:
    """Draw the registered pipelines with the catalog of `conf/base`."""
    configure_project("cygnet")
    pipelines = register_pipelines()
    arguments: dict[str, Any] = CONFIG_LOADER_ARGS
    catalog = OmegaConfigLoader(str(PROJECT / "conf"), "base", **arguments)["catalog"]
    plain = pipelines["__default__"].nodes
    rows = list_rows(catalog, pipelines)
    return draw(rows, sum(set(pipelines[row.name].nodes) <= set(plain) for row in rows))


if __name__ == "__main__":
    PICTURE.write_text(picture())
