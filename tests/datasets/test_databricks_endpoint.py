"""What Model Serving promises: a new version is tried beside the old one, and takes its place only by a decision."""

import json
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.io.core import parse_dataset_definition
from kedro.pipeline import Pipeline, node

from cygnet.datasets.databricks_endpoint import DatabricksEndpointDataset
from cygnet.datasets.registry import RegisteredModelDataset
from cygnet.endpoints.client import EndpointError
from cygnet.endpoints.databricks_api import environment_pool
from cygnet.endpoints.local import LocalEndpoint
from cygnet.endpoints.versions import Decision, ModelVersion
from cygnet.errors import UserError
from cygnet.hooks import UserErrorHooks
from cygnet.model.serving.packaging import PackagedDetector
from cygnet.parameters.serving import Client
from cygnet.settings import CONFIG_LOADER_ARGS
from cygnet.tables import NORMAL
from cygnet.vision.codec import encode_png
from support.stub_server import CUT, Reply, Request, Workspace
from support.toys import toy_image, tracked

PROJECT = Path(__file__).parents[2]
OLD, NEW = ModelVersion("main.test.swan", "5"), ModelVersion("main.test.swan", "7")
SETTINGS = Client(timeout_s=30, retries=3, backoff_s=0, max_request_bytes=15_000_000, in_flight=2)
IMAGES = [b"a", b"bc", b"def"]
LOOK = ("GET", "/api/2.0/serving-endpoints/pond")
UPDATE = ("PUT", "/api/2.0/serving-endpoints/pond/config")


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Workspace]:
    """Give a workspace that the environment leads to, with an endpoint `pond` that serves version 5."""
    with Workspace().open() as opened:
        monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("DATABRICKS_HOST", opened.url)
        monkeypatch.setenv("DATABRICKS_TOKEN", opened.token)
        opened.configure("pond", {"swan-5": 100})
        yield opened


def dataset(name: str = "pond", **changes: Any) -> DatabricksEndpointDataset:
    settings = {
        "workload_size": "Small",
        "workload_type": "CPU",
        "scale_to_zero": True,
        "environment_vars": {},
        "ready_timeout_s": 10,
        "poll_interval_s": 0.001,
        "secret_scope": None,
    }
    return DatabricksEndpointDataset(name=name, **{**settings, **changes})


def promoted(model: ModelVersion) -> Decision:
    return Decision(model, is_promoted=True)


def refused(model: ModelVersion) -> Decision:
    return Decision(model, is_promoted=False, reasons=("too dull",))


def serve(model: ModelVersion, name: str = "pond", **changes: Any) -> pd.DataFrame:
    with dataset(name, **changes).load().serve(model, SETTINGS) as client:
        return client.score(IMAGES, cropped=True, batch_size=2)


def reason_of(error: pytest.ExceptionInfo[BaseException]) -> str:
    """What a user is told about an error that Kedro wrapped."""
    cause = error.value.__cause__
    assert isinstance(cause, UserError)
    assert "\n" not in cause.message
    return cause.message


def test_a_new_version_is_asked_beside_the_old_one_which_keeps_the_traffic(workspace: Workspace) -> None:
    answer = serve(NEW)
    assert answer["logit_abnormal"].tolist() == [0.001, 0.002, 0.003]
    assert set(workspace.asked()) == {"/serving-endpoints/pond/served-models/swan-7/invocations"}
    assert workspace.traffic("pond") == {"swan-5": 100, "swan-7": 0}
    served = workspace.endpoints["pond"]["config"]["served_entities"][1]
    assert {key: served[key] for key in ("entity_name", "entity_version", "workload_size", "workload_type")} == {
        "entity_name": "main.test.swan",
        "entity_version": "7",
        "workload_size": "Small",
        "workload_type": "CPU",
    }
    assert served["scale_to_zero_enabled"] is True


def test_a_promoted_version_gets_all_traffic_and_the_old_one_stays_without(workspace: Workspace) -> None:
    serve(NEW)
    dataset().save(promoted(NEW))
    assert workspace.traffic("pond") == {"swan-5": 0, "swan-7": 100}
    assert workspace.changes() == [UPDATE, UPDATE]


def test_only_the_last_one_in_use_is_kept_beside_the_promoted(workspace: Workspace) -> None:
    workspace.configure("pond", {"swan-3": 0, "swan-5": 100})
    serve(NEW)
    assert workspace.traffic("pond") == {"swan-3": 0, "swan-5": 100, "swan-7": 0}
    dataset().save(promoted(NEW))
    assert workspace.traffic("pond") == {"swan-5": 0, "swan-7": 100}


def test_a_rollback_only_turns_the_traffic(workspace: Workspace) -> None:
    workspace.configure("pond", {"swan-5": 0, "swan-7": 100})
    dataset().save(promoted(OLD))
    assert workspace.traffic("pond") == {"swan-5": 100, "swan-7": 0}
    assert workspace.changes() == [UPDATE]


def test_a_rollback_to_a_version_that_is_served_no_more_waits_for_it_before_it_turns_the_traffic(
    workspace: Workspace,
) -> None:
    dataset().save(promoted(ModelVersion("main.test.swan", "3")))
    assert workspace.traffic("pond") == {"swan-5": 0, "swan-3": 100}
    staged, turned = (json.loads(request.body) for request in workspace.requests if request.method == "PUT")
    assert [route["traffic_percentage"] for route in staged["traffic_config"]["routes"]] == [100, 0]
    assert [route["traffic_percentage"] for route in turned["traffic_config"]["routes"]] == [0, 100]


def test_a_refused_version_is_taken_out(workspace: Workspace) -> None:
    serve(NEW)
    dataset().save(refused(NEW))
    assert workspace.traffic("pond") == {"swan-5": 100}


def test_after_an_error_while_it_is_asked_the_new_version_is_taken_out(workspace: Workspace) -> None:
    workspace.answer = lambda _: Reply(400, "no request")
    with pytest.raises(EndpointError, match="answered 400"):
        serve(NEW)
    assert workspace.traffic("pond") == {"swan-5": 100}
    dataset().save(refused(NEW))
    assert workspace.changes() == [UPDATE, UPDATE]  # in and out: the refusal finds nothing left to do


def test_after_an_interruption_the_new_version_is_taken_out(workspace: Workspace) -> None:
    with pytest.raises(KeyboardInterrupt), dataset().load().serve(NEW, SETTINGS):
        raise KeyboardInterrupt
    assert workspace.traffic("pond") == {"swan-5": 100}


def test_a_version_whose_update_fails_leaves_everything_as_it_was(workspace: Workspace) -> None:
    workspace.failing = {"7"}
    with pytest.raises(EndpointError, match=r"endpoint pond failed: .*swan-7 is DEPLOYMENT_FAILED \(no module named"):
        serve(NEW)
    assert workspace.traffic("pond") == {"swan-5": 100}
    assert workspace.endpoints["pond"]["update"] == "NOT_UPDATING"
    assert workspace.asked() == []
    workspace.failing = set()
    assert len(serve(NEW)) == 3


def test_when_turning_the_traffic_fails_the_old_version_keeps_it(workspace: Workspace) -> None:
    serve(NEW)
    workspace.failing = {"7"}
    with pytest.raises(DatasetError) as failed:
        dataset().save(promoted(NEW))
    assert "update of endpoint pond failed" in reason_of(failed)
    assert workspace.traffic("pond")["swan-5"] == 100


def test_a_missing_endpoint_is_created_and_its_first_version_has_the_traffic(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(serve(NEW, "lake")) == 3
    assert workspace.changes() == [("POST", "/api/2.0/serving-endpoints")]
    dataset("lake").save(promoted(NEW))
    assert workspace.traffic("lake") == {"swan-7": 100}
    dataset("lake").save(refused(NEW))
    assert workspace.traffic("lake") == {"swan-7": 100}
    assert "Endpoint lake keeps swan-7: it has the traffic." in caplog.text
    assert len(workspace.changes()) == 1


def test_an_endpoint_whose_creation_failed_is_updated_by_the_next_version(workspace: Workspace) -> None:
    workspace.failing = {"5"}
    with pytest.raises(EndpointError, match="failed"):
        serve(OLD, "lake")
    assert len(serve(NEW, "lake")) == 3
    assert workspace.traffic("lake") == {"swan-7": 100}


def test_progress_is_told_while_an_update_runs_and_the_version_is_asked_after_it(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    workspace.looks = 5
    with caplog.at_level(logging.INFO, "cygnet"):
        serve(NEW)
    assert "Endpoint pond: " in caplog.text
    assert "swan-7 is DEPLOYMENT_CREATING (building the environment)" in caplog.text
    assert caplog.text.count("DEPLOYMENT_CREATING (building the environment), swan-7") == 1  # not at every look
    paths = [(request.method, request.path) for request in workspace.requests]
    before_first_question = paths[: next(i for i, (_, path) in enumerate(paths) if path.endswith("/invocations"))]
    assert before_first_question[before_first_question.index(UPDATE) + 1 :].count(LOOK) >= 5


def test_a_version_that_is_not_ready_in_time_is_not_asked(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    workspace.looks = 1_000_000
    with pytest.raises(EndpointError, match=r"pond was not ready after 0\.05 s: .*building the environment"):
        serve(NEW, ready_timeout_s=0.05)
    assert workspace.asked() == []
    assert workspace.traffic("pond") == {"swan-5": 100}
    assert "pond keeps its traffic, but its previous settings are not restored" in caplog.text


def test_an_update_of_somebody_else_is_waited_for(workspace: Workspace) -> None:
    pending = workspace.endpoints["pond"]["config"]
    workspace.endpoints["pond"] |= {"pending": pending, "looks": 3, "update": "IN_PROGRESS"}
    assert len(serve(NEW)) == 3


def test_the_version_in_use_is_asked_without_any_change(workspace: Workspace) -> None:
    serve(OLD)
    dataset().save(promoted(OLD))
    assert workspace.changes() == []


def test_changed_settings_reach_a_version_that_is_served_already(workspace: Workspace) -> None:
    serve(OLD, workload_size="Large")
    (entity,) = workspace.endpoints["pond"]["config"]["served_entities"]
    assert (entity["workload_size"], entity["name"]) == ("Large", "swan-5")
    assert workspace.traffic("pond") == {"swan-5": 100}


def test_throttling_failures_and_a_lost_connection_are_lived_through(workspace: Workspace) -> None:
    workspace.replies = [Reply(429, {}, {"Retry-After": "0"}), CUT, Reply(503)]
    assert serve(NEW)["logit_abnormal"].tolist() == [0.001, 0.002, 0.003]


def test_images_above_16_mb_are_answered_in_several_requests(workspace: Workspace) -> None:
    with dataset().load().serve(NEW, SETTINGS) as client:
        assert len(client.score([bytes(4_000_000)] * 4, cropped=True, batch_size=100)) == 4
    assert len(workspace.asked()) == 2


def test_credentials_that_the_workspace_refuses_are_a_sentence_without_them(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DATABRICKS_TOKEN", workspace.token[::-1])
    with caplog.at_level(logging.INFO), pytest.raises(EndpointError, match="refused the credentials") as error:
        serve(NEW)
    assert workspace.token[::-1] not in "".join(traceback.format_exception(error.value)) + caplog.text
    assert "\n" not in error.value.message


def test_credentials_that_the_endpoint_refuses_are_a_sentence_without_them(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    workspace.answer = lambda request: Reply(403, f"not {request.headers['Authorization']}")
    with caplog.at_level(logging.INFO), pytest.raises(EndpointError, match="refused the credentials") as error:
        serve(NEW)
    assert workspace.token not in "".join(traceback.format_exception(error.value)) + caplog.text
    assert "\n" not in error.value.message


def test_credentials_are_not_in_what_is_printed_of_endpoint_and_client(workspace: Workspace) -> None:
    endpoint = dataset().load()
    with endpoint.serve(OLD, SETTINGS) as client:
        assert workspace.token not in f"{endpoint!r} {client!r} {vars(client)!r} {dataset()!r}"


def test_no_credentials_at_all_are_a_sentence(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.setenv("DATABRICKS_AUTH_TYPE", "pat")
    with pytest.raises(EndpointError, match=r"set DATABRICKS_HOST with DATABRICKS_CLIENT_ID"):
        serve(NEW)


def test_a_service_principal_of_the_environment_signs_in(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "principal")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "secret-word")
    assert len(serve(NEW)) == 3
    assert [r.path for r in workspace.requests].count("/oidc/v1/token") == 1


def test_a_service_principal_of_a_secret_scope_signs_in(workspace: Workspace) -> None:
    scope = "vault"
    workspace.secrets = {(scope, "client_id"): "principal", (scope, "client_secret"): "secret-word"}
    assert len(serve(NEW, secret_scope=scope)) == 3
    paths = [request.path.partition("?")[0] for request in workspace.requests]
    assert paths.index("/api/2.0/secrets/get") < paths.index("/oidc/v1/token") < paths.index(LOOK[1])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", "abc"),
        ("DB_PASSWORD", "hello"),
        ("AZURE_STORAGE_ACCOUNT_KEY", "x"),
        ("SETTING", "dapi" + "0a" * 16),
        ("SETTING", "Zm9vYmFyYmF6MTIzNDU2Nzg5"),  # pragma: allowlist secret
        ("SETTING", "Server=x;Pwd=word"),
        ("SETTING", "postgres://user:word@host/db"),  # pragma: allowlist secret
        ("HF_TOKEN", "{{secrets/scope}}"),
        ("SETTING", "{{secret/scope/key}}"),
        ("HF_TOKEN", "x{{secrets/scope/key}}"),
    ],
)
def test_what_looks_like_a_secret_is_refused_unseen(name: str, value: str) -> None:
    endpoint = dataset(environment_vars={"GOOD": "1", name: value})
    with pytest.raises(UserError, match=name) as error:
        endpoint.check_settings()
    assert value not in error.value.message
    with pytest.raises(DatasetError) as wrapped:
        endpoint.save(promoted(NEW))
    assert "looks like a secret" in reason_of(wrapped)


def test_references_and_plain_settings_reach_the_version(workspace: Workspace) -> None:
    given = {"HF_TOKEN": "{{secrets/scope/key}}", "OMP_NUM_THREADS": 4, "CACHE": "/Volumes/main/test/cache-2/models"}
    serve(NEW, environment_vars=given)
    served = workspace.endpoints["pond"]["config"]["served_entities"][1]
    assert served["environment_vars"] == {**given, "OMP_NUM_THREADS": "4"}


def test_an_unknown_workload_type_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UserError, match=r"is 'GPU': allowed are CPU.*GPU_SMALL"):
        dataset(workload_type="GPU").check_settings()


def test_a_run_that_ends_at_an_endpoint_with_such_settings_does_not_start() -> None:
    rollback = Pipeline([node(lambda version: version, "version", "live_endpoint", name="roll_back")])
    datasets = {"version": MemoryDataset(OLD), "live_endpoint": dataset(workload_type="GPU")}
    hooks = UserErrorHooks()
    hooks._data, hooks._parameters, hooks._given = "data", {}, {}
    with pytest.raises(UserError, match="workload_type of endpoint pond is 'GPU'"):
        hooks.before_pipeline_run(rollback, DataCatalog(datasets))


def test_nothing_is_ever_deleted(workspace: Workspace) -> None:
    serve(NEW)
    dataset().save(refused(NEW))
    workspace.failing = {"7"}
    with pytest.raises(EndpointError):
        serve(NEW)
    assert {request.method for request in workspace.requests} == {"GET", "PUT", "POST"}


def test_the_client_goes_by_the_proxy_and_the_certificates_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", "near.test")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/own.pem")
    far, near = (environment_pool(f"https://{host}/", 3) for host in ("far.test", "near.test"))
    assert (far.proxy.host, near.proxy) == ("proxy.test", None)
    for pool in (far, near):
        assert pool.connection_pool_kw["ca_certs"] == "/etc/own.pem"
        assert pool.connection_pool_kw["maxsize"] == 3


def test_the_catalog_of_databricks_describes_both_entries_by_the_globals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYGNET_ENDPOINT", "pond")
    loader = OmegaConfigLoader(str(PROJECT / "conf"), env="databricks", **CONFIG_LOADER_ARGS)
    catalog = loader["catalog"]
    assert catalog["endpoint"] == catalog["live_endpoint"]
    made: Callable[..., DatabricksEndpointDataset]
    made, settings = parse_dataset_definition(catalog["endpoint"])
    made(**settings).check_settings()
    assert made is DatabricksEndpointDataset
    assert settings["name"] == "pond"
    assert loader["globals"]["model"].count(".") == 2
    assert Client.model_validate(loader["parameters"]["serving"]["client"]).in_flight > 2


@pytest.mark.slow
def test_a_real_scoring_server_answers_through_the_endpoint(
    workspace: Workspace, store: Path, detector: PackagedDetector
) -> None:
    import requests

    images = [encode_png(toy_image(NORMAL, seed, 256)) for seed in range(3)]
    with tracked(store):
        registered = RegisteredModelDataset(name="databricks", alias="challenger")
        registered.save(detector)
        with LocalEndpoint(start_timeout_s=120).serve(registered.load(), SETTINGS) as local:

            def passed_on(request: Request) -> Reply:
                kind = {"Content-Type": request.headers["Content-Type"]}
                answer = requests.post(f"{local.url}/invocations", request.body, headers=kind, timeout=30)
                return Reply(answer.status_code, answer.json())

            workspace.answer = passed_on
            with dataset().load().serve(NEW, SETTINGS) as client:
                answer = client.score(images, cropped=True, batch_size=2)
    scorer = detector.scorer
    expected = scorer.score([scorer.decode(image) for image in images])[0]
    assert answer["anomaly_score"].tolist() == pytest.approx(expected["anomaly_score"].tolist(), abs=1e-5)
