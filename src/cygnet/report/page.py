"""Renders a page from a template of this package.

Everything is escaped: names of sources come from files. A number is looked up in the facts by its path, and keeps its
exact value and that path in the page (`<data value data-key>`), so a test holds each against its JSON report.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from cygnet.reports import title_of

ABSENT = Markup("&ndash;")
"""Stands for a null, and for a key that a report of an earlier version lacks."""

STYLES: dict[str, Callable[[Any], str]] = {
    "count": "{:,}".format,
    "plain": str,
    "score": "{:.3f}".format,
    "share": lambda frac: f"{100 * frac:.1f}\N{NO-BREAK SPACE}%",
    "ms": "{:,.0f} ms".format,
    "seconds": "{:,.2f} s".format,
    "px": "{:,.1f} px".format,
    "rate": "{:,.1f}".format,
    "small": "{:.2g}".format,
    "kilobytes": lambda size_bytes: f"{size_bytes / 1000:,.0f} kB",
}


def render(template: str, facts: Mapping[str, Any]) -> str:
    """Render a template; in it `say(style, *path)` shows a number of the facts, and `between` one with its interval.

    Args:
        template: A file of `templates/`.
        facts: What the page shows, nested dicts and lists.

    Returns:
        The page as HTML.
    """
    environment = Environment(
        loader=PackageLoader("cygnet.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["title_of"] = title_of
    environment.globals |= {"say": partial(say, facts), "between": partial(between, facts)}
    return environment.get_template(template).render(facts)


def say(facts: Mapping[str, Any], style: str, *path: str | int) -> Markup:
    """Show a number of the facts in one of `STYLES`; `ABSENT` where there is none.

    Args:
        facts: What the page shows.
        style: A key of `STYLES`.
        path: The keys and positions that lead to the number.
    """
    value: Any = facts
    for key in path:
        if value is None or (isinstance(value, Mapping) and key not in value):
            return ABSENT
        value = value[key]
    if value is None:
        return ABSENT
    return Markup('<data value="{}" data-key="{}">{}</data>').format(value, json.dumps(path), STYLES[style](value))


def between(facts: Mapping[str, Any], style: str, metric: str, *path: str | int) -> Markup:
    """Show a metric of the report at `path`, and after it its 95 % confidence interval."""
    low, high = (say(facts, style, *path, "intervals", metric, end) for end in ("low", "high"))
    value = say(facts, style, *path, metric)
    return Markup('{} <span class="interval">{}&ndash;{}</span>').format(value, low, high)
