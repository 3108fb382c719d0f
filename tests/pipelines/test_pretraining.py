"""What the pipeline pretraining promises: from parameters alone to a folder that says what it is."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from kedro_datasets.json import JSONDataset
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from transformers import AutoModel

from cygnet.datasets.model_folder import ModelFolderDataset
from cygnet.datasets.training_state import TrainingStateDataset
from cygnet.parameters.base import Parameters
from cygnet.parameters.pretraining import Pretraining
from cygnet.pipeline_registry import register_pipelines
from cygnet.pipelines.pretraining import create_pipeline
from cygnet.reports import PretrainingReport
from support.reports import assert_conforms

PROJECT = Path(__file__).parents[2]


def run(data: Path, pretraining: Pretraining, ingestion: Parameters) -> dict[str, Any]:
    """Run the pipeline on its own."""
    catalog = DataCatalog(
        {
            "params:pretraining": MemoryDataset(pretraining),
            "params:ingestion.crop_horizontal_bias": MemoryDataset(ingestion.crop_horizontal_bias),
            "pretraining_state": TrainingStateDataset(filepath=str(data / "state")),
            "pretrained": MemoryDataset(copy_mode="assign"),
            "pretraining_report": JSONDataset(filepath=str(data / "report.json")),
            "pretrained_checkpoint": ModelFolderDataset(filepath=str(data / "checkpoint")),
        }
    )
    return {name: dataset.load() for name, dataset in SequentialRunner().run(create_pipeline(), catalog).items()}


@pytest.fixture(scope="module")
def pretraining() -> Pretraining:
    """Give the parameters of conf/test over those of conf/base."""
    files = [PROJECT / f"conf/{environment}/parameters_pretraining.yml" for environment in ("base", "test")]
    merged = OmegaConf.merge(*[yaml.safe_load(file.read_text()) for file in files])
    return Pretraining.model_validate(OmegaConf.to_container(merged)["pretraining"]).model_copy(update={"workers": 0})


@pytest.fixture(scope="module")
def finished(
    pretraining: Pretraining, parameters: dict[str, Parameters], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """Give the folder of one run and what it made."""
    data = tmp_path_factory.mktemp("pretraining")
    return data, run(data, pretraining, parameters["ingestion"])


def test_it_is_run_by_its_name_alone() -> None:
    pipelines = register_pipelines()
    assert {node.name for node in pipelines["pretraining"].nodes} == {
        f"pretraining.{node.name}" for node in create_pipeline().nodes
    }
    assert not pipelines["__default__"].only_nodes_with_tags("pretraining").nodes


def test_the_report_says_how_it_was_made_and_how_good_it_is(
    finished: tuple[Path, dict[str, Any]], pretraining: Pretraining
) -> None:
    report = json.loads((finished[0] / "report.json").read_text(), parse_constant=pytest.fail)  # no NaN
    assert_conforms(report, PretrainingReport)
    made = report["pretraining"]
    assert (made["seed"], made["images_seen"], made["steps"]) == (pretraining.seed, 128, 8)
    assert made["kinds_seen"] == ["polygon", "polygon_soft", "cutpaste", "scar", "perlin"]
    assert made["textures_seen"] == pretraining.textures
    for name in ("held_out", "swan"):
        assert 0 <= report[name]["auroc"] <= 1
        assert report[name]["nll"] > 0
        assert set(report[name]["by_kind"]) == {*made["kinds_seen"], "blend", "blur", "shift"}


def test_the_folder_is_a_hugging_face_checkpoint_that_records_what_it_saw(
    finished: tuple[Path, dict[str, Any]], pretraining: Pretraining
) -> None:
    folder, report = finished[0] / "checkpoint", json.loads((finished[0] / "report.json").read_text())
    names = ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    config = AutoModel.from_pretrained(folder, add_pooling_layer=False).config
    assert config.kinds_seen == list(pretraining.twins.kinds)
    assert config.textures_seen == pretraining.textures
    assert (config.images_seen, config.seed) == (128, pretraining.seed)
    card = (folder / "README.md").read_text()
    assert "kedro run --pipeline=pretraining" in card
    for figure in (report["held_out"]["auroc"], report["swan"]["nll"], report["swan"]["by_kind"]["scar"]["auroc"]):
        assert f"{figure:.3f}" in card
    assert "| kinds never seen | blend, blur, shift |" in card
    assert "{" not in card


def test_the_curve_shows_every_row_of_the_history(finished: tuple[Path, dict[str, Any]]) -> None:
    figure: Figure = finished[1]["pretraining_curve_figure"]
    line = figure.axes[0].lines[0]
    history = torch.load(finished[0] / "state" / "state.pt", weights_only=True)["state"]["history"]
    assert line.get_xdata().tolist() == [row["images"] for row in history] == [32, 64, 96, 128]
    assert line.get_ydata().tolist() == [row["loss"] for row in history]


def test_a_second_run_gives_the_same_folder(
    finished: tuple[Path, dict[str, Any]], pretraining: Pretraining, parameters: dict[str, Parameters]
) -> None:
    folder = finished[0] / "checkpoint"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run(finished[0], pretraining, parameters["ingestion"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
