"""One MLflow parent run for all tasks of a job: the run of each task, and of each repeated task, is its child.

Tasks are separate processes that share only the tracker. The parent is therefore found by a tag, the id of the job's
run, which Databricks keeps when failed tasks are repaired.
"""

import mlflow
from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

TAG = "cygnet.job_run_id"


def join_job_run(job_run_id: str) -> str:
    """Make the active run a child of the job's run; the first task creates that one.

    Returns:
        The parent's run id.
    """
    client, child = MlflowClient(), mlflow.active_run()
    assert child is not None, "kedro-mlflow has started the run"  # noqa: S101
    experiment_id = child.info.experiment_id
    found = client.search_runs([experiment_id], f"tags.`{TAG}` = '{job_run_id}'", order_by=["start_time ASC"])
    parent = (
        found[0] if found else client.create_run(experiment_id, run_name=f"job {job_run_id}", tags={TAG: job_run_id})
    )
    client.update_run(parent.info.run_id, status=RunStatus.to_string(RunStatus.RUNNING))
    client.set_tag(child.info.run_id, MLFLOW_PARENT_RUN_ID, parent.info.run_id)
    return str(parent.info.run_id)


def close_job_run(parent_run_id: str, *, failed: bool) -> None:
    """Set the parent's status to that of the last task that ran."""
    status = RunStatus.FAILED if failed else RunStatus.FINISHED
    MlflowClient().set_terminated(parent_run_id, RunStatus.to_string(status))
