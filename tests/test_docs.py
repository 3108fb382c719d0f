"""What the documentation promises: links resolve, and every command, parameter and file that it names exists."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cygnet.cli import cli
from cygnet.parameters.check import PIPELINE_PARAMETERS, RUN_PARAMETERS
from cygnet.pipeline_registry import register_pipelines
from support.toys import base_parameters

PROJECT = Path(__file__).parents[1]
README, CHANGELOG = PROJECT / "README.md", PROJECT / "CHANGELOG.md"
PAGES = sorted([README, PROJECT / "CONTRIBUTING.md", *PROJECT.glob("docs/*.md")])
MOST_README_LINES = 200

FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
TARGET = re.compile(r"(?:^ *|&& )make ([a-z][a-z0-9-]*)", re.MULTILINE)
SUFFIX = r"(?:py|yml|json|md)\b"
PARAMETER = re.compile(rf"(?<![\w./])(?:{'|'.join(PIPELINE_PARAMETERS)})(?:\.(?!{SUFFIX})[a-z_]\w*)+(?:\.\*)?")
GIVEN = re.compile(r"--params=([^\"'\s]+)")
OPTION = re.compile(r"--(pipelines?|env)[= ]([a-z][a-z_,]*)")
COMMAND = re.compile(r"(?:^ *|&& )kedro ([a-z]+)", re.MULTILINE)
FILE = re.compile(r"(?:src|conf|tests|docs|benchmarks|notebooks|resources|scripts|\.ci)/[\w./-]*")
EXAMPLE_PARAMETER = "synthesis.kinds.test.glare"
"""Of the kind that docs/adding_a_kind.md adds."""


def name_of(page: Path) -> str:
    return str(page.relative_to(PROJECT))


def code(page: Path) -> list[str]:
    """Give the code of a page: its blocks and its inline spans."""
    text = page.read_text()
    return [*FENCED.findall(text), *INLINE.findall(FENCED.sub("", text))]


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def parameter_names(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Give the dotted names of all parameters, and of all sections with a `.*` behind."""
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield f"{prefix}{key}.*"
            yield from parameter_names(value, f"{prefix}{key}.")


def test_readme_has_at_most_200_lines() -> None:
    assert len(README.read_text().splitlines()) <= MOST_README_LINES


@pytest.mark.parametrize("page", [*PAGES, CHANGELOG], ids=name_of)
def test_every_relative_link_and_image_resolves(page: Path) -> None:
    links = [link for link in LINK.findall(FENCED.sub("", page.read_text())) if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert {target for piece in code(page) for target in TARGET.findall(piece)} <= targets


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_parameter_exists(page: Path) -> None:
    known = {*parameter_names(base_parameters()), *RUN_PARAMETERS, EXAMPLE_PARAMETER}
    pieces = code(page)
    assert {name for piece in pieces for name in PARAMETER.findall(piece)} <= known
    given = [item for piece in pieces for items in GIVEN.findall(piece) for item in re.findall(r"([\w.]+)=", items)]
    assert set(given) <= known


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_pipeline_environment_and_command_of_kedro_exists(page: Path) -> None:
    pieces = code(page)
    known = {
        "env": {folder.name for folder in PROJECT.glob("conf/*") if folder.is_dir()},
        "pipeline": set(register_pipelines()),
        "pipelines": set(register_pipelines()),
    }
    for option, names in (found for piece in pieces for found in OPTION.findall(piece)):
        assert set(names.split(",")) <= known[option], f"--{option}={names}"
    assert {name for piece in pieces for name in COMMAND.findall(piece)} <= {*cli.commands, "viz", "mlflow"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_exists(page: Path) -> None:
    named = [piece for piece in code(page) if FILE.fullmatch(piece)]
    mine = [name for name in named if not name.startswith("conf/local/")]
    assert [name for name in mine if not (PROJECT / name).exists()] == []


def test_the_citation_names_the_version_of_the_package() -> None:
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    package = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["version"], citation["license"]) == (package["version"], package["license"])
    assert f"## [{package['version']}]" in CHANGELOG.read_text()
