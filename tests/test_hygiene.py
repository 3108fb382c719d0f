"""What the repository promises as a whole: every package is pinned, no large file slips in, no notebook has outputs."""

import json
import re
import subprocess
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[1]
EXTRAS = ("local", "dev")
"""What `make install` installs."""
INSTALLERS = {"pip"}
MOST_BYTES = 500_000
LARGE = {
    "data/01_raw/swan.mp4": 2_000_000,
    "src/cygnet/checkpoints/cygnet-vit-tiny/model.safetensors": 6_000_000,
    "src/cygnet/checkpoints/dinov2-small/model.safetensors": 45_000_000,
}
"""Larger files that are meant to be here, and what each may take."""


def tracked(*patterns: str) -> list[Path]:
    """Give the files that git tracks."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=PROJECT, capture_output=True, check=True, text=True
    )
    return [PROJECT / name for name in listed.stdout.split("\0") if name]


def required() -> dict[str, set[str]]:
    """Walk the requirements of `make install`: every package by its canonical name, with its extras."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    waiting = [
        Requirement(text) for text in [*project["dependencies"], *(text for name in EXTRAS for text in optional[name])]
    ]
    found: dict[str, set[str]] = {}
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        extras = one.extras | {""}
        if name == canonicalize_name(project["name"]):
            waiting += [Requirement(text) for extra in one.extras for text in optional[extra]]
            continue
        new = extras - found.get(name, set())
        found.setdefault(name, set()).update(extras)
        for needed in map(Requirement, (new and distribution(name).requires) or []):
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in new):
                waiting.append(needed)
    return found


def test_every_package_that_is_installed_is_pinned_to_its_version() -> None:
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.!+]+", line)] == []
    pins = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    assert len(pins) == len(lines)
    needed = set(required()) - INSTALLERS
    assert needed - set(pins) == set()
    installed = {name: distribution(name).version.partition("+")[0] for name in needed}
    assert {name: version for name, version in installed.items() if version != pins[name]} == {}


def test_no_large_file_is_tracked() -> None:
    sizes = {path.relative_to(PROJECT).as_posix(): path.stat().st_size for path in tracked()}
    assert {name: size for name, size in sizes.items() if size > LARGE.get(name, MOST_BYTES)} == {}
    assert set(LARGE) <= set(sizes)


@pytest.mark.parametrize("notebook", tracked("*.ipynb"), ids=lambda path: path.name)
def test_a_notebook_has_no_outputs(notebook: Path) -> None:
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    for cell in cells:
        assert (cell["outputs"], cell["execution_count"]) == ([], None), "".join(cell["source"])
