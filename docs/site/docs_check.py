"""The check of the built site: every link leads somewhere, and no page loads anything from elsewhere.

Sphinx checks the links that pages write themselves. This reads the finished HTML, and so the theme's links and what is
generated too.
"""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("img", "src"), ("script", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"), ("video", "src")}
"""Tag and attribute of what a browser loads without being asked."""


class Page(HTMLParser):
    """What a page refers to: `anchors`, `links`, and the addresses that a browser loads, `loaded`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = {"", "top"}
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the references of a tag."""
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif (tag, name) in LOADED and value:
                self.loaded.append(value)
            elif (tag, name) == ("a", "href") and value:
                self.links.append(value)


def problems(folder: Path) -> list[str]:
    """Name every broken link and everything from elsewhere in the pages and style sheets of a site."""
    pages = {path: Page(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(folder)
        found += [f"{name} loads {address}" for address in page.loaded if urlsplit(address).netloc]
        for link in [*page.loaded, *page.links]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = pages[target].anchors if target in pages else {""}
            if not target.exists() or unquote(parts.fragment) not in anchors:
                found.append(f"{name} links to {link}, which is not there")
    for path in [*pages, *sorted(folder.rglob("*.css"))]:
        addresses = re.findall(r"(?:url\(|@import )\s*['\"]?((?:https?:)?//[^)'\"\s]+)", path.read_text())
        found += [f"{path.relative_to(folder)} loads {address}" for address in addresses]
    return found
