"""The check of all parameters before any work starts: one sentence for each unknown key and each invalid value."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from cygnet.addresses import shown
from cygnet.errors import UserError, unknown
from cygnet.parameters.augmentation import Augmentation
from cygnet.parameters.base import Parameters
from cygnet.parameters.ingestion import Ingestion
from cygnet.parameters.labelling import Labelling
from cygnet.parameters.pretraining import Pretraining
from cygnet.parameters.scene import SceneParameters
from cygnet.parameters.scoring import Scoring
from cygnet.parameters.serving import Serving
from cygnet.parameters.synthesis import Synthesis
from cygnet.parameters.training import Training
from cygnet.parameters.watch import Watch

PIPELINE_PARAMETERS: dict[str, type[Parameters]] = {
    "scene": SceneParameters,
    "ingestion": Ingestion,
    "synthesis": Synthesis,
    "augmentation": Augmentation,
    "pretraining": Pretraining,
    "training": Training,
    "serving": Serving,
    "scoring": Scoring,
    "labelling": Labelling,
    "watch": Watch,
}

MOST_PARTITIONS = 10_000

RUN_TEXTS = ("video", "labels", "source", "alerts", "job_run_id")
RUN_PARAMETERS = (*RUN_TEXTS, "spark_partitions")
"""Keys of `--params` that the catalog, spark.yml and hooks read."""


def check_parameters(parameters: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Check all parameters, including those of pipelines that do not run.

    Args:
        parameters: The merged content of `conf/*/parameters*.yml` and `--params`.
        given: The content of `--params` alone.

    Raises:
        UserError: One sentence for each value that is unknown, of the wrong type, or out of range.
    """
    sections = {key: value for key, value in parameters.items() if key not in (*PIPELINE_PARAMETERS, *RUN_PARAMETERS)}
    known = [*RUN_PARAMETERS, *PIPELINE_PARAMETERS]
    known += [f"{name}.{key}" for name, model in PIPELINE_PARAMETERS.items() for key in _known_names(model)]
    problems = [unknown("Parameter", name, known) for name in _dotted(sections)]
    for name, model in PIPELINE_PARAMETERS.items():
        if name not in parameters:
            problems.append(f"Parameter '{name}' is missing: restore it in conf/base/parameters_{name}.yml.")
            continue
        try:
            model.model_validate(parameters[name])
        except ValidationError as error:
            problems += [_sentence(name, model, detail) for detail in error.errors()]
    problems += [
        f"Parameter '{key}' has no effect in a file: pass it as --params={key}=..."
        for key in RUN_PARAMETERS
        if key in parameters and key not in given
    ]
    problems += [
        f"Parameter '{key}' is {_spelled(value)}: give a text that is not empty, or leave it out."
        for key, value in parameters.items()
        if key in RUN_TEXTS and (value == "" or not isinstance(value, str | int))
    ]
    partitions = parameters.get("spark_partitions", 1)
    if not isinstance(partitions, int) or not 1 <= partitions <= MOST_PARTITIONS:
        problems.append(
            f"Parameter 'spark_partitions' is {_spelled(partitions)}: it must be an int from 1 to {MOST_PARTITIONS}."
        )
    if problems:
        raise UserError(" ".join(dict.fromkeys(problems)))


def _sentence(pipeline: str, model: type[Parameters], detail: Mapping[str, Any]) -> str:
    location = [str(part) for part in detail["loc"]]
    name = ".".join([pipeline, *location])
    if detail["type"] == "extra_forbidden":
        return unknown("Parameter", name, [f"{pipeline}.{key}" for key in _known_names(model)])
    if _is_of_pair(detail):
        pair = ".".join([pipeline, *(part for part in detail["loc"] if isinstance(part, str))])
        return f"Parameter '{pair}' is {_spelled(detail['input'])}: it needs two values, [first, second]."
    if detail["type"] == "missing":
        return f"Parameter '{name}' is missing: restore it in conf/base/parameters_{pipeline}.yml."
    if detail["type"] == "unknown_kind":  # pydantic's location ends in the key of the dictionary and "[key]"
        section = ".".join([pipeline, *location[:-2]])
        known = [f"{section}.{kind}" for kind in detail["ctx"]["known"]]
        return unknown("Parameter", f"{section}.{location[-2]}", known)
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return f"Parameter '{name}': {shown(message)}."
    if detail["type"] in {"model_type", "dict_type"}:
        message = f"it is a group of {_members(model, detail['loc'], name)}"
    return f"Parameter '{name}' is {_spelled(detail['input'])}: {message[0].lower()}{message[1:]}."


def _is_of_pair(detail: Mapping[str, Any]) -> bool:
    """Tell whether the mistake is that a pair has another number of values."""
    if detail["type"] == "missing":
        return isinstance(detail["loc"][-1], int)
    return detail["type"] == "tuple_type" or detail.get("ctx", {}).get("field_type") == "Tuple"


def _members(model: type[BaseModel], location: Sequence[str | int], name: str) -> str:
    """Say what a section consists of: parameters, or a value for each kind of anomaly."""
    section: Any = model
    for part in location:
        section = section.model_fields[str(part)].annotation
    keys = [f"{name}.{key}" for key in getattr(section, "model_fields", ())]
    return f"the parameters {', '.join(keys)}" if keys else "a number for each kind of anomaly"


def _spelled(value: Any) -> str:
    """Write a value as a user does, without what is secret in an address."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return repr(shown(value)) if isinstance(value, str) else shown(repr(value))


def _dotted(values: Mapping[str, Any]) -> Iterator[str]:
    """Give the dotted names of the leaves."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from (f"{key}.{name}" for name in _dotted(value))
        else:
            yield str(key)


def _known_names(model: type[BaseModel]) -> list[str]:
    """Dotted names of all parameters of a model, those of its sections included."""
    names = []
    for key, field in model.model_fields.items():
        names.append(key)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += [f"{key}.{inner}" for inner in _known_names(field.annotation)]
    return names
