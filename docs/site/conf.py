"""The docs site: Sphinx over the Markdown files of the repository, which read as well on GitHub.

Sphinx with MyST and Furo, because it is kept up, needs few packages, reads the docstrings, refuses every broken link
and anchor, and its pages load nothing from a network. MkDocs and its theme have no new features any more, and pdoc
documents code alone. `make docs` builds the site into `build/site`; README.md is its first page.

Three hooks do what Markdown can't: they write the navigation, fill in what is generated (`docs_pages`), and check the
finished site (`docs_check`).
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.nodes import Node, system_message
from docutils.parsers.rst.states import Inliner
from pygments.lexers.special import TextLexer
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.errors import SphinxError

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

import docs_check  # noqa: E402 - beside this file
import docs_pages  # noqa: E402

import cygnet  # noqa: E402

project = "Cygnet"
version = cygnet.__version__
root_doc = "README"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
PAGES = {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs"}
exclude_patterns = [path.name for path in ROOT.iterdir() if path.name not in PAGES] + ["docs/site", "docs/images"]
suppress_warnings = ["misc.highlighting_failure"]  # `<container>` in YAML

myst_heading_anchors = 4
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "exclude-members": "model_config"}
python_use_unqualified_type_names = True
default_role = "code_or_link"
napoleon_use_ivar = True

html_theme = "furo"
html_title = "Cygnet"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_show_copyright = html_show_sourcelink = html_copy_source = False

NAVIGATION = {
    "Use": (
        "quick_start your_own_video labelling_by_hand labelling scoring serving reports parameters troubleshooting"
    ),
    "Understand": "how_it_works benchmarks",
    "On Databricks": "databricks",
    "Change": "adding_a_kind adding_a_backbone design api/index ../CONTRIBUTING ../CHANGELOG",
}
"""Captions of the navigation and their pages, relative to `docs/`. Every other page of `docs/` joins the first one."""


def navigation() -> str:
    """Write the tables of contents that README.md doesn't have on GitHub."""
    pages = {caption: names.split() for caption, names in NAVIGATION.items()}
    named = {name for names in pages.values() for name in names}
    pages["Use"] += sorted({page.stem for page in ROOT.glob("docs/*.md")} - named)
    entries = {caption: [f"docs/{name}".replace("docs/../", "") for name in names] for caption, names in pages.items()}
    trees = ["\n".join([f":caption: {caption}", ":hidden:", "", *names]) for caption, names in entries.items()]
    return "".join(f"\n\n```{{toctree}}\n{tree}\n```" for tree in trees)


def fill_in(_app: Sphinx, page: str, source: list[str]) -> None:
    """Add the navigation to README.md, and put what is generated in place of `<!-- site: NAME -->`."""
    source[0] = re.sub(r"<!-- site: (\w+) -->", lambda match: docs_pages.GENERATED[match[1]](), source[0])
    if page == root_doc:
        source[0] += navigation()


def write_api(_app: Sphinx) -> None:
    """Write a page for each package into `docs/api`, which git ignores: Sphinx reads files alone."""
    folder = ROOT / "docs/api"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, text in docs_pages.api_pages().items():
        (folder / f"{name}.rst").write_text(text)


def code_or_link(
    _role: str,
    raw: str,
    text: str,
    _line: int,
    inliner: Inliner,
    _options: dict[str, Any] | None = None,
    _content: list[str] | None = None,
) -> tuple[list[Node], list[system_message]]:
    """Show what docstrings have in backticks as code, and link it where it names something of the package."""
    code = nodes.literal(raw, nodes.unescape(text))
    name = nodes.unescape(text).removesuffix("()")
    if not re.fullmatch(r"[A-Za-z_][\w.]*", name):
        return [code], []
    context = inliner.document.settings.env.ref_context
    link = pending_xref(raw, code, refdomain="py", reftype="obj", reftarget=name, refexplicit=False)
    link.attributes |= {key: context[key] for key in ("py:module", "py:class") if key in context}
    return [link], []


def keep_colons(_app: Sphinx, kind: str, *about: Any) -> None:
    """Keep Napoleon from taking what is before a colon in the docstring of a value for its type."""
    if kind in {"attribute", "data", "property"}:
        about[-1][:0] = ["..", ""]  # an empty comment


def skip_fields(_app: Sphinx, _kind: str, _name: str, member: object, _skip: bool, _options: object) -> bool | None:
    """Leave out the fields of named tuples, of which Python says "Alias for field number 0"."""
    return True if type(member).__name__ == "_tuplegetter" else None


def shorten_paths(_app: Sphinx, page: nodes.document) -> None:
    """Write paths in values of constants as those of the repository, wherever it lies."""
    for text in list(page.findall(nodes.Text)):
        if f"{ROOT}/" in text:
            text.parent.replace(text, nodes.Text(text.replace(f"{ROOT}/", "")))


def finish(app: Sphinx, error: Exception | None) -> None:
    """Make README.md the page that a browser opens first, and check the site.

    Raises:
        SphinxError: A link is broken, or a page loads something from elsewhere.
    """
    if error is None and app.builder.name == "html":
        folder = Path(app.outdir)
        shutil.copy(folder / f"{root_doc}.html", folder / "index.html")
        if problems := docs_check.problems(folder):
            raise SphinxError("\n".join(problems))


def setup(app: Sphinx) -> None:
    """Connect the hooks."""
    app.add_role("code_or_link", code_or_link)
    app.add_lexer("csv", TextLexer)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)  # before Napoleon
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("builder-inited", write_api)
    app.connect("source-read", fill_in)
    app.connect("doctree-read", shorten_paths)
    app.connect("build-finished", finish)
