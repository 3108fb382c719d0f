"""What the notebooks promise: they run from top to bottom on a fresh clone, show pictures, and come without outputs."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from support.project import PROJECT, copy_project

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
PICTURES = {"01_walkthrough": 9, "02_your_own_video": 4}
MOST_LINES = 20
"""Of a cell; what needs more is a function of the package."""


def code_of(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_without_outputs_and_its_cells_are_short(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in code_of(notebook):
        assert (cell.outputs, cell.execution_count) == ([], None)
        assert len(cell.source.splitlines()) <= MOST_LINES


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the notebooks, one after the other in one process: Spark and PyTorch take half a minute to start."""
    folder = tmp_path_factory.mktemp("fresh")
    project = copy_project(folder / "clone")
    (project / "notebooks").mkdir()
    books = {path.stem: nbformat.read(path, as_version=4) for path in NOTEBOOKS}
    together = nbformat.v4.new_notebook()
    for book in books.values():
        together.cells += [*book.cells, nbformat.v4.new_code_cell("%reset -f")]  # the next one finds no name of this
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KEDRO_ENV", "test")
        patched.delenv("CYGNET_DATA", raising=False)  # data in the clone, while the kernel works in `notebooks`
        client = NotebookClient(together, timeout=900, resources={"metadata": {"path": str(project / "notebooks")}})
        client.execute()
    return {"folder": folder, **books}


def outputs_of(book: Any) -> list[Any]:
    return [output for cell in code_of(book) for output in cell.outputs]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pictures"), PICTURES.items())
def test_it_runs_from_top_to_bottom_and_shows_its_pictures(executed: dict[str, Any], name: str, pictures: int) -> None:
    assert sum("image/png" in output.get("data", {}) for output in outputs_of(executed[name])) == pictures


@pytest.mark.slow
def test_the_walkthrough_shows_how_good_the_detector_is(executed: dict[str, Any]) -> None:
    tables = [
        output["data"]["text/html"]
        for output in outputs_of(executed["01_walkthrough"])
        if "text/html" in output.get("data", {})
    ]
    assert any("nearest_neighbour" in table for table in tables)


@pytest.mark.slow
def test_they_leave_nothing_in_the_folder_of_notebooks(executed: dict[str, Any]) -> None:
    assert list((executed["folder"] / "clone/notebooks").iterdir()) == []
    assert (executed["folder"] / "clone/data/test/08_reporting/report.html").is_file()


@pytest.mark.slow
def test_each_run_is_a_run_of_its_own_in_mlflow(executed: dict[str, Any]) -> None:
    said = [str(output.get("text", "")) for name in PICTURES for output in outputs_of(executed[name])]
    assert any("Step 1 of " in text for text in said)
    assert not any("already active" in text for text in said)
