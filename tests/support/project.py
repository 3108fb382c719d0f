"""A copy of the project, where its commands run as a newcomer runs them: in a fresh shell with nothing activated."""

import json
import os
import shutil
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
COPIED = (
    "src",
    "conf",
    "data/01_raw",
    "Makefile",
    "constraints.txt",
    "pyproject.toml",
    "setup.py",
    "README.md",
    ".telemetry",
)
ODD_CLONE = "my #1 %20c'd é, b & \\"
"""A name that its readers like to misread: as syntax of a URL, a shell, YAML or a glob, or in another encoding."""

ODD_DATA = f'{ODD_CLONE} [a] *? "q"'
ODD_VIDEO = f"{ODD_DATA} {{b}}"
"""The same for what Kedro does not take for a pattern; the Makefile refuses the others."""

TINY = {"image_size_px": 32, "patch_size_px": 16, "hidden_size": 32, "layers": 1, "heads": 2}
TRAINING = {"checkpoint": None, "small_vit": TINY, "epochs": 1, "twins": False, "evaluation": {"resamples": 100}}


def copy_project(folder: Path) -> Path:
    """Copy what a run needs, without anything that runs or tools left behind; `test` trains a tiny detector."""
    for name in COPIED:
        source, target = PROJECT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, target)
    (folder / "conf/test/parameters_training.yml").write_text(json.dumps({"training": TRAINING}))
    return folder


def link_environment(folder: Path) -> Path:
    """Make a folder that is the running environment, installed later than anything that is there now."""
    folder.mkdir(parents=True)
    for path in Path(sys.prefix).iterdir():
        if path.name != ".installed":
            (folder / path.name).symlink_to(path)
    (folder / ".installed").touch()
    return folder


def fresh_shell(home: Path, **variables: str) -> dict[str, str]:
    """Give the variables of a shell in which nothing is activated; small runs, and data of their own."""
    python = Path(getattr(sys, "_base_executable", sys.executable)).resolve().parent
    own = {name: os.environ[name] for name in ("JAVA_HOME", "CYGNET_JAVA") if name in os.environ}
    path = os.pathsep.join(["/usr/bin", "/bin", str(python)])
    return {**own, "HOME": str(home), "PATH": path, "KEDRO_ENV": "test", "CYGNET_DATA": str(home / "data"), **variables}
