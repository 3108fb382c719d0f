"""Commands of `kedro` in this project: `serve`, `label`, and a `run` that takes paths literally and checks names.

Kedro reads every value of `--params` as YAML. There `#` after a blank starts a comment, `:` before one a mapping, `*`
an alias and `[` a list, and each of them may stand in the name of a file, as may the comma at which Kedro splits. A
path is therefore quoted before Kedro sees it.
"""

import copy
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import ENV_HELP
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import ProjectMetadata
from kedro.pipeline import Pipeline
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from cygnet.addresses import shown
from cygnet.errors import UserError, unknown

PATHS = ("video", "labels", "source", "alerts", "training.checkpoint")
"""Parameters of `--params` that are paths or addresses, and are strings whatever they look like."""


def _quote_paths(params: str) -> str:
    items: list[str] = []
    for part in params.split(","):
        if items and _is_path(items[-1]) and part.strip() and "=" not in part:
            items[-1] += f",{part}"
        else:
            items.append(part)
    return ",".join(_quote(item) if _is_path(item) else item for item in items)


def _is_path(item: str) -> bool:
    name, _, value = item.partition("=")
    return name.strip() in PATHS and value.strip() not in {"", "null"}


def _quote(item: str) -> str:
    name, _, value = (part.strip() for part in item.partition("="))
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return item
    return f"{name}={json.dumps(value, ensure_ascii=False)}".replace(",", r"\x2c")


def _quoting(read: Callable[..., Any]) -> Callable[..., Any]:
    def read_params(context: click.Context, option: click.Parameter, value: Any) -> Any:
        if not isinstance(value, str):
            return read(context, option, value)
        params = _quote_paths(value)
        for item in params.split(","):
            try:
                read(context, option, item)
            except (YAMLError, OmegaConfBaseException):
                msg = (
                    f"--params: '{shown(item)}' is no valid YAML, close each bracket and quote, put a text with "
                    "special characters in quotes, and a list in conf/local/parameters.yml: a comma ends a value."
                )
                raise UserError(msg) from None
        return read(context, option, params)

    return read_params


def _names(pipeline: Pipeline) -> dict[str, tuple[str, dict[str, str]]]:
    """Give the options of `run` that select from a pipeline, what they name, and which names stand for which of it."""
    nodes = {name: node.name for node in pipeline.nodes for name in (node.short_name, node.name)}
    datasets, tags = pipeline.datasets(), {tag for node in pipeline.nodes for tag in node.tags}
    return {
        **dict.fromkeys(("node_names", "from_nodes", "to_nodes"), ("Node", nodes)),
        **dict.fromkeys(("from_inputs", "to_outputs"), ("Dataset", {name: name for name in datasets})),
        "tags": ("Tag", {name: name for name in tags}),
    }


def _complete_names(options: dict[str, Any]) -> dict[str, Any]:
    """Check the names that a run is selected by, which Kedro answers with a traceback, and put a node's pipeline first.

    Raises:
        UserError: A name is unknown.
    """
    selected = [*filter(None, [options["pipeline"]]), *options["pipelines"]] or ["__default__"]
    for name in selected:
        if name not in pipelines:
            raise UserError(unknown("Pipeline", name, pipelines))
    completed = dict(options)
    for option, (what, known) in _names(sum((pipelines[name] for name in selected), Pipeline([]))).items():
        for name in options[option]:
            if name not in known:
                raise UserError(unknown(what, name, known))
        completed[option] = [known[name] for name in options[option]]
    return completed


def _run(**options: Any) -> Any:
    return cast("Callable[..., Any]", kedro_run.callback)(**_complete_names(options))


run = copy.copy(kedro_run)
run.callback = _run
run.help = """Run all pipelines from video to served detector, or the named one.

\b
kedro run                                          on the sample video
kedro run --params=video=PATH,training.epochs=20   on yours, with another value of a parameter
kedro run --pipeline=scoring --params=video=PATH   score a video with the champion

`kedro registry list` names the pipelines. conf/base/parameters_*.yml has all parameters, each with its meaning.
"""
run.params = [copy.copy(option) for option in kedro_run.params]
for _option in run.params:
    if _option.name == "params":
        _option.callback = _quoting(_option.callback)  # type: ignore[arg-type] # it has one


@click.command()
@click.option("--env", "-e", default=None, help=ENV_HELP)
@click.option("--port", "-p", type=int, default=5001, show_default=True, help="Port on this machine.")
@click.pass_obj
def serve(project: ProjectMetadata, env: str | None, port: int) -> None:
    """Serve the champion over REST on this machine until Ctrl-C."""
    import mlflow

    with KedroSession.create(project.project_path, env=env) as session:
        champion = session.load_context().catalog.get("champion").check()  # type: ignore[attr-defined]
    programs = str(Path(sys.executable).parent)  # MLflow starts uvicorn by its name
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
        "MLFLOW_REGISTRY_URI": mlflow.get_registry_uri(),
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]),
    }
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    os.execve(sys.executable, [*command, "--model-uri", champion.loadable_uri, "--port", str(port)], environment)  # noqa: S606


@click.command()
@click.option("--env", "-e", default=None, help=ENV_HELP)
@click.option("--port", "-p", type=int, default=5002, show_default=True, help="Port on this machine.")
@click.pass_obj
def label(project: ProjectMetadata, env: str | None, port: int, params: dict[str, Any]) -> None:
    """Label frames by hand, on a page in the browser, until Ctrl-C."""
    from cygnet.labelling_page.server import serve as serve_page

    with KedroSession.create(project.project_path, env=env, runtime_params=params) as session:
        serve_page(session.load_context().catalog, port)  # type: ignore[attr-defined]


label.params += [option for option in run.params if option.name == "params"]

cli = click.Group("cygnet", commands={"run": run, "serve": serve, "label": label})
