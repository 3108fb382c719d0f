"""A user's mistakes, by the command line in this process: one sentence each, before any work."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from kedro.framework.cli.utils import find_run_command
from kedro.runner import AbstractRunner

from support.runs import PROJECT, here


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
        (["--params=vidoe=x.mp4"], "'vidoe' is unknown: the nearest known one is 'video'"),
        (["--params=trainin.epochs=3"], "'trainin.epochs' is unknown: the nearest known one is 'training.epochs'"),
        (["--params=training.epoch=3"], "'training.epoch' is unknown: the nearest known one is 'training.epochs'"),
        (["--params=epochs=3"], "'epochs' is unknown: the nearest known one is 'training.epochs'"),
        (["--pipeline=scorng"], "Pipeline 'scorng' is unknown: the nearest known one is 'scoring'"),
        (["--pipelines=ingestion,sythesis"], "Pipeline 'sythesis' is unknown: the nearest known one is 'synthesis'"),
        (["--nodes=read_frame"], "Node 'read_frame' is unknown: the nearest known one is 'read_frames'"),
        (["--from-nodes=split"], "Node 'split' is unknown: the nearest known one is"),
        (["--to-outputs=imges"], "Dataset 'imges' is unknown: the nearest known one is 'images'"),
        (["--tags=scorin", "--pipelines=scoring"], "Tag 'scorin' is unknown: the nearest known one is 'scoring'"),
        (["--env=tset"], "Environment 'tset' is unknown: the nearest known one is 'test'"),
        (["--pipelin=scoring"], "No such option '--pipelin'. (Did you mean one of: '--pipeline', '--pipelines'?)"),
        (["--params=training.epochs=[3"], "'training.epochs=[3' is no valid YAML"),
        (["--params=video="], "Parameter 'video' is null: give a text that is not empty"),
        (
            ["--params=source=0,watch.source=rtsp://me:word@cam/1"],  # pragma: allowlist secret
            "'watch.source' is 'rtsp://cam/1': it is a group",
        ),
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
    assert result.exit_code in {1, 2}  # 2 is click's own, for an option that is none
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert expected in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_a_wrong_key_in_a_file_is_told_as_one_on_the_command_line(data: Path, tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "conf", tmp_path / "conf")
    (tmp_path / "conf" / "test" / "parameters_training.yml").write_text("training: {treshold: {target_fpr: 0.1}}")
    with here(data):
        result = CliRunner().invoke(find_run_command("cygnet"), ["--env=test", f"--conf-source={tmp_path / 'conf'}"])
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        1,
        "Error: Parameter 'training.treshold' is unknown: the nearest known one is 'training.threshold'.",
    )
