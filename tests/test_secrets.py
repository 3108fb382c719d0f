"""What secrets promise: they come from the workspace by the real client, and end up nowhere."""

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cygnet.errors import UserError
from cygnet.secrets import resolve_secret
from support.runs import PROJECT, kedro_run
from support.stub_server import Workspace

VALUE = "pond-and-reeds-8731"


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Give the environment of one who may read the secrets of a workspace."""
    with Workspace().open() as opened:
        opened.secrets["lake", "account"] = VALUE
        environment = {"DATABRICKS_HOST": opened.url, "DATABRICKS_TOKEN": opened.token}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield environment


@pytest.mark.usefixtures("workspace")
def test_a_secret_comes_from_the_workspace() -> None:
    assert resolve_secret("lake/account") == VALUE


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("lake", "must have the form scope/key"),
        ("/account", "must have the form scope/key"),
        ("lake/other", "'lake/other' can't be read"),
    ],
)
def test_a_secret_that_is_not_there_is_a_sentence(reference: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_secret(reference)


@pytest.mark.usefixtures("workspace")
def test_a_refused_token_is_a_sentence_without_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_TOKEN", "refused-token")
    with pytest.raises(UserError, match="can't be read") as refused:
        resolve_secret("lake/account")
    assert "refused-token" not in refused.value.message


def test_secrets_are_named_in_credentials_alone() -> None:
    files = [file for file in (PROJECT / "conf").rglob("*.y*ml") if not file.name.startswith("credentials")]
    assert [file for file in files if "${secret:" in file.read_text()] == []


@pytest.mark.slow
def test_a_resolved_secret_ends_up_nowhere(workspace: dict[str, str], tmp_path: Path) -> None:
    conf, data = tmp_path / "conf", tmp_path / "data"
    shutil.copytree(PROJECT / "conf", conf)
    (conf / "test" / "credentials.yml").write_text("lake: {account_key: '${secret:lake/account}'}\n")
    (conf / "test" / "catalog.yml").write_text(
        "rejects:\n  type: pandas.CSVDataset\n  filepath: ${globals:data}/08_reporting/rejects.csv\n"
        "  credentials: lake\n"
    )
    done = kedro_run(data, "--pipelines=ingestion", f"--conf-source={conf}", **workspace)
    assert done.returncode == 0, done.stderr
    assert (data / "08_reporting" / "rejects.csv").exists()
    written = [file.read_bytes() for file in data.rglob("*") if file.is_file()]
    for secret in (VALUE, base64.b64encode(VALUE.encode()).decode(), workspace["DATABRICKS_TOKEN"]):
        assert secret not in done.stdout + done.stderr
        assert not any(secret.encode() in content for content in written)
