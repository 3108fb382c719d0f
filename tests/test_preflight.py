"""Before a run starts: what it reads is held against its parameters, and none of them is silently ignored."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from kedro.io import AbstractDataset, DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node

from cygnet import preflight
from cygnet.area import read_area
from cygnet.datasets.scene import SceneDataset
from cygnet.datasets.table import TableDataset
from cygnet.errors import UserError
from cygnet.parameters.scene import SceneParameters
from cygnet.pipeline_registry import register_pipelines
from cygnet.preflight import check_run, checked_before_run
from cygnet.tables import PREDICTIONS
from support.toys import IMAGES_SCENE, SCENE, base_parameters, toy_predictions

OLD = replace(IMAGES_SCENE, view="tiles")
READER = Pipeline([node(lambda scene: scene, "scene", "out", name="read")])


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know the project's pipelines, as in a run."""
    monkeypatch.setattr(preflight, "pipelines", register_pipelines())


@pytest.fixture
def scene(tmp_path: Path) -> SceneDataset:
    """Give the entry `scene`, written by a run with the default parameters."""
    dataset = SceneDataset(filepath=str(tmp_path / "03_primary" / "scene.json"), made_by="ingestion")
    dataset.save(OLD)
    return dataset


def given(name: str, value: Any) -> dict[str, Any]:
    """The content of `--params=name=value`, nested as Kedro nests it."""
    *sections, key = name.split(".")
    nested: dict[str, Any] = {key: value}
    for section in reversed(sections):
        nested = {section: nested}
    return nested


def parameters_with(name: str, value: Any) -> dict[str, Any]:
    """The parameters of conf/base with one of them changed."""
    parameters = base_parameters()
    section = parameters
    *sections, key = name.split(".")
    for each in sections:
        section = section[each]
    section[key] = value
    return parameters


def start(pipeline: Pipeline, datasets: dict[str, AbstractDataset[Any, Any]], name: str, value: Any) -> None:
    """Check a run with `--params=name=value`."""
    is_run_key = name in {"video", "labels", "spark_partitions", "job_run_id"}
    parameters = {**base_parameters(), name: value} if is_run_key else parameters_with(name, value)
    check_run(pipeline, DataCatalog(datasets), parameters, given(name, value))


def test_a_scene_is_stored_and_read_again(tmp_path: Path) -> None:
    for written in (OLD, SCENE):
        dataset = SceneDataset(filepath=str(tmp_path / "scene.json"), made_by="ingestion")
        dataset.save(written)
        assert dataset.load() == written


@pytest.mark.parametrize("content", [None, "{}", "no json", '{"interval_s": 1, "more": 2}'])
def test_a_scene_that_can_not_be_read_names_the_pipeline_that_writes_it(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "scene.json").write_text(content)
    dataset = SceneDataset(filepath=str(tmp_path / "scene.json"), made_by="ingestion")
    with pytest.raises(UserError, match="kedro run --pipeline=ingestion"):
        dataset.check()


@pytest.mark.parametrize(
    ("name", "made", "now"),
    [
        ("ingestion.crop_horizontal_bias", "0.4", 0.1),
        ("ingestion.interval_s", "0.1", 2.5),
        ("scene.view", "tiles", "whole"),
        ("ingestion.frame_jpeg_quality", "95", 70),
        ("ingestion.image_jpeg_quality", "95", 71),
    ],
)
def test_parameters_that_disagree_with_the_scene_stop_the_run(
    scene: SceneDataset, name: str, made: str, now: float
) -> None:
    with pytest.raises(UserError) as refused:
        start(READER, {"scene": scene}, name, now)
    message = refused.value.message
    assert all(part in message for part in (name, made, str(now), "scene", "ingestion"))
    assert "\n" not in message


def test_the_camera_is_recorded_by_augmentation(tmp_path: Path) -> None:
    recorded = SceneDataset(filepath=str(tmp_path / "training_scene.json"), made_by="augmentation")
    recorded.save(replace(SCENE, view="tiles", camera="moving"))
    reader = Pipeline([node(lambda scene: scene, "training_scene", "out", name="read")])
    with pytest.raises(UserError, match=r"'scene\.camera' is fixed, .* made with moving: .* pipeline augmentation"):
        start(reader, {"training_scene": recorded}, "scene.camera", "fixed")


def test_parameters_that_agree_or_decide_nothing_about_pixels_do_not_stop_it(scene: SceneDataset) -> None:
    start(READER, {"scene": scene}, "ingestion.crop_horizontal_bias", 0.4)
    start(READER, {"scene": scene}, "ingestion.split.gap_s", 1.0)
    start(READER, {"scene": scene}, "augmentation.jpeg_quality", 80)  # nothing was augmented yet


def test_a_run_that_makes_the_scene_again_may_change_it(scene: SceneDataset) -> None:
    maker = Pipeline([node(lambda ingestion: OLD, "params:ingestion", "scene", name="record"), *READER.nodes])
    datasets = {"scene": scene, "params:ingestion": MemoryDataset({})}
    start(maker, datasets, "ingestion.crop_horizontal_bias", 0.1)


def test_a_table_carries_the_scene_it_was_made_with_whatever_the_scene_is_now(
    scene: SceneDataset, tmp_path: Path
) -> None:
    table = TableDataset(filepath=str(tmp_path / "table"), table="predictions", load_as="arrow", scene=scene._filepath)
    table.save(pd.DataFrame(toy_predictions([0.1], [0.9]))[PREDICTIONS.names])
    scene.save(replace(OLD, crop_horizontal_bias=0.1))
    reader = Pipeline([node(lambda rows: rows, "rows", "out", name="read")])
    with pytest.raises(UserError, match=r"'ingestion\.crop_horizontal_bias' is 0\.1, but 'rows' was made with 0\.4"):
        start(reader, {"rows": table}, "ingestion.crop_horizontal_bias", 0.1)
    start(reader, {"rows": table}, "augmentation.jpeg_quality", 80)


class Version(AbstractDataset[None, str]):
    """A registered version that carries a runtime."""

    def load(self) -> str:
        """Give nothing of use."""
        return ""

    def save(self, data: None) -> None:
        """Not needed."""

    def made_with(self) -> dict[str, Any]:
        """Give what it carries."""
        return {"serving.runtime": "onnx", "ingestion.interval_s": 0.1}

    def _describe(self) -> dict[str, Any]:
        return {}


def test_a_setting_that_the_version_carries_already_is_told_with_what_to_run(caplog: pytest.LogCaptureFixture) -> None:
    serving = Pipeline([node(lambda challenger: challenger, "challenger", "out", name="serve")])
    with caplog.at_level(logging.WARNING):
        start(serving, {"challenger": Version()}, "serving.runtime", "torch")
    (record,) = caplog.records
    message = record.getMessage()
    for part in ("serving.runtime", "torch", "onnx", "kedro run --pipelines=training,serving"):
        assert part in message
    with pytest.raises(UserError, match=r"ingestion\.interval_s"):
        start(serving, {"challenger": Version()}, "ingestion.interval_s", 0.2)


@pytest.mark.parametrize(
    ("pipeline", "name", "value", "readers"),
    [
        ("serving", "training.epochs", 3, "training"),
        ("ingestion", "scoring.crop", "tiles", "adaptation, calibration, scoring and watch"),
        ("rollback", "synthesis.severity", [0.1, 0.2], "synthesis and training"),
        ("training", "serving.gate.min_auroc", 0.9, "serving, adaptation and calibration"),
        ("serving", "serving.limits.request_rows", 9, "training"),
        ("augmentation", "video", "x.mp4", "ingestion, adaptation, calibration, labelling and scoring"),
        ("synthesis", "labels", "x.csv", "ingestion, labelling and scoring"),
    ],
)
def test_a_parameter_that_the_run_does_not_read_gets_one_warning_with_the_pipelines_that_do(
    pipeline: str, name: str, value: Any, readers: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        preflight.warn_of_unread([name], register_pipelines()[pipeline], DataCatalog())
    (record,) = caplog.records
    assert f"'{name}'" in record.getMessage()
    assert record.getMessage().endswith(f"read by {readers}.")


@pytest.mark.parametrize(
    ("pipeline", "name"),
    [
        ("serving", "serving.gate.min_auroc"),
        ("serving", "serving.client"),
        ("training", "serving.runtime"),
        ("training", "serving.parity.max_auroc_loss"),
        ("training", "training.threshold.rule"),
        ("ingestion", "ingestion.default_label"),
        ("scoring", "ingestion.default_label"),
        ("scoring", "video"),
        ("watch", "source"),
        ("watch", "alerts"),
        ("rollback", "job_run_id"),
        ("__default__", "synthesis.kinds.train.blur"),
    ],
)
def test_a_parameter_that_the_run_reads_gets_none(pipeline: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        preflight.warn_of_unread([name], register_pipelines()[pipeline], DataCatalog())
    assert not caplog.records


def test_the_check_of_a_nodes_function_runs_before_the_run_with_its_parameters() -> None:
    seen = []

    def check(second: int) -> None:
        seen.append(second)

    @checked_before_run(check)
    def work(first: int, second: int) -> int:
        return first + second

    pipeline = Pipeline([node(work, ["params:a", "params:b"], "out", name="work")])
    catalog = DataCatalog({"params:a": MemoryDataset(1), "params:b": MemoryDataset(2)})
    check_run(pipeline, catalog, {}, {})
    assert seen == [2]


TRIANGLE = [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """Give a mask image."""
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), np.full((9, 16), 255, np.uint8))
    return path


def bounded(tmp_path: Path, region: Any) -> SceneDataset:
    """Give a scene that was recorded with a region."""
    parameters = SceneParameters.model_validate({**base_parameters()["scene"], "region": region})
    dataset = SceneDataset(filepath=str(tmp_path / "scene.json"), made_by="ingestion")
    dataset.save(replace(OLD, region=read_area(parameters)[0]))
    return dataset


def test_a_region_is_compared_by_its_content(mask: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.png"
    copy.write_bytes(mask.read_bytes())
    start(READER, {"scene": bounded(tmp_path, str(mask))}, "scene.region", str(copy))
    start(READER, {"scene": bounded(tmp_path, [TRIANGLE])}, "scene.region", TRIANGLE)
    cv2.imwrite(str(copy), np.eye(9, 16, dtype=np.uint8))
    for made, now in (
        (str(mask), str(copy)),
        (TRIANGLE, str(mask)),
        (TRIANGLE, None),
        (str(mask), None),
        (None, TRIANGLE),
    ):
        with pytest.raises(UserError, match=r"'scene\.region' is .*, but 'scene' was made with") as refused:
            start(READER, {"scene": bounded(tmp_path, made)}, "scene.region", now)
        assert len(refused.value.message) < 300


def test_a_mask_that_is_no_longer_here_is_taken_from_the_record(
    mask: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorded = bounded(tmp_path, str(mask))
    mask.unlink()
    start(READER, {"scene": recorded}, "scene.region", str(mask))
    assert f"scene.region names {mask}, which is not here: what was recorded is used." in caplog.text
    with pytest.raises(UserError, match="can't be read"):
        start(READER, {"scene": bounded(tmp_path, None)}, "scene.region", str(mask))
