"""What kedro-viz makes of the project, on a server and as a static site."""

import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from kedro.config import OmegaConfigLoader
from kedro.pipeline.node import Node
from kedro_viz.data_access.managers import DataAccessManager
from kedro_viz.integrations.kedro.data_loader import load_data
from kedro_viz.models.flowchart.node_metadata import TaskNodeMetadata
from kedro_viz.models.flowchart.nodes import DataNode, TaskNode
from kedro_viz.server import populate_data

from cygnet.datasets.table import TableDataset
from cygnet.pipeline_registry import register_pipelines
from cygnet.settings import CONFIG_LOADER_ARGS
from support.browser import CHROMIUM, open_tab
from support.project import PROJECT, copy_project

TAGS = {"spark", "gpu", "report", "registry"}
PIPELINES = register_pipelines()
NODES = [(name, node) for name, pipeline in PIPELINES.items() if name != "__default__" for node in pipeline.nodes]


@pytest.fixture(scope="module")
def viz() -> DataAccessManager:
    """Load the project as kedro-viz does when it starts."""
    manager = DataAccessManager()
    with pytest.MonkeyPatch.context() as patched:
        for reader in ("load", "preview", "_first_rows", "_open"):
            patched.setattr(TableDataset, reader, lambda *_, **__: pytest.fail("a table was read"))
        populate_data(manager, *load_data(PROJECT))
        for name in PIPELINES:
            manager.create_modular_pipelines_tree_for_registered_pipeline(name)
    return manager


def test_the_layers_have_an_order(viz: DataAccessManager) -> None:
    """A layer that feeds one before it makes kedro-viz draw no layer at all, without a word."""
    for name in ("calibration", "adaptation"):
        assert viz.get_sorted_layers_for_registered_pipeline(name)[-2:] == ["models", "deployment"]
    assert all(viz.get_sorted_layers_for_registered_pipeline(name) for name in PIPELINES)
    assert viz.get_sorted_layers_for_registered_pipeline("__default__") == [
        "raw",
        "intermediate",
        "primary",
        "feature",
        "model input",
        "model output",
        "evaluation",
        "models",
        "deployment",
        "reporting",
    ]


def test_a_plain_run_opens_as_its_five_pipelines(viz: DataAccessManager) -> None:
    tree = viz.create_modular_pipelines_tree_for_registered_pipeline("__default__")
    assert set(tree) == {"__root__", "ingestion", "synthesis", "augmentation", "training", "serving"}


def test_every_node_says_in_its_panel_what_it_does(viz: DataAccessManager) -> None:
    tasks = [node for node in viz.nodes.as_list() if isinstance(node, TaskNode)]
    assert {task.name for task in tasks} == {node.short_name for _, node in NODES}
    for task in tasks:
        preview = TaskNodeMetadata(task_node=task).preview
        assert task.name.isidentifier()
        assert preview is not None
        assert preview["content"].endswith(".")


def test_every_stored_dataset_has_a_layer(viz: DataAccessManager) -> None:
    stored = [node for node in viz.nodes.as_list() if isinstance(node, DataNode)]
    assert [
        node.name for node in stored if node.layer is None and node.dataset_type != "io.memory_dataset.MemoryDataset"
    ] == []


def entry_of(name: str) -> dict[str, Any]:
    """Give what the catalog says of a dataset; nothing for one that it does not name."""
    entry = CATALOG["{name}_figure"] if name.endswith("_figure") else CATALOG.get(name)
    return entry or {}


CATALOG = OmegaConfigLoader(str(PROJECT / "conf"), "base", **CONFIG_LOADER_ARGS)["catalog"]


def is_spark(entry: dict[str, Any]) -> bool:
    return entry.get("type", "").endswith(".TableDataset") and entry.get("load_as", "spark") == "spark"


@pytest.mark.parametrize(("name", "node"), NODES, ids=[node.name for _, node in NODES])
def test_the_tags_are_the_pipeline_and_what_the_wiring_says(name: str, node: Node) -> None:
    written = [entry_of(output) for output in node.outputs]
    types = {entry.get("type", "").rpartition(".")[2] for entry in written}
    assert node.tags <= {name, *TAGS}
    assert name in node.tags
    assert ("spark" in node.tags) == any(is_spark(entry_of(passed)) for passed in (*node.inputs, *node.outputs))
    assert ("registry" in node.tags) == bool(types & {"RegisteredModelDataset", "VersionTagsDataset"})
    assert ("report" in node.tags) == any(
        "/08_reporting/" in str(entry.get("filepath", entry.get("path"))) for entry in written
    )


class Quiet(SimpleHTTPRequestHandler):
    """A static server without a log."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the static site in a copy of the project, as `make viz-site`, with every way to the network closed."""
    copy = copy_project(tmp_path_factory.mktemp("someone") / "cygnet")
    closed = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "kedro", "viz", "build"]
    environment = {**os.environ, **closed, "CYGNET_DATA": "/data", "KEDRO_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert (copy / "build/index.html").exists(), done.stdout + done.stderr
    return copy / "build"


@pytest.mark.slow
def test_the_static_site_is_whole_and_tells_nothing_of_this_machine(site: Path) -> None:
    texts = {path.relative_to(site): path.read_text() for path in (site / "api").rglob("*") if path.is_file()}
    assert {path.name for path in (site / "api/pipelines").iterdir()} == set(PIPELINES)
    for path, text in texts.items():
        assert not [
            private for private in (str(site.parents[1]), str(PROJECT), str(Path.home()) + "/") if private in text
        ], path
    assert json.loads(texts[Path("api/main")])["layers"]


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_static_site_draws_the_pipelines(address: str) -> None:
    with open_tab(address) as tab:
        tab.resize(1280, 800)
        tab.wait_for("document.querySelectorAll('.pipeline-node').length > 5")
        drawn = tab.value("[...document.querySelectorAll('.pipeline-node__text')].map(text => text.textContent)")
    assert {"ingestion", "synthesis", "augmentation", "training", "serving", "images", "champion"} <= set(drawn)
