"""What `--params` promises: a path arrives as it was typed, and every other value as Kedro reads it."""

from typing import Any

import pytest
from kedro.framework.startup import bootstrap_project

from cygnet.cli import _complete_names, cli
from cygnet.errors import UserError
from support.project import PROJECT


def parse(params: str, command: str = "run") -> Any:
    """Read the arguments of `kedro run --params=...`, or of another command, without running anything."""
    return cli.commands[command].make_context(command, [f"--params={params}"]).params["params"]


@pytest.mark.parametrize(
    "path",
    [
        "/my videos/clip #1.mp4",
        "/clips/%20'é\".mp4",
        "#1.mp4",
        "*.mp4",
        "[a] {b}.mp4",
        "a: b.mp4",
        "back\\slash.mp4",
        "0001",
        "a=b.mp4",
        "a, b,c.mp4",
    ],
)
@pytest.mark.parametrize("name", ["video", "labels", "source", "alerts"])
def test_a_path_arrives_as_it_was_typed(name: str, path: str) -> None:
    assert parse(f"spark_partitions=3,{name}={path},serving.runtime=torch") == {
        "spark_partitions": 3,
        name: path,
        "serving": {"runtime": "torch"},
    }


@pytest.mark.parametrize("source", ["rtsp://me:a#b@cam:554/1?x=1&y=2", "0", "http://[::1]:80/video: #1"])
def test_an_address_or_the_number_of_a_camera_is_text(source: str) -> None:
    assert parse(f"source={source},watch.duration_s=3") == {"source": source, "watch": {"duration_s": 3}}


def test_the_labelling_page_takes_paths_as_a_run_does() -> None:
    assert parse("labels=/my labels #2.csv", "label") == {"labels": "/my labels #2.csv"}


def test_a_path_that_is_quoted_already_is_not_quoted_twice() -> None:
    assert parse("video='/clips/a #1.mp4'") == {"video": "/clips/a #1.mp4"}


def test_values_of_other_parameters_are_yaml() -> None:
    params = "training.checkpoint=null,training.epochs=2,training.fitted_fracs=0.5,training.twins=false"
    expected = {"training": {"checkpoint": None, "epochs": 2, "fitted_fracs": 0.5, "twins": False}}
    assert parse(params) == expected


@pytest.mark.parametrize("item", ["training.epochs=[3", "training.epochs=*3", "x='a", "x=${", "x=[0.1,0.2]"])
def test_what_is_no_yaml_is_a_sentence_that_names_the_item(item: str) -> None:
    with pytest.raises(UserError) as refused:
        parse(f"video=a.mp4,{item},spark_partitions=3")
    assert refused.value.message.startswith(f"--params: '{item.split(',')[0]}' is no valid YAML, close each ")


def test_what_is_no_yaml_does_not_show_a_password() -> None:
    with pytest.raises(UserError) as refused:
        parse("watch.source=[rtsp://me:word@cam/1")  # pragma: allowlist secret
    assert refused.value.message.startswith("--params: 'watch.source=[rtsp://cam/1' is no valid YAML")


def test_a_checkpoint_may_be_a_folder_of_any_name() -> None:
    assert parse("training.checkpoint=/models/vit #2") == {"training": {"checkpoint": "/models/vit #2"}}


def test_a_node_may_be_named_without_its_pipeline() -> None:
    bootstrap_project(PROJECT)
    lists = ["node_names", "from_nodes", "to_nodes", "from_inputs", "to_outputs", "tags", "pipelines"]
    options: dict[str, Any] = {name: [] for name in lists}
    given = {**options, "pipeline": "ingestion", "node_names": ["read_frames"], "to_nodes": ["ingestion.make_images"]}
    completed = _complete_names(given)
    assert completed["node_names"] == ["ingestion.read_frames"]
    assert completed["to_nodes"] == ["ingestion.make_images"]
    assert given["node_names"] == ["read_frames"]
