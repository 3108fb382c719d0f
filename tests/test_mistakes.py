"""A user's mistakes, by the command line in this process: one sentence each, before any work."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from kedro.framework.cli.utils import find_run_command
from kedro.runner import AbstractRunner

from support.runs import here


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a project that has no data yet."""
    return tmp_path_factory.mktemp("nothing")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--params=video=/nowhere/at_all.mp4"], "video=/nowhere/at_all.mp4: no such file or folder"),
        (["--params=ingestion.interval_s=-1"], "'ingestion.interval_s' is -1"),
        (["--params=ingestion.intervall_s=1"], "the nearest known one is 'ingestion.interval_s'"),
        (["--params=vidoe=x.mp4"], "the nearest known one is 'video'"),
        (["--params=training.epochs=many"], "'training.epochs' is 'many'"),
        (["--params=training.checkpoint=/nowhere/vit"], "'/nowhere/vit' can't be used: there is no such folder"),
        (["--params=labels=/nowhere/labels.csv"], "labels=/nowhere/labels.csv: no such file"),
        (["--pipelines", "pretraining", "--params=pretraining.small_size_px=50"], "small_size_px 50 is not a multiple"),
        (["--params=scene.region=/nowhere/mask.png"], "names /nowhere/mask.png, which can't be read"),
        (["--pipelines", "synthesis"], "There is no table 'images'"),
        (["--pipelines", "serving"], "is the challenger: run"),
        (["--pipelines", "calibration"], "is the champion: run `kedro run --pipeline=serving` first"),
        (["--pipelines", "adaptation"], "is the champion: run `kedro run --pipeline=serving` first"),
        (["--pipelines", "calibration", "--params=scoring.max_alarms_per_hour=-1"], "max_alarms_per_hour' is -1"),
        (["--pipelines", "rollback"], "is the champion: run `kedro run --pipeline=serving` first"),
    ],
)
def test_a_mistake_gets_one_sentence_before_any_work(
    arguments: list[str], expected: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AbstractRunner, "run", lambda *_, **__: pytest.fail("a node was run"))
    with here(data):
        result = CliRunner().invoke(find_run_command("cygnet"), ["--env=test", *arguments])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert expected in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
