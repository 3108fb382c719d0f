"""What the bundle promises: it is valid, and its tasks run what there is with names that there are."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from cygnet.parameters.check import RUN_PARAMETERS
from cygnet.pipeline_registry import register_pipelines

PROJECT = Path(__file__).parents[1]
VALIDATOR = PROJECT.parent / "shared" / "tools" / "validate_bundle.py"
OPTIONAL = {"CYGNET_DATA", "CYGNET_ENDPOINT"}  # of the environment: their defaults follow from the others
ROOT_KEYS = {
    "artifacts", "bundle", "experimental", "include", "permissions", "presets", "python", "resources", "run_as",
    "scripts", "sync", "targets", "variables", "workspace",
}  # fmt: skip


@pytest.fixture(scope="module")
def bundle() -> dict[str, Any]:
    """Give databricks.yml with the resources that it includes."""
    bundle = yaml.safe_load((PROJECT / "databricks.yml").read_text())
    bundle["resources"] = {}
    for pattern in bundle["include"]:
        for file in sorted(PROJECT.glob(pattern)):
            for kind, resources in yaml.safe_load(file.read_text())["resources"].items():
                bundle["resources"].setdefault(kind, {}).update(resources)
    return bundle


def tasks(bundle: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every task with its job."""
    return [(job, task) for job in bundle["resources"]["jobs"].values() for task in job["tasks"]]


def arguments(task: dict[str, Any]) -> dict[str, str]:
    return dict(argument.removeprefix("--").split("=", 1) for argument in task["python_wheel_task"]["parameters"])


@pytest.mark.skipif(not VALIDATOR.exists(), reason=f"{VALIDATOR} is not here")
def test_bundle_is_valid_by_the_schema_of_the_command_line_tool() -> None:
    checked = subprocess.run(
        [sys.executable, VALIDATOR, "databricks.yml"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert (checked.stdout.strip(), checked.returncode) == ("valid", 0)


def test_what_the_schema_lets_through_is_right_too(bundle: dict[str, Any]) -> None:
    assert set(bundle) <= ROOT_KEYS
    assert {target.get("mode") for target in bundle["targets"].values()} == {"development", "production"}
    assert {artifact["type"] for artifact in bundle["artifacts"].values()} == {"whl"}
    for _, task in tasks(bundle):
        assert "named_parameters" not in task["python_wheel_task"]


def test_only_dev_is_not_production(bundle: dict[str, Any]) -> None:
    modes = {name: target["mode"] for name, target in bundle["targets"].items()}
    assert modes == {"dev": "development", "staging": "production", "prod": "production"}
    assert all("root_path" in bundle["targets"][name]["workspace"] for name in ("staging", "prod"))


def test_every_task_runs_a_pipeline_by_the_entry_point_of_the_wheel(bundle: dict[str, Any]) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    pipelines = register_pipelines()
    for _, task in tasks(bundle):
        wheel_task = task["python_wheel_task"]
        assert (wheel_task["package_name"], wheel_task["entry_point"] in project["scripts"]) == ("cygnet", True)
        assert arguments(task)["pipelines"] == task["task_key"]
        assert task["task_key"] in pipelines
        given = {pair.split("=")[0] for pair in arguments(task)["params"].split(",")}
        assert "job_run_id" in given <= set(RUN_PARAMETERS)
        wheel, *others = task["libraries"]
        assert wheel == {"whl": "../dist/*.whl"}
        packages = sorted(library["pypi"]["package"] for library in others)
        assert packages == project["optional-dependencies"]["databricks"]


def test_the_detector_is_made_by_five_tasks_one_after_the_other(bundle: dict[str, Any]) -> None:
    chain = bundle["resources"]["jobs"]["detector"]["tasks"]
    names = [task["task_key"] for task in chain]
    assert names == ["ingestion", "synthesis", "augmentation", "training", "serving"]
    before = [[each["task_key"] for each in task.get("depends_on", [])] for task in chain]
    assert before == [[], *([name] for name in names[:-1])]


def test_every_task_has_a_cluster_of_its_job(bundle: dict[str, Any]) -> None:
    for job, task in tasks(bundle):
        assert task["job_cluster_key"] in {cluster["job_cluster_key"] for cluster in job["job_clusters"]}


def test_the_clusters_are_those_that_the_work_needs(bundle: dict[str, Any]) -> None:
    for job in bundle["resources"]["jobs"].values():
        for cluster in job["job_clusters"]:
            new = cluster["new_cluster"]
            assert new["data_security_mode"] == "SINGLE_USER"  # the ML runtime needs it
            assert new["spark_version"] in {"${var.spark_version}", "${var.training_spark_version}"}
            assert ("autoscale" in new, new.get("num_workers")) in {(True, None), (False, 0)}
    chain = {task["task_key"]: task["job_cluster_key"] for task in bundle["resources"]["jobs"]["detector"]["tasks"]}
    assert chain == {
        "ingestion": "images",
        "synthesis": "images",
        "augmentation": "images",
        "training": "training",
        "serving": "training",
    }
    defaults = {bundle["variables"][name]["default"] for name in ("spark_version", "training_spark_version")}
    assert all(key.startswith("18.") and "-ml-" in key for key in defaults)


def test_every_job_ends_tells_of_failures_and_runs_once_at_a_time(bundle: dict[str, Any]) -> None:
    for job in bundle["resources"]["jobs"].values():
        assert job["timeout_seconds"] > 0
        assert job["max_concurrent_runs"] == 1
        assert job["email_notifications"]["on_failure"] == "${var.notify}"
        assert job["permissions"][0]["level"] == "CAN_MANAGE_RUN"
        assert job["tags"] == {"project": "cygnet"}


def test_videos_that_arrive_are_scored_but_not_in_dev(bundle: dict[str, Any]) -> None:
    scoring = bundle["resources"]["jobs"]["scoring"]
    assert scoring["trigger"]["file_arrival"]["url"].endswith("/incoming/")
    assert scoring["queue"] == {"enabled": True}
    assert "pause_status" not in scoring["trigger"]  # one of its own would win over that of the mode `development`


def test_references_lead_to_resources_and_variables(bundle: dict[str, Any]) -> None:
    text = "".join(file.read_text() for file in [PROJECT / "databricks.yml", *PROJECT.glob("resources/*.yml")])
    for kind, name in re.findall(r"\$\{resources\.(\w+)\.(\w+)\.", text):
        assert name in bundle["resources"][kind]
    assert set(re.findall(r"\$\{var\.(\w+)\}", text)) == set(bundle["variables"])


def test_clusters_and_conf_speak_of_the_same_environment(bundle: dict[str, Any]) -> None:
    asked = set(re.findall(r"oc\.env:(\w+)", (PROJECT / "conf/databricks/globals.yml").read_text())) - OPTIONAL
    for job in bundle["resources"]["jobs"].values():
        for cluster in job["job_clusters"]:
            assert set(cluster["new_cluster"]["spark_env_vars"]) == asked


def test_a_promotion_is_never_retried(bundle: dict[str, Any]) -> None:
    retries = {task["task_key"]: task["max_retries"] for _, task in tasks(bundle)}
    assert [retries.pop(name) for name in ("serving", "rollback", "calibration", "adaptation")] == [0] * 4
    assert set(retries.values()) == {1}


def test_nothing_secret_is_in_the_bundle_or_the_configuration() -> None:
    files = [PROJECT / "databricks.yml", *PROJECT.glob("resources/*.yml"), *PROJECT.glob("conf/databricks/*.yml")]
    for file in files:
        assert not re.search(r"(?i)(token|password|secret|account_key|client_id)\s*:\s*(?!\$\{)\S", file.read_text()), (
            file
        )
