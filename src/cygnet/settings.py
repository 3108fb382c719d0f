"""Kedro's settings: configuration, resolvers, hooks."""

import cygnet.silenced_warnings  # noqa: F401, I001 - before anything that warns
from pathlib import Path

from kedro.config import OmegaConfigLoader
from kedro.utils import find_kedro_project
from omegaconf.resolvers import oc

from cygnet.hooks import ReportHooks, SparkHooks, TrackingHooks, UserErrorHooks
from cygnet.secrets import resolve_secret


def _absolute(path: str) -> str:
    """Resolve a path against the project's root, or against the working directory outside of a project."""
    return (find_kedro_project(Path.cwd()) or Path.cwd()).joinpath(path).resolve().as_posix()


def _package_path() -> str:
    """Give the folder of the package, for the files that it carries."""
    return Path(__file__).parent.as_posix()


_CARRIED_CONF = Path(__file__).parent / "conf"  # in a wheel: a copy without conf/local
_IS_WHEEL = _CARRIED_CONF.is_dir()

CONF_SOURCE = str(_CARRIED_CONF) if _IS_WHEEL else "conf"
CONFIG_LOADER_CLASS = OmegaConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "base" if _IS_WHEEL else "local",
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
    "config_patterns": {"spark": ["spark*", "spark*/**"]},
    "custom_resolvers": {
        "oc.env": oc.env,
        "absolute": _absolute,
        "package_path": _package_path,
        "secret": resolve_secret,
    },
}

# Hooks run last to first: TrackingHooks closes the MLflow run before UserErrorHooks turns the error into a sentence.
HOOKS = (UserErrorHooks(), SparkHooks(), ReportHooks(), TrackingHooks())
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow",)  # TrackingHooks is its hook, with typed parameters flattened
