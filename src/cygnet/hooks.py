"""Hooks: what happens around the nodes of every run."""

import logging
import re
from typing import Any

import mlflow
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import AbstractDataset, DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook
from pydantic import BaseModel

from cygnet.datasets.report import ReportDataset
from cygnet.errors import UserError
from cygnet.job_runs import close_job_run, join_job_run
from cygnet.parameters.check import check_parameters
from cygnet.preflight import check_run, uses_spark
from cygnet.storage import check_access, explain

logger = logging.getLogger(__name__)
logging.getLogger("kedro_mlflow").setLevel(logging.WARNING)  # importing it sets INFO, after conf/logging.yml


class UserErrorHooks:
    """Turns a user's mistake into one sentence, before any work where possible."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Check the parameters of all pipelines before Kedro does, whose own error is a traceback."""
        self._parameters, self._given = context.config_loader["parameters"], context.config_loader.runtime_params
        check_parameters(self._parameters, self._given)
        self._data = str(context.config_loader["globals"]["data"])

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Check what the run starts from, before Spark and MLflow start."""
        check_access(self._data)
        check_run(pipeline, catalog, self._parameters, self._given)

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """Raise the UserError that Kedro wrapped in an error of its own, after MLflow's run was closed."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, UserError):
                raise cause from None
            cause = cause.__cause__
        sentence = explain(error) or _sentence_of_worker(error)
        if sentence:
            raise UserError(sentence) from None


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
        if uses_spark(pipeline, catalog):
            from cygnet.spark import start_session

            start_session(self._config)


class ReportHooks:
    """Logs where the reports are at the end of a run."""

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """List the files that the run wrote for people, pages first."""
        listed = {name: _report_files(catalog.get(name)) for name in sorted(pipeline.all_outputs())}
        written = [(name, files) for name, files in listed.items() if files is not None]
        for name, files in sorted(written, key=lambda report: not report[1].endswith(".html")):
            logger.info("Report %s: %s", name, files)


def _report_files(dataset: AbstractDataset[Any, Any] | None) -> str | None:
    """Give the path of a report, or the glob that an entry with many has in its metadata; None for other datasets."""
    if isinstance(dataset, ReportDataset):
        return dataset.filepath
    files: str | None = (getattr(dataset, "metadata", None) or {}).get("reports")
    return files if dataset is not None and files is not None and dataset.exists() else None


class TrackingHooks(MlflowHook):
    """kedro-mlflow's hook with two additions.

    Typed parameters are flattened, because kedro-mlflow logs a pydantic model as one long string. With
    `--params=job_run_id=...` the run becomes a child of that job's run.
    """

    _job_run: str | None = None

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Start the run, as a child of the job's if there is one."""
        self._is_in_users_run = mlflow.active_run() is not None
        super().before_pipeline_run(run_params=run_params, pipeline=pipeline, catalog=catalog)
        job_run_id = (run_params.get("runtime_params") or {}).get("job_run_id")
        self._job_run = join_job_run(str(job_run_id)) if job_run_id else None

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Close the run, and mark its task in the job's run as finished."""
        super().after_pipeline_run(run_params=run_params, pipeline=pipeline, catalog=catalog)
        # kedro-mlflow opens its run again for each node and closes it once: a notebook's next run would join this one
        while not self._is_in_users_run and mlflow.active_run():
            mlflow.end_run()
        if self._job_run:
            close_job_run(self._job_run, failed=False)

    @hook_impl
    def on_pipeline_error(
        self, error: Exception, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Close the run as failed, and the job's."""
        super().on_pipeline_error(error=error, run_params=run_params, pipeline=pipeline, catalog=catalog)
        if self._job_run:
            close_job_run(self._job_run, failed=True)

    @hook_impl
    def before_node_run(self, node: Node, catalog: DataCatalog, inputs: dict[str, Any], is_async: bool) -> None:
        """Log the node's parameters to MLflow, one by one."""
        plain = {name: value.model_dump() if isinstance(value, BaseModel) else value for name, value in inputs.items()}
        super().before_node_run(node=node, catalog=catalog, inputs=plain, is_async=is_async)
