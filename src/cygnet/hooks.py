"""Hooks: what happens around the nodes of every run.

Kedro imports this module for every command, `--help` too. What takes time to import is imported when a run begins.
"""

import logging
import os
import re
import sys
import time
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import AbstractDataset, DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.utils import load_obj

from cygnet.errors import UserError, unknown
from cygnet.progress import spell

if TYPE_CHECKING:
    from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook

logger = logging.getLogger(__name__)


class UserErrorHooks:
    """Turns a user's mistake into one sentence, before any work where possible."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Check the parameters of all pipelines before Kedro does, whose own error is a traceback."""
        from cygnet.parameters.check import check_parameters

        _check_environment(Path(context.config_loader.conf_source), context.env)
        self._parameters, self._given = context.config_loader["parameters"], context.config_loader.runtime_params
        check_parameters(self._parameters, self._given)
        self._data = str(context.config_loader["globals"]["data"])

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Check what the run starts from, before Spark and MLflow start."""
        from cygnet.preflight import check_run
        from cygnet.storage import check_access

        check_access(self._data)
        check_run(pipeline, catalog, self._parameters, self._given)
        for name in ("pipeline.node", "runner.sequential_runner", "runner.thread_runner"):
            logging.getLogger(f"kedro.{name}").addFilter(_is_no_users_mistake)

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """Raise the UserError that Kedro wrapped in an error of its own, after MLflow's run was closed."""
        mistake = _mistake_behind(error)
        if mistake is not None:
            raise mistake from None


def _mistake_behind(error: BaseException) -> UserError | None:
    """Find the UserError that Kedro or Spark wrapped in an error of its own, or make one of an error of ADLS."""
    from cygnet.storage import explain

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        cause = cause.__cause__
    sentence = explain(error) or _sentence_of_worker(error)
    return UserError(sentence) if sentence else None


def _is_no_users_mistake(_: logging.LogRecord) -> bool:
    """Keep Kedro from telling a mistake that is told at the end, and from advice how to repeat it."""
    error = sys.exc_info()[1]
    return error is None or _mistake_behind(error) is None


def _check_environment(conf: Path, env: str | None) -> None:
    known = [folder.name for folder in conf.iterdir() if folder.is_dir()] if conf.is_dir() else []
    if env and known and env not in known:
        raise UserError(unknown("Environment", env, known))


def _sentence_of_worker(error: BaseException) -> str | None:
    """Find the UserError of one of Spark's workers, of which the driver only gets the text of a traceback."""
    told = re.search(rf"^{UserError.__module__}\.{UserError.__name__}: (.+)$", str(error), re.MULTILINE)
    return told[1] if told else None


class SparkHooks:
    """Starts the Spark session before a pipeline that has a Spark table, and only then."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the settings."""
        self._config = dict(context.config_loader["spark"])

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Start Spark if a dataset of the pipeline is a Spark table."""
        from cygnet.preflight import uses_spark

        if uses_spark(pipeline, catalog):
            logger.info("Starting Spark, which takes some seconds.")
            from cygnet.spark import start_session

            start_session(self._config)


class ReportHooks:
    """Says which step runs, and at the end of a run what came of it and what to open.

    A catalog entry names the function that sums it up in its metadata: `summary`, and `warning`; see
    `cygnet.summaries`. These lines are the description of the run in MLflow too.
    """

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Start to count."""
        self._catalog = catalog
        self._steps, self._step, self._begun_s = len(pipeline.nodes), 0, time.monotonic()
        self._summaries: list[str] = []
        self._warnings: list[str] = []
        self._files: list[str] = []

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Name the node."""
        self._step += 1
        logger.info("Step %d of %d: %s", self._step, self._steps, node.name)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Sum up what was saved, if its entry says how, and note where a report is."""
        dataset = self._catalog.get(dataset_name)
        metadata = getattr(dataset, "metadata", None) or {}
        if "summary" in metadata:
            self._summaries.insert(0, load_obj(metadata["summary"])(data))
            warning = load_obj(metadata["warning"])(data) if "warning" in metadata else None
            self._warnings += [warning] if warning else []
            _describe_run([*self._summaries, *self._warnings])
        files = _report_files(dataset)
        if files is not None:
            self._files.append(files)

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline) -> None:
        """Say what came of the run, what to open, and what to run next."""
        logger.info("Done in %s.", spell(time.monotonic() - self._begun_s))
        self._tell()
        following = _following(pipeline)
        by_make = "MAKELEVEL" in os.environ  # then no environment is active
        command = 'make run ARGS="%s"' if by_make else "kedro run %s"
        if "champion" in pipeline.all_outputs():
            logger.info(f"Score a video: {command}", "--pipeline=scoring --params=video=PATH")
        elif following and not any(map(_is_page, self._files)):
            logger.info(f"Next: {command}", f"--pipelines={following}")

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Say what came of the run before it failed: a refusal has its page."""
        self._tell()

    def _tell(self) -> None:
        for line in self._summaries:
            logger.info("%s", line)
        for line in self._warnings:
            logger.warning("%s", line)
        files = sorted(map(_shown, self._files), key=os.path.dirname)
        for page in filter(_is_page, files):
            logger.info("Open %s", page)
        for folder, others in groupby((file for file in files if not _is_page(file)), key=os.path.dirname):
            logger.info("Reports in %s: %s", folder, ", ".join(sorted(map(os.path.basename, others))))


def _describe_run(lines: list[str]) -> None:
    """Put lines where MLflow shows the description of the run, if there is one."""
    import mlflow

    if mlflow.active_run():
        mlflow.set_tag("mlflow.note.content", "\n\n".join(lines))


def _report_files(dataset: AbstractDataset[Any, Any] | None) -> str | None:
    """Give the path of a report, or the glob that an entry with many has in its metadata; None for other datasets."""
    from cygnet.datasets.report import ReportDataset

    if isinstance(dataset, ReportDataset):
        return dataset.filepath
    files: str | None = (getattr(dataset, "metadata", None) or {}).get("reports")
    return files if dataset is not None and files is not None and dataset.exists() else None


def _is_page(file: str) -> bool:
    return file.endswith(".html")


def _shown(file: str) -> str:
    """Shorten a path below the working directory."""
    here = f"{Path.cwd()}/"
    return file.removeprefix(here)


def _following(pipeline: Pipeline) -> str | None:
    """Name the first pipeline that reads what this one has written, and is no part of it."""
    written = pipeline.all_outputs()
    for name, other in pipelines.items():
        if name != "__default__" and written & other.inputs() and not set(other.nodes) <= set(pipeline.nodes):
            return str(name)
    return None


class TrackingHooks:
    """kedro-mlflow's hook, made when a run begins: to import MLflow takes seconds. With four additions.

    Typed parameters are flattened, because kedro-mlflow logs a pydantic model as one long string. With
    `--params=job_run_id=...` the run becomes a child of that job's run. What is secret in an address stays out. A run
    of the default pipeline has the names of its parts.
    """

    _mlflow: "MlflowHook"
    _job_run: str | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Set MLflow up."""
        from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook

        logging.getLogger("kedro_mlflow").setLevel(logging.WARNING)  # the import sets INFO, after conf/logging.yml
        self._mlflow = MlflowHook()
        self._mlflow.after_context_created(context)

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        """Let kedro-mlflow name the metrics of its own datasets."""
        self._mlflow.after_catalog_created(catalog, {}, {}, {}, "", {})

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Start the run, as a child of the job's if there is one; tags get no secret of an address."""
        import mlflow

        from cygnet.addresses import without_secrets
        from cygnet.job_runs import join_job_run

        self._is_in_users_run = mlflow.active_run() is not None
        given = run_params.get("runtime_params") or {}
        run_params = {**run_params, "runtime_params": without_secrets(given)}
        self._mlflow.before_pipeline_run(run_params=run_params, pipeline=pipeline, catalog=catalog)
        run = mlflow.active_run()
        if run and run.info.run_name == "__default__":
            parts = {node.namespace for node in pipeline.nodes}
            mlflow.set_tag("mlflow.runName", "+".join(name for name in pipelines if name in parts))
        job_run_id = given.get("job_run_id")
        self._job_run = join_job_run(str(job_run_id)) if job_run_id else None

    @hook_impl
    def before_node_run(self, node: Node, catalog: DataCatalog, inputs: dict[str, Any], is_async: bool) -> None:
        """Log the node's parameters to MLflow, one by one."""
        from pydantic import BaseModel

        plain = {name: value.model_dump() if isinstance(value, BaseModel) else value for name, value in inputs.items()}
        self._mlflow.before_node_run(node=node, catalog=catalog, inputs=plain, is_async=is_async)

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Close the run, and mark its task in the job's run as finished."""
        import mlflow

        self._mlflow.after_pipeline_run(run_params=run_params, pipeline=pipeline, catalog=catalog)
        # kedro-mlflow opens its run again for each node and closes it once: a notebook's next run would join this one
        while not self._is_in_users_run and mlflow.active_run():
            mlflow.end_run()
        self._close_job_run(failed=False)

    @hook_impl
    def on_pipeline_error(
        self, error: Exception, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Close the run as failed, and the job's."""
        self._mlflow.on_pipeline_error(error=error, run_params=run_params, pipeline=pipeline, catalog=catalog)
        self._close_job_run(failed=True)

    def _close_job_run(self, *, failed: bool) -> None:
        if self._job_run:
            from cygnet.job_runs import close_job_run

            close_job_run(self._job_run, failed=failed)
