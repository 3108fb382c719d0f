"""What the table of runtimes promises: the parameters allow just what it has, and every entry can be carried."""

from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest

import cygnet
from cygnet.model.serving.runtimes import RUNTIMES, RuntimeSpec
from cygnet.parameters.serving import RuntimeName


def test_parameters_allow_every_runtime_and_no_other() -> None:
    assert set(get_args(RuntimeName)) == set(RUNTIMES)


@pytest.mark.parametrize("spec", RUNTIMES.values(), ids=RUNTIMES)
def test_what_a_served_model_needs_is_there(spec: RuntimeSpec) -> None:
    assert all((Path(cygnet.__file__).parent / module).is_file() for module in spec.library.modules)
    assert all(version(requirement) for requirement in spec.library.requirements)
    runtime = spec.library.runtime()
    assert f"{runtime.__module__.removeprefix('cygnet.').replace('.', '/')}.py" in spec.library.modules
