"""Kedro's settings: configuration, resolvers, hooks."""

import cygnet.silenced_warnings  # noqa: F401, I001 - before anything that warns
from pathlib import Path

from kedro.config import OmegaConfigLoader
from kedro.utils import find_kedro_project
from omegaconf.resolvers import oc

from cygnet.hooks import ReportHooks, SparkHooks, TrackingHooks, UserErrorHooks
from cygnet.secrets import resolve_secret
from cygnet.storage import is_remote


def _absolute(path: str) -> Path:
    return (find_kedro_project(Path.cwd()) or Path.cwd()).joinpath(path)


def _project_path(path: str) -> str:
    """Give a path that the working directory does not change; a relative path starts at the project's root.

    Kedro does this for `filepath` and `path` of a catalog entry alone, and Jupyter works in `notebooks/`.
    """
    return path if is_remote(path) else str(_absolute(path))


def _file_url(path: str) -> str:
    """Give the URL of a file; a relative path starts at the project's root.

    Only a URL survives readers that take `#`, `%` or `?` for syntax, or split their options at a space.
    """
    return _absolute(path).resolve().as_uri()


def _sqlite_url(path: str) -> str:
    """Give the URL of an SQLite database, and make its folder; a relative path starts at the project's root.

    SQLAlchemy itself writes the URL: whether it reads `%25` as `%` depends on its version. The URL names the driver
    because for a plain `sqlite:///` MLflow makes the folder, under the name that stands in the URL: with its escapes.
    """
    from sqlalchemy import URL  # 0.4 s, which `--help` need not wait for

    database = _absolute(path).resolve()
    database.parent.mkdir(parents=True, exist_ok=True)
    return URL.create("sqlite+pysqlite", database=str(database)).render_as_string()


_PACKAGE = Path(__file__).parent
_CARRIED_CONF = _PACKAGE / "conf"  # in a wheel: a copy without conf/local
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
        "file_url": _file_url,
        "package_path": _PACKAGE.as_posix,
        "project_path": _project_path,
        "secret": resolve_secret,
        "sqlite_url": _sqlite_url,
    },
}

# Hooks run last to first: TrackingHooks closes the MLflow run before UserErrorHooks turns the error into a sentence.
HOOKS = (UserErrorHooks(), SparkHooks(), ReportHooks(), TrackingHooks())
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow",)  # TrackingHooks is its hook, with typed parameters flattened
