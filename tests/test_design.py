"""What docs/design.md promises: its tree is the code's, its tables name what there is, and the layers hold."""

import ast
import re
from pathlib import Path

import pytest

import cygnet
from cygnet.pipeline_registry import register_pipelines

PACKAGE = Path(cygnet.__file__).parent
DESIGN = (Path(__file__).parents[1] / "docs" / "design.md").read_text()
LONGEST_NODES_LINES = 200
CARRIED = {"checkpoints", "java", "conf"}  # data that the package carries, no modules


def listed_modules() -> set[str]:
    """The modules of the tree in docs/design.md, as paths below the package."""
    tree = re.search(r"```text\n(.*?)```", DESIGN, re.DOTALL)
    assert tree is not None
    folders: list[str] = []
    modules = set()
    for line in tree[1].splitlines()[1:]:  # the first line is the package itself
        depth = (len(line) - len(line.lstrip())) // 4 - 1
        for name in line.split():
            if name.endswith("/") and depth <= len(folders):
                folders[depth:] = [name]
                depth += 1
            elif name.endswith(".py") and "/" not in name:
                modules.add("".join([*folders[:depth], name]))
            else:
                break  # the description
    return modules


def test_the_tree_is_the_codes() -> None:
    modules = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py" and path.relative_to(PACKAGE).parts[0] not in CARRIED
    }
    listed = listed_modules()
    assert sorted(modules - listed) == []
    assert sorted(listed - modules) == []


def test_the_table_of_pipelines_names_each_once() -> None:
    table = DESIGN.split("| pipeline | does")[1].split("\n\n")[0]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(named) == sorted(set(register_pipelines()) - {"__default__"})


@pytest.mark.parametrize("module", sorted(PACKAGE.glob("pipelines/*/nodes.py")), ids=lambda path: path.parent.name)
def test_nodes_orchestrate_in_few_lines(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= LONGEST_NODES_LINES


def imports_of(module: Path) -> set[str]:
    """The modules that a file imports anywhere, by their first two names."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize(
    ("folder", "foreign"),
    [
        ("vision", ("kedro", "pyspark", "torch", "cygnet.model", "cygnet.datasets", "cygnet.pipelines")),
        ("sample", ("kedro", "pyspark", "torch", "cygnet.model", "cygnet.datasets", "cygnet.pipelines")),
        ("model", ("kedro", "pyspark", "cygnet.datasets", "cygnet.pipelines")),
        ("parameters", ("kedro", "pyspark", "torch", "cv2", "cygnet.model", "cygnet.datasets", "cygnet.pipelines")),
        ("report", ("kedro", "pyspark", "torch", "cygnet.datasets", "cygnet.pipelines")),
        ("endpoints", ("pyspark", "torch", "cygnet.datasets", "cygnet.pipelines")),
        ("model/network", ("cygnet.model.training", "cygnet.model.evaluation", "cygnet.model.serving")),
        ("model/serving", ("cygnet.model.training", "cygnet.model.evaluation", "cygnet.model.scoring")),
        ("model/evaluation", ("cygnet.model.training", "cygnet.model.scoring")),
        ("datasets", ("cygnet.pipelines",)),
    ],
)
def test_layers_import_downwards_only(folder: str, foreign: tuple[str, ...]) -> None:
    for module in sorted((PACKAGE / folder).rglob("*.py")):
        wrong = {name for name in imports_of(module) for other in foreign if f"{name}.".startswith(f"{other}.")}
        assert not wrong, f"{module.relative_to(PACKAGE)} imports {sorted(wrong)}"
