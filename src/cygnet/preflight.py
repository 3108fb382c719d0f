"""What is checked before a run starts: its settings, its starting points, and its parameters against both.

A run that can't end well stops here with one sentence, before Spark and MLflow start. Nothing here knows a dataset or a
node by its name: datasets implement the protocols of `cygnet.datasets.base`, and the function of a node may have a
check of its own, see `checked_before_run`.
"""

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from kedro.framework.project import pipelines
from kedro.io import AbstractDataset, DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from cygnet.datasets.base import Checked, MadeWith, SettingsChecked, Stored
from cygnet.datasets.table import TableDataset
from cygnet.errors import UserError
from cygnet.parameters.scene import SceneParameters
from cygnet.scene import AREA_FIELDS, PARAMETERS, recorded_by, shape_name
from cygnet.storage import exists

logger = logging.getLogger(__name__)

PREFLIGHT = "preflight"
PARAMETER = "params:"
AREA_PARAMETERS = tuple(PARAMETERS[name] for name in AREA_FIELDS)
DATASET_OF = {"video": "videos", "labels": "labels", "source": "live", "alerts": "alerts"}
"""Keys of `--params` that the catalog reads, to the entry that reads them."""

NodeFunction = TypeVar("NodeFunction", bound=Callable[..., Any])


def checked_before_run(check: Callable[..., object]) -> Callable[[NodeFunction], NodeFunction]:
    """Give a node's function a check that runs before the whole run does.

    Args:
        check: Takes some of the function's own parameters, by their names, which must be inputs of the node that exist
            before the run: parameters and starting points. It raises UserError.
    """

    def mark(function: NodeFunction) -> NodeFunction:
        setattr(function, PREFLIGHT, check)
        return function

    return mark


def check_run(
    pipeline: Pipeline, catalog: DataCatalog, parameters: Mapping[str, Any], given: Mapping[str, Any]
) -> None:
    """Check everything that can be known before the run starts.

    Args:
        pipeline: What will run.
        catalog: Its datasets.
        parameters: The merged parameters, nested.
        given: The content of `--params` alone, nested.

    Raises:
        UserError: A setting, a starting point or a parameter is unusable.
    """
    for name in sorted(pipeline.datasets()):
        dataset = catalog.get(name)
        if isinstance(dataset, SettingsChecked):
            dataset.check_settings()
    starts = dict(_starting_points(pipeline, catalog))
    for dataset in starts.values():
        if isinstance(dataset, Checked):
            dataset.check()
    for node in pipeline.nodes:
        _check_node(node, catalog)
    recorded = {name: dataset.made_with() for name, dataset in starts.items() if isinstance(dataset, MadeWith)}
    values = dict(_flat(parameters))
    shapes = {(key, made_with[key]) for made_with in recorded.values() for key in AREA_PARAMETERS if key in made_with}
    if shapes:
        values = {key: value for key, value in values.items() if key not in AREA_PARAMETERS}
        values.update(_name_shapes(parameters["scene"], {key for key, shape in shapes if shape is not None}))
    for name, made_with in recorded.items():
        compare_parameters(name, made_with, values)
    compared = {key for made_with in recorded.values() for key in made_with}
    warn_of_unread([key for key, _ in _flat(given) if key not in compared], pipeline, catalog)


def _starting_points(pipeline: Pipeline, catalog: DataCatalog) -> Iterator[tuple[str, AbstractDataset[Any, Any]]]:
    """Give the inputs that the run does not make itself; two entries of the catalog may name one folder."""
    outputs = [catalog.get(name) for name in pipeline.all_outputs()]
    written = {dataset.folder for dataset in filter(None, outputs) if isinstance(dataset, Stored)}
    for name in sorted(pipeline.inputs()):
        dataset = catalog.get(name)
        if dataset is not None and not (isinstance(dataset, Stored) and dataset.folder in written):
            yield name, dataset


def _check_node(node: Node, catalog: DataCatalog) -> None:
    check = getattr(node.func, PREFLIGHT, None)
    if check is None:
        return
    entry_of = dict(zip(inspect.signature(node.func).parameters, node.inputs, strict=False))
    check(**{name: catalog.load(entry_of[name]) for name in inspect.signature(check).parameters})


def compare_parameters(name: str, made_with: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    """Compare what a dataset was made with to the run's parameters.

    Args:
        name: The dataset's entry in the catalog.
        made_with: What it records, by dotted name.
        parameters: The run's parameters, by dotted name.

    Raises:
        UserError: A parameter that decides about pixels differs. Any other difference is a warning.
    """
    for key, value in made_with.items():
        if key not in parameters or parameters[key] == value:
            continue
        made_by = recorded_by(key) if key in PARAMETERS.values() else "training"
        difference = f"Parameter '{key}' is {parameters[key]}, but '{name}' was made with {value}"
        if key in PARAMETERS.values():
            again = "give the same again" if key in AREA_PARAMETERS else f"--params={key}={value}"
            msg = (
                f"{difference}: make it again with `kedro run`, starting with the pipeline {made_by}, or keep what it "
                f"was made with: {again}."
            )
            raise UserError(msg)
        logger.warning(
            "%s, and this run can't change it: run `kedro run --pipelines=%s,serving --params=%s=%s`.",
            difference,
            made_by,
            key,
            parameters[key],
        )


def _name_shapes(scene: Mapping[str, Any], recorded: set[str]) -> Iterator[tuple[str, str | None]]:
    """Name the shapes of `params:scene` as a scene names those that it records.

    Args:
        scene: The section.
        recorded: Dotted names of the shapes that are recorded: of these, a mask that is not here is left out.

    Raises:
        UserError: See `cygnet.area.read_shape`.
    """
    from cygnet.area import read_shape  # OpenCV would slow the command line down

    shapes = SceneParameters.model_validate(scene)
    for name in AREA_FIELDS:
        key, shape = PARAMETERS[name], getattr(shapes, name)
        if key in recorded and isinstance(shape, str) and not exists(shape):
            logger.warning("%s names %s, which is not here: what was recorded is used.", key, shape)
        else:
            yield key, shape_name(read_shape(name, shape))


def warn_of_unread(given: Sequence[str], pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Warn of each of these parameters, by dotted name, that the run does not read; name the pipelines that do."""
    for key in given:
        if reads(pipeline, key, catalog):
            continue
        readers = [name for name, other in pipelines.items() if name != "__default__" and reads(other, key, catalog)]
        logger.warning(
            "Parameter '%s' changes nothing in this run: %s.",
            key,
            f"it is read by {listed(readers)}" if readers else "no pipeline reads it",
        )


def listed(names: Sequence[str]) -> str:
    """Join at least one name to a list in a sentence: `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def reads(pipeline: Pipeline, key: str, catalog: DataCatalog) -> bool:
    """Tell whether a pipeline reads a parameter: alone, as part of a section, or in parts."""
    if key == "job_run_id":
        return True
    if key == "spark_partitions":
        return uses_spark(pipeline, catalog)
    inputs = pipeline.inputs()
    names = {name.removeprefix(PARAMETER) for name in inputs if name.startswith(PARAMETER)}
    return DATASET_OF.get(key) in inputs or any(
        f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}.") for name in names
    )


def uses_spark(pipeline: Pipeline, catalog: DataCatalog) -> bool:
    """Tell whether a dataset of the pipeline is a table that Spark reads or writes."""
    datasets = (catalog.get(name) for name in pipeline.datasets() if name in catalog)
    return any(isinstance(dataset, TableDataset) and dataset.load_as == "spark" for dataset in datasets)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give the leaves of nested parameters by dotted name."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
