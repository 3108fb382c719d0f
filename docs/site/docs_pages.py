"""What the docs site generates from the code, so that no page repeats it: parameters, reports, tables, and the API.

Parameters come from the comments of `conf/base/parameters_*.yml`, keys and columns from those of `cygnet.reports` and
`cygnet.tables`: what is written beside a value is what its reader gets.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/cygnet"
KEY = re.compile(r"(?P<indent> *)\"?(?P<key>\w+)\"?:(?: +[^#\s].*?)?(?: +# (?P<comment>.*))?$")
TYPE = re.compile(r"(?:int|float|bool|string)s?\b")
EXPERT = "--- expert: "
LONGEST_CODE = 60
"""Longer default values, such as a prompt, are shown as text."""


@dataclass
class Parameter:
    """A line of a parameter file: a value, or a section, which has no type."""

    name: str
    default: Any
    comment: str
    is_expert: bool
    notes: list[str] = field(default_factory=list)

    @property
    def facts(self) -> tuple[str, str, str, str]:
        """Read `type[, unit][, range][: meaning]`."""
        if not TYPE.match(self.comment):
            return "", "", "", self.comment
        facts, _, meaning = re.sub(r"[:;] ?", "\0", self.comment, count=1).partition("\0")
        kind, *more = facts.split(", ")
        is_range = [bool(re.match(r"[\d<>]", fact) or "|" in fact or kind.startswith("string")) for fact in more]
        unit = ", ".join(fact for fact, is_one in zip(more, is_range, strict=True) if not is_one)
        allowed = ", ".join(fact for fact, is_one in zip(more, is_range, strict=True) if is_one)
        return kind, unit, allowed, meaning


def read_parameters(file: Path) -> Iterator[Parameter]:
    """Read a parameter file, section lines included, in its order.

    Lines of comments that end in a full stop explain what follows; others go on from the line before.
    """
    values, path = yaml.safe_load(file.read_text()), [(-1, "")]
    above: list[str] = []
    is_expert, last = False, None
    for line in file.read_text().splitlines():
        text = line.strip()
        if text.startswith("# "):
            if EXPERT in text:
                is_expert, above = True, []
            else:
                above.append(text.removeprefix("# "))
            continue
        if last and above and not above[-1].endswith("."):
            last.comment, above = " ".join([last.comment, *above]), []
        match = KEY.match(line)
        if not match:
            continue
        while len(match["indent"]) <= path[-1][0]:
            path.pop()
        name = f"{path[-1][1]}.{match['key']}".lstrip(".")
        path.append((len(match["indent"]), name))
        if last:
            yield last
        last, above = Parameter(name, value_of(values, name), match["comment"] or "", is_expert, above), []
    if last:
        yield last


def value_of(values: dict[str, Any], name: str) -> Any:
    """Look up a dotted name."""
    for key in name.split("."):
        values = values[key]
    return values


def as_text(text: str) -> str:
    """Escape plain text for a cell of a Markdown table; what is in backticks stays code."""
    pieces = text.split("`")
    pieces[::2] = [re.sub(r"([\\*_\[\]<>|#{}])", r"\\\1", piece) for piece in pieces[::2]]
    pieces[1::2] = [piece.replace("|", r"\|") for piece in pieces[1::2]]
    return "`".join(pieces)


def unbroken(text: str) -> str:
    """Keep the ends of a range in one line."""
    return re.sub(
        r"([<>]=?) ", "\\1\N{NO-BREAK SPACE}", re.sub(r"(?<=\d)-(?=\d)", "\N{WORD JOINER}-\N{WORD JOINER}", text)
    )


def as_code(text: str) -> str:
    """Show as code in a cell of a Markdown table."""
    return "`{}`".format(text.replace("|", r"\|"))


def as_default(value: Any) -> str:
    """Show a value as it stands in YAML."""
    if isinstance(value, str) and len(value) > LONGEST_CODE:
        return as_text(value)
    return as_code(yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).split("\n")[0])


def table(header: str, rows: list[list[str]]) -> str:
    """Write a Markdown table; its header as `a | b | c`."""
    lines = [header, "|".join(["---"] * (header.count("|") + 1)), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def parameters_page() -> str:
    """List all parameters of `conf/base`, by file and section."""
    files = sorted(PACKAGE.parents[1].glob("conf/base/parameters_*.yml"))
    return "\n\n".join(of_file(file) for file in files)


def of_file(file: Path) -> str:
    """List the parameters of a file: those that are changed often, then the others."""
    name, parameters = file.stem.removeprefix("parameters_"), list(read_parameters(file))
    parts = [f"## {name}", f"In `conf/base/{file.name}`."]
    for is_expert, title in ((False, ""), (True, f"### {name}: for experts")):
        rows, notes = [], []
        for parameter in parameters:
            kind, unit, allowed, meaning = parameter.facts
            if parameter.is_expert != is_expert:
                continue
            if kind:
                meaning = ". ".join(filter(None, [" ".join(parameter.notes).rstrip("."), meaning]))
                facts = [as_text(fact) for fact in (kind, unit, unbroken(allowed), meaning)]
                rows.append([as_code(parameter.name), as_default(parameter.default), *facts])
            elif said := " ".join([*parameter.notes, meaning]).strip():
                notes.append(f"- {as_code(parameter.name + '.*')}: {as_text(said)}")
        if rows:
            header = "parameter | default | type | unit | range | meaning"
            parts += filter(None, [title, "\n".join(notes), table(header, rows)])
    return "\n\n".join(parts)


def comment_of(node: ast.expr | ast.stmt, lines: list[str]) -> str:
    """Give the comment behind a node, on its last line, and the lines of comment directly above it."""
    above: list[str] = []
    first = node.lineno - 2
    while lines[first].strip().startswith("# ") and not lines[first].startswith("# ---"):
        above.insert(0, lines[first].strip().removeprefix("# "))
        first -= 1
    behind = re.search(r"  # (.*)$", lines[(node.end_lineno or 0) - 1])
    return "; ".join(filter(None, [" ".join(above), behind[1] if behind else ""]))


def reports_page() -> str:
    """List the keys of the JSON reports, shape by shape."""
    source = (PACKAGE / "reports.py").read_text()
    lines = source.splitlines()
    shapes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    parts = []
    for name, shape in shapes.items():
        bases = [f"[`{base}`](#{base.lower()})" for base in map(ast.unparse, shape.bases) if base in shapes]
        keys = [statement for statement in shape.body if isinstance(statement, ast.AnnAssign)]
        rows = [
            [
                as_code(ast.unparse(key.target)),
                linked(ast.unparse(key.annotation), set(shapes)),
                as_text(comment_of(key, lines)),
            ]
            for key in keys
        ]
        more = f" It also has the keys of {' and '.join(bases)}." if bases else ""
        said = " ".join((ast.get_docstring(shape) or "").split())
        parts += [f"### {name}", f"{said}{more}", table("key | type | meaning", rows) if rows else ""]
    return "\n\n".join(filter(None, parts))


def linked(annotation: str, shapes: set[str]) -> str:
    """Write a type with links to the shapes that it names."""
    names = [name for name in re.findall(r"\w+", annotation) if name in shapes]
    links = ", ".join(f"[{name}](#{name.lower()})" for name in names)
    return as_code(annotation) if not names else f"{as_code(annotation)}: {links}"


def tables_page() -> str:
    """List the columns of the tables."""
    from cygnet.tables import TABLES, WRITTEN_BY

    source = (PACKAGE / "tables.py").read_text()
    lines = source.splitlines()
    comments = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and node.value.args:
            for column in getattr(node.value.args[0], "elts", []):
                if isinstance(column, ast.Call):
                    key = ast.unparse(node.targets[0]).lower(), ast.literal_eval(column.args[0])
                    comments[key] = comment_of(column, lines)
    parts = []
    for name, schema in TABLES.items():
        rows = []
        for column in schema:
            own = (name, column.name)
            said = comments[own if own in comments else ("predictions", column.name)]
            kind = f"{column.type} or null" if column.nullable else str(column.type)
            rows.append([as_code(column.name), kind, as_text(said)])
        parts += [
            f"### {name}",
            f"Written by the pipeline `{WRITTEN_BY[name]}`.",
            table("column | type | meaning", rows),
        ]
    return "\n\n".join(parts)


def api_pages() -> dict[str, str]:
    """Write a page in reStructuredText for each package, by its name, and `index`, which lists them."""
    pages, entries = {}, []
    for folder in sorted({file.parent for file in PACKAGE.rglob("__init__.py")}):
        package = ".".join(folder.relative_to(PACKAGE.parent).parts)
        names = sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("__"))
        sections = [heading(package, "="), f".. automodule:: {package}"]
        for name in names:
            sections += [heading(name, "-"), f".. automodule:: {package}.{name}"]
        pages[package] = "\n\n".join([*sections, ""])
        label = package.removeprefix("cygnet.")
        said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
        entries.append((f"{label} <{package}>", said.split("\n")[0]))
    tree = "\n".join([".. toctree::", "   :hidden:", "", *(f"   {entry}" for entry, _ in entries)])
    listed = "\n".join(f"* :doc:`{entry}`: {said}" for entry, said in entries)
    says = "What the docstrings say, by package. :doc:`/docs/design` explains how the packages fit together."
    pages["index"] = "\n\n".join([heading("API reference", "="), says, listed, tree, ""])
    return pages


def heading(text: str, line: str) -> str:
    """Write a heading in reStructuredText."""
    return f"{text}\n{line * len(text)}"


GENERATED: dict[str, Callable[[], str]] = {
    "parameters": parameters_page,
    "reports": reports_page,
    "tables": tables_page,
}
"""What takes the place of `<!-- site: NAME -->` in a page, by name."""
