"""What runs of a job promise: one parent for all tasks, which a rerun joins."""

from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from cygnet.job_runs import TAG, close_job_run, join_job_run
from support.toys import tracked


def task(folder: Path, job_run_id: str, *, failed: bool = False) -> tuple[str, str]:
    """Run a task; give its parent's id and its own run's."""
    with tracked(folder):
        parent = join_job_run(job_run_id)
        close_job_run(parent, failed=failed)
        run = mlflow.active_run()
        assert run is not None
        return parent, run.info.run_id


def test_tasks_of_a_job_and_a_rerun_have_one_parent(tmp_path: Path) -> None:
    tasks = [task(tmp_path, "11"), task(tmp_path, "11", failed=True), task(tmp_path, "11")]
    other, _ = task(tmp_path, "12")
    assert len({parent for parent, _ in tasks}) == 1
    assert other not in {parent for parent, _ in tasks}
    with tracked(tmp_path):
        for parent, child in tasks:
            assert MlflowClient().get_run(child).data.tags[MLFLOW_PARENT_RUN_ID] == parent
        assert MlflowClient().get_run(other).data.tags[TAG] == "12"


@pytest.mark.parametrize(("failed", "status"), [(False, "FINISHED"), (True, "FAILED")])
def test_the_parent_says_how_the_last_task_went(failed: bool, status: str, tmp_path: Path) -> None:
    task(tmp_path, "11", failed=not failed)
    parent, _ = task(tmp_path, "11", failed=failed)
    with tracked(tmp_path):
        assert MlflowClient().get_run(parent).info.status == status
