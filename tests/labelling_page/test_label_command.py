"""What `kedro label` promises: the page of an environment's data until Ctrl-C, or a sentence that says why not."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest

from support.page_tables import make_catalog
from support.runs import PLACES, PROJECT, kedro_run

LABEL = (sys.executable, "-m", "kedro", "label")
pytestmark = pytest.mark.slow


def test_it_serves_the_data_of_an_environment_until_it_is_interrupted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_catalog(tmp_path, {"swan": 3}, np.array([0.08, 0.6, 0.9]))
    for name in ("frames", "scores"):
        shutil.copytree(tmp_path / name, data / PLACES[name])
    (data / "08_reporting").mkdir()
    shutil.copy(tmp_path / "scoring_report.json", data / "08_reporting")
    process = subprocess.Popen(
        [*LABEL, "--env=test", "--port=0"],
        cwd=PROJECT,
        env={**os.environ, "CYGNET_DATA": str(data), "KEDRO_DISABLE_TELEMETRY": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        address = said.split(" at ")[1].split()[0]
        with urlopen(f"{address}/state") as state:  # noqa: S310 - this machine
            assert json.load(state)["orders"]["uncertain"] == [1, 2, 0]
        answer = json.dumps({"first": 1, "last": 1, "label": "abnormal"}).encode()
        urlopen(Request(f"{address}/answer", answer, {"Content-Type": "application/json"}))  # noqa: S310
        assert "swan_000004,abnormal,,,human" in (data / "01_raw/labels.csv").read_text()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert errors == ""


def test_without_frames_it_says_what_to_run(tmp_path: Path) -> None:
    done = kedro_run(tmp_path, command=LABEL)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: There is no table 'frames'")
    assert "kedro run --pipeline=ingestion" in done.stderr
    assert "Traceback" not in done.stderr
