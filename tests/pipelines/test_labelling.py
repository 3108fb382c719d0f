"""What labelling promises, by runs over generated frames: labels where there are none, and a person's untouched."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from kedro.runner import AbstractRunner

pytest.importorskip("openai", reason="needs `pip install 'cygnet[llm]'`")

from cygnet.datasets.scene import SceneDataset
from cygnet.datasets.table import TableDataset
from cygnet.datasets.videos import VideosDataset
from cygnet.errors import UserError
from cygnet.parameters.base import Parameters
from cygnet.pipeline_registry import register_pipelines
from cygnet.pipelines.labelling.nodes import pick_frames
from cygnet.reports import LabellingReport
from cygnet.scene import Scene
from cygnet.tables import IMAGE_LABELS
from cygnet.vision.codec import encode_jpeg
from support.reports import assert_conforms
from support.runs import KEDRO_RUN, PLACES, PROJECT, run_here
from support.stub_server import Reply, Request, serving
from support.stub_vision import KEY, TOKENS, Eye, by_level, completion, level_of, refused, said, sent_image
from support.toys import label_ranges

FRAMES = 30  # frame i has the grey level 40 + 2 i
BRIGHT = 18  # the first frame that `by_level` calls abnormal
HEADER = "image_name,label,confidence,notes,source"


class Project:
    """A folder of data with the tables that ingestion would have written of one video."""

    def __init__(self, data: Path, video: Path, scene: Scene) -> None:
        self.data, self.video = data, video
        self.labels = data / "01_raw/labels.csv"
        self.labels.parent.mkdir(parents=True)
        rows = [row_of(index) for index in range(FRAMES)]
        rows.append({**row_of(99), "image": None, "reason": "broken"})
        SceneDataset(filepath=str(data / "03_primary/scene.json"), made_by="ingestion").save(scene)
        self.frames.save(pd.DataFrame(rows))

    @property
    def sources(self) -> pd.DataFrame:
        """The table `SOURCES`."""
        return VideosDataset(filepath=str(self.video), sample={"filepath": "none"}).load()

    @property
    def frames(self) -> TableDataset:
        """The table `frames`."""
        return TableDataset(filepath=str(self.data / PLACES["frames"]), table="frames", load_as="arrow")

    def label(self, url: str, **labelling: Any) -> None:
        """Run the pipeline against an endpoint, one request at a time unless told otherwise."""
        run_here(self.data, "labelling", video=str(self.video), labelling=parameters_of(url, labelling))

    @property
    def report(self) -> dict[str, Any]:
        """The report of the last run."""
        report: dict[str, Any] = json.loads((self.data / "08_reporting/labelling_report.json").read_text())
        assert_conforms(report, LabellingReport)
        return report

    def table(self, name: str) -> pd.DataFrame:
        """A CSV of the last run."""
        return pd.read_csv(self.data / f"08_reporting/{name}.csv", keep_default_na=False)

    @property
    def found(self) -> dict[str, str]:
        """The label of each image in the file of labels."""
        rows = pd.read_csv(self.labels, dtype=str, keep_default_na=False)
        return dict(zip(rows["image_name"], rows["label"], strict=True))


def parameters_of(url: str, labelling: dict[str, Any]) -> dict[str, Any]:
    endpoint = {"url": url, "model": "eye", "in_flight": 1, "backoff_s": 0.0, **labelling.pop("endpoint", {})}
    return {"endpoint": endpoint, "image_px": 64, **labelling}


def row_of(index: int) -> dict[str, Any]:
    """Give a row of `frames`, of one grey level."""
    return {
        "frame_id": f"video/{index:06d}",
        "source": "video",
        "frame_index": index,
        "timestamp_s": index / 10,
        "width": 96,
        "height": 64,
        "image": encode_jpeg(np.full((64, 96, 3), 40 + 2 * index, np.uint8), 95),
        "reason": None,
    }


def name_of(index: int) -> str:
    return f"video_{index:06d}"


TRUTH = {name_of(index): "abnormal" if index >= BRIGHT else "normal" for index in range(FRAMES)}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of all projects: making MLflow's store takes seconds."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def project(data: Path, write_video: Callable[..., Path], parameters: dict[str, Parameters]) -> Project:
    """Give a project without labels whose scene is that of `conf/test`."""
    for folder in data.glob("0*"):
        shutil.rmtree(folder)
    ingestion, view = parameters["ingestion"], "whole"
    scene = Scene(
        interval_s=ingestion.interval_s,
        view=view,
        crop_horizontal_bias=ingestion.crop_horizontal_bias,
        frame_jpeg_quality=ingestion.frame_jpeg_quality,
        image_jpeg_quality=ingestion.image_jpeg_quality,
        image_size_px=256,
    )
    return Project(data, write_video(frames=FRAMES), scene)


@pytest.fixture
def eye() -> Iterator[Eye]:
    """Give an endpoint with its address as `url`."""
    stub = Eye()
    with serving(stub) as stub.url:
        yield stub


def test_every_frame_gets_a_label_that_ingestion_reads(project: Project, eye: Eye) -> None:
    project.label(eye.url)
    assert project.labels.read_text().splitlines()[:2] == [HEADER, "video_000000,normal,0.95,a pond,llm"]
    assert project.found == TRUTH  # and none of the frame that is broken
    report = project.report
    assert report["labels"] == {"abnormal": FRAMES - BRIGHT, "normal": BRIGHT}
    assert (report["frames"], report["requests"], report["tokens"]) == (FRAMES, FRAMES, FRAMES * TOKENS)
    assert (report["agreement"], report["failed_frames"], report["review_frames"]) == (None, {}, 0)
    assert len({round(level_of(sent_image(request))) for request in eye.requests}) == FRAMES  # each frame once


def test_labels_of_a_person_are_not_asked_for_not_changed_and_compared(project: Project, eye: Eye) -> None:
    mine = [f"{name_of(index)},{'normal' if index < 20 else 'abnormal'},,mine,human" for index in range(10, 30)]
    project.labels.write_text("\n".join([HEADER, *mine, "other_000001,normal,0.9,,llm"]) + "\n")
    project.label(eye.url, agreement_frames=20)
    lines = project.labels.read_text().splitlines()
    assert lines[: len(mine) + 2] == [HEADER, *mine, "other_000001,normal,0.9,,llm"]
    assert lines[len(mine) + 2 :] == [f"{name_of(index)},normal,0.95,a pond,llm" for index in range(10)]
    agreement = project.report["agreement"]
    assert agreement["confusion"] == {
        "abnormal": {"abnormal": 10, "normal": 0},
        "normal": {"abnormal": 2, "normal": 8},  # frames 18 and 19
    }
    assert agreement["kappa"] == pytest.approx(0.8)
    assert agreement["kappa_interval"]["low"] < 0.8 < agreement["kappa_interval"]["high"]
    project.label(eye.url, agreement_frames=0)
    assert project.report["agreement"] is None


def test_ranges_of_a_person_count_and_stay(project: Project, eye: Eye) -> None:
    ranges = "source,start_s,end_s,label\nvideo,0.0,2.55,normal\n"
    project.labels.write_text(ranges)
    project.label(eye.url, agreement_frames=100)
    assert project.labels.read_text() == ranges
    beside = pd.read_csv(project.labels.with_name("labels_llm.csv"))
    assert beside["image_name"].tolist() == [name_of(index) for index in range(26, 30)]
    assert project.report["agreement"]["frames"] == 26


def test_what_fails_is_listed_and_left_unlabelled(project: Project, eye: Eye) -> None:
    def some_fail(request: Request) -> Reply:
        place = round((level_of(sent_image(request)) - 40) / 2)
        replies = {3: completion("{"), 4: completion(None, refusal="No."), 5: refused(400, f"bad {KEY}")}
        return replies.get(place) or by_level(request)

    eye.answer = some_fail
    project.label(eye.url)
    failures = project.table("labelling_failures")
    missing = sorted(set(TRUTH) - set(project.found))
    assert sorted(failures["image_name"]) == missing == [name_of(index) for index in (3, 4, 5)]
    assert sum(project.report["failed_frames"].values()) == 3
    assert "refused: No." in failures["reason"].tolist()
    for file in project.data.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
    eye.answer = by_level
    project.label(eye.url)
    assert project.found == TRUTH
    assert project.report["requests"] == 3


def test_what_the_model_is_unsure_of_goes_to_a_person(project: Project, eye: Eye) -> None:
    eye.answer = lambda request: said("normal", round(level_of(sent_image(request)) / 100, 2))
    project.label(eye.url, review_below=0.5)
    review = project.table("labels_to_review")
    assert len(review) == project.report["review_frames"] > 0
    assert review["confidence"].is_monotonic_increasing
    assert review["confidence"].max() < 0.5
    assert set(review["image_name"]) | set(project.found) == set(TRUTH)
    assert not set(review["image_name"]) & set(project.found)
    eye.requests.clear()
    project.label(eye.url, review_below=0.0)  # another limit needs no other answer
    assert (set(project.found), eye.requests) == (set(TRUTH), [])
    assert project.report["cached_answers"] == FRAMES


def test_at_most_so_many_frames_are_asked_about_evenly_spread(project: Project, eye: Eye) -> None:
    project.label(eye.url, max_frames=4)
    assert list(project.found) == [name_of(index) for index in (0, 10, 19, 29)]


def test_a_spent_budget_leaves_the_rest_and_its_old_labels_to_the_next_run(project: Project, eye: Eye) -> None:
    project.labels.write_text(f"{HEADER}\n{name_of(29)},normal,0.9,old,llm\n")
    project.label(eye.url, budget={"requests": 5})
    assert project.found == {name_of(29): "normal", **{name_of(index): "normal" for index in range(5)}}
    assert project.report["failed_frames"] == {"not asked: the budget of 5 requests is spent": FRAMES - 5}
    project.label(eye.url)
    assert project.found == TRUTH


def test_a_run_that_ended_early_and_was_repeated_gives_the_same(project: Project, eye: Eye) -> None:
    project.label(eye.url)
    undisturbed = project.labels.read_bytes()
    project.labels.unlink()
    for file in (project.data / "02_intermediate/vision_answers").iterdir():
        file.unlink()
    seen = len(eye.requests)
    eye.answer = lambda request: by_level(request) if len(eye.requests) < seen + 12 else refused(401, "expired")
    with pytest.raises(UserError, match="refused the key with status 401"):
        project.label(eye.url)
    assert not project.labels.exists()
    eye.answer = by_level
    project.label(eye.url)
    assert project.labels.read_bytes() == undisturbed
    assert project.report["cached_answers"] == 11


def test_a_run_without_a_single_answer_says_why_in_one_sentence(project: Project, eye: Eye) -> None:
    eye.answer = lambda _: refused(500, "out of order")
    with pytest.raises(UserError, match=r"eye answered about none of 30 frames; most often: "):
        project.label(eye.url, endpoint={"retries": 0})
    assert not project.labels.exists()


def test_a_run_that_can_ask_nothing_stops_before_its_first_node(
    project: Project, eye: Eye, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AbstractRunner, "run", lambda *_, **__: pytest.fail("a node was run"))
    with pytest.raises(UserError, match=r"'labelling.endpoint.model' names no vision model"):
        project.label(eye.url, endpoint={"model": None})
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="There is no key for the vision model: export OPENAI_API_KEY=KEY"):
        project.label(eye.url)


@pytest.mark.slow
def test_a_run_that_was_killed_and_repeated_gives_what_an_undisturbed_run_gives(project: Project, eye: Eye) -> None:
    project.label(eye.url)
    files = [
        project.labels,
        *(project.data / f"08_reporting/{name}.csv" for name in ("labels_to_review", "labelling_failures")),
    ]
    undisturbed = [file.read_bytes() for file in files]
    for file in [*files, *(project.data / "02_intermediate/vision_answers").iterdir()]:
        file.unlink()
    given = [f"video={project.video}", f"labelling.endpoint.url={eye.url}", "labelling.endpoint.model=eye"]
    command = [*KEDRO_RUN, "--env=test", "--pipelines=labelling"]
    command.append(f"--params={','.join([*given, 'labelling.image_px=64', 'labelling.endpoint.in_flight=2'])}")
    seen = len(eye.requests)

    def kill_late(request: Request) -> Reply:
        if len(eye.requests) == seen + 9:
            os.kill(process.pid, signal.SIGKILL)
        return by_level(request)

    eye.answer = kill_late
    with patch.dict(os.environ, {"CYGNET_DATA": str(project.data), "KEDRO_DISABLE_TELEMETRY": "1"}):
        process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.communicate(timeout=300)[0] is not None
        assert process.returncode == -signal.SIGKILL
        assert not project.labels.exists()
        eye.answer = by_level
        again = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=300)
    assert [file.read_bytes() for file in files] == undisturbed
    assert project.report["cached_answers"] >= 6
    assert "Estimate for the others" in again.stderr
    assert KEY not in again.stdout + again.stderr


def test_it_runs_only_when_asked_for() -> None:
    pipelines = register_pipelines()
    assert pipelines["labelling"].nodes
    assert not {node.name for node in pipelines["labelling"].nodes} & {
        node.name for node in pipelines["__default__"].nodes
    }


def test_frames_of_another_video_or_nothing_to_ask_get_one_sentence(
    project: Project, parameters: dict[str, Parameters]
) -> None:
    frames, none = project.frames.load(), pd.DataFrame(columns=IMAGE_LABELS.names)
    with pytest.raises(UserError, match=r"has no frame of .*: run `kedro run --pipeline=ingestion`"):
        pick_frames(frames, project.sources.assign(source="other"), none, parameters["labelling"])
    all_of_it = label_ranges(("video", 0, 100, "normal"))
    settings = parameters["labelling"].model_copy(update={"agreement_frames": 0})
    with pytest.raises(UserError, match="Every frame has a human label"):
        pick_frames(frames, project.sources, all_of_it, settings)


def test_a_model_does_not_measure_itself(project: Project, parameters: dict[str, Parameters]) -> None:
    own = pd.DataFrame([(name_of(0), "normal", "llm"), (name_of(1), "normal", "human")], columns=IMAGE_LABELS.names)
    picked = pick_frames(project.frames.load(), project.sources, own, parameters["labelling"])
    assert picked["human_label"].tolist() == ["", "normal", *[""] * (FRAMES - 2)]


def test_a_folder_that_says_what_its_images_are_is_a_persons_label(
    project: Project, parameters: dict[str, Parameters]
) -> None:
    sources = project.sources.assign(media="image", label="abnormal")
    picked = pick_frames(
        project.frames.load(), sources, pd.DataFrame(columns=IMAGE_LABELS.names), parameters["labelling"]
    )
    assert picked["human_label"].tolist() == ["abnormal", *[""] * (FRAMES - 1)]
