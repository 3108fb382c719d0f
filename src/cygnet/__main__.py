"""Run Cygnet without a checkout: from the wheel, which carries conf/, in any working directory.

`cygnet` and `python -m cygnet` take the arguments of `kedro run`. `cygnet-job` is the same for a Databricks wheel
task: it returns on success and raises on failure, because the task's state follows from that; click itself always ends
in `SystemExit`, which a task may take for a failure when it is a success, and the other way round.
"""

import os
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent

os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "1")  # a project's .telemetry is not there
if (PACKAGE / "conf").is_dir():
    os.environ.setdefault("KEDRO_LOGGING_CONFIG", str(PACKAGE / "conf" / "logging.yml"))


def main() -> None:
    """Run a pipeline as a command: a mistake is a sentence, and the exit code says how it went."""
    _run_command()()


def run_job() -> None:
    """Run a pipeline as a task.

    Raises:
        Exception: Whatever made the run fail.
    """
    _run_command()(standalone_mode=False)


def _run_command() -> Any:
    from kedro.framework.cli.utils import find_run_command
    from kedro.framework.project import configure_project

    configure_project(PACKAGE.name)
    return find_run_command(PACKAGE.name)


if __name__ == "__main__":
    main()
