"""What ADLS promises, against Azurite: to be like a disk, no secret told, and nothing half-written taken for whole.

Azurite has no endpoint for Hadoop, so that Spark can't read or write here: that a workspace's Spark does is not proved.
"""

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from inspect import signature
from pathlib import Path
from traceback import format_exc
from typing import Any
from unittest.mock import MagicMock

import cv2
import fsspec
import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad
import pyarrow.parquet as pq
import pytest
from azure.storage.blob._shared.policies_async import AsyncStorageRetryPolicy
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, DatasetError
from kedro_datasets.matplotlib import MatplotlibDataset
from matplotlib.figure import Figure

import cygnet.spark
import cygnet.storage
from cygnet.datasets.labels import LabelsDataset
from cygnet.datasets.lineage import LineageDataset
from cygnet.datasets.model_folder import ModelFolderDataset
from cygnet.datasets.report import ReportDataset
from cygnet.datasets.scene import SceneDataset
from cygnet.datasets.score_parts import ScorePartsDataset
from cygnet.datasets.table import TableDataset
from cygnet.datasets.training_state import TrainingStateDataset
from cygnet.datasets.videos import VideosDataset, list_sources
from cygnet.errors import UserError
from cygnet.hooks import UserErrorHooks
from cygnet.model.network.preprocessing import Preprocessing
from cygnet.model.scoring.frame_scores import FrameScoring, list_items, score_item
from cygnet.model.training.examples import load_examples
from cygnet.model.training_set import read_keys
from cygnet.settings import CONFIG_LOADER_ARGS
from cygnet.storage import CREDENTIALS, check_access, explain, put_folder
from cygnet.tables import FRAMES, IMAGES, PREDICTIONS
from cygnet.vision.clip import Clip
from cygnet.vision.codec import encode_png
from cygnet.vision.video import read_rows, read_samples
from support.lake import ACCOUNT, AZURITE, KEY, Proxy, azurite, connection_string
from support.runs import PROJECT, kedro_run
from support.toys import SCENE, toy_predictions, toy_rows, toy_scorer

HERE = "abfs://lake"
BY_ACCOUNT = f"abfss://lake@{ACCOUNT}.dfs.core.windows.net"
WRITE_VIDEO = Callable[..., Path]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Give the port of a storage account without any container."""
    if AZURITE is None:
        pytest.skip("there is no azurite-blob: `npm ci --prefix tests/azurite` installs it")
    with azurite() as listening:
        yield listening


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Give a setter of the account and key of this process, and take away what azure waits between two attempts."""
    caches = fsspec.get_filesystem_class("abfs")

    async def at_once(*_: object) -> None:
        pass

    def connect(to: str) -> None:
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", to)
        caches.clear_instance_cache()

    monkeypatch.setattr(AsyncStorageRetryPolicy, "sleep", at_once)
    yield connect
    caches.clear_instance_cache()


@pytest.fixture
def lake(port: int, connect: Callable[[str], None]) -> Iterator[fsspec.AbstractFileSystem]:
    """Give the account with an empty container `lake`."""
    connect(connection_string(port))
    fs = fsspec.filesystem("abfs")
    fs.mkdir("lake")
    yield fs
    connect(connection_string(port))
    fsspec.filesystem("abfs").rm("lake", recursive=True)


@pytest.fixture
def proxy(lake: fsspec.AbstractFileSystem, port: int, connect: Callable[[str], None]) -> Iterator[Proxy]:
    """Give a proxy by way of which the account is reached."""
    proxy = Proxy(port)
    connect(connection_string(proxy.port))
    yield proxy
    proxy.close()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder, empty, in which temporary files are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def media(write_video: WRITE_VIDEO, scene: Callable[..., np.ndarray], tmp_path: Path) -> Path:
    """Give a local folder with videos and images to be compared with."""
    folder = tmp_path / "media"
    (folder / "pond").mkdir(parents=True)
    for name, codec in (("swan.mp4", "mp4v"), ("goose.avi", "MJPG"), ("duck.mkv", "mp4v")):
        write_video(name, 12, codec=codec).rename(folder / name)
    (folder / "cut.avi").write_bytes((folder / "goose.avi").read_bytes()[:-2000])
    (folder / "notes.txt").touch()
    for number in (1, 2, 10):
        (folder / "pond" / f"f_{number}.png").write_bytes(encode_png(scene(number, size_px=64)))
    (folder / "pond" / "f_11.png").write_bytes(b"no image")
    return folder


def upload(lake: fsspec.AbstractFileSystem, folder: Path, name: str = "media") -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            lake.pipe_file(f"lake/{name}/{file.relative_to(folder)}", file.read_bytes())


def copies(folder: Path) -> int:
    """Count the temporary files of a folder that this process has open, with or without a name."""
    files = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # another thread has closed it meanwhile
            files.add(str(link.readlink()))
    return sum(file.startswith(str(folder)) for file in files)


def sentence(call: Callable[[], object]) -> str:
    """The sentence by which a call is refused, whether or not Kedro wraps it."""
    with pytest.raises((UserError, DatasetError)) as refused:
        call()
    error = refused.value if isinstance(refused.value, UserError) else refused.value.__cause__
    assert isinstance(error, UserError)
    assert "\n" not in error.message
    return error.message


# ---- videos and labels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", [HERE, BY_ACCOUNT])
@pytest.mark.parametrize("place", ["swan.mp4", "", "/", "pond", "*.mp4", "*/*.png", "pond/f_1*.png", "**", "f[1].avi"])
def test_files_folders_and_globs_are_listed_as_on_a_disk(
    root: str, place: str, lake: fsspec.AbstractFileSystem, media: Path
) -> None:
    (media / "f[1].avi").write_bytes(b"one")
    upload(lake, media)
    there = list_sources(f"{root}/media/{place}".rstrip("/"))
    here = list_sources(f"{media}/{place}")
    pd.testing.assert_frame_equal(there, here.assign(path=here["path"].str.replace(str(media), f"{root}/media")))


def test_what_is_not_usable_or_not_there_is_a_sentence(lake: fsspec.AbstractFileSystem, media: Path) -> None:
    upload(lake, media)
    for place in ("none.mp4", "none/*.mp4"):
        path = f"{HERE}/media/{place}"
        assert sentence(lambda path=path: list_sources(path)).startswith(f"video={path}: no such file or folder")
    assert "none of the 1 files there is a video" in sentence(lambda: list_sources(f"{HERE}/media/notes.txt"))


@pytest.mark.parametrize("place", ["swan.mp4", "goose.avi", "duck.mkv", "cut.avi", "pond"])
def test_frames_are_those_of_the_local_file(
    place: str, lake: fsspec.AbstractFileSystem, media: Path, temporary: Path
) -> None:
    upload(lake, media)
    there, here = (
        [row for source in list_sources(path).to_dict("records") for row in read_rows(source, 0.2, 95)]
        for path in (f"{HERE}/media/{place}", str(media / place))
    )
    assert there == here
    assert len(here) > 2
    assert copies(temporary) == 0


def test_a_video_is_copied_to_a_file_without_a_name_that_is_gone_when_reading_ends_or_stops(
    lake: fsspec.AbstractFileSystem, media: Path, temporary: Path
) -> None:
    upload(lake, media)
    source = {"path": f"{HERE}/media/swan.mp4", "media": "video", "file_index": 0}
    samples = read_samples(source, None)
    next(samples)
    assert copies(temporary) == 1
    assert list(temporary.iterdir()) == []  # so that not even SIGKILL leaves it
    samples.close()
    assert copies(temporary) == 0
    assert len(list(read_samples(source, None))) == 12
    assert copies(temporary) == 0


def test_a_download_that_is_cut_leaves_no_copy_and_costs_the_run_and_not_the_video(
    proxy: Proxy, media: Path, temporary: Path
) -> None:
    upload(fsspec.filesystem("abfs"), media)
    source = {"path": f"{HERE}/media/swan.mp4", "media": "video", "file_index": 0}
    proxy.most_down = 1000
    assert "the connection broke off" in sentence(lambda: list(read_samples(source, None)))
    assert "the connection broke off" in sentence(
        lambda: list(read_samples({**source, "media": "image", "path": f"{HERE}/media/pond/f_1.png"}, None))
    )
    assert copies(temporary) == 0
    proxy.most_down = float("inf")
    assert len(list(read_samples(source, None))) == 12


@pytest.mark.parametrize("media_type", ["video", "image"])
@pytest.mark.usefixtures("lake")
def test_a_file_that_is_gone_when_it_is_read_is_a_row_with_a_reason(media_type: str) -> None:
    (row,) = read_rows({"source": "a", "path": f"{HERE}/a.mp4", "media": media_type, "file_index": 0}, 1.0, 95)
    assert row["image"] is None
    assert row["reason"].startswith("a.mp4: ")


def test_the_sample_is_drawn_where_it_is_asked_for(lake: fsspec.AbstractFileSystem) -> None:
    path = f"{BY_ACCOUNT}/01_raw/swan.mp4"
    settings = {"duration_s": 1, "frames_per_s": 5, "width_px": 64, "height_px": 48, "seed": 7}
    sources = VideosDataset(filepath=path, sample={"filepath": path, **settings}).load()
    assert sources["path"].tolist() == [path]
    assert len(list(read_samples(sources.to_dict("records")[0], None))) == 5
    state = lake.info("lake/01_raw/swan.mp4")["etag"]
    VideosDataset(filepath=path, sample={"filepath": path, **settings}).load()
    assert lake.info("lake/01_raw/swan.mp4", refresh=True)["etag"] == state


def test_labels_are_read_and_those_of_the_default_place_need_not_be_there(lake: fsspec.AbstractFileSystem) -> None:
    path = f"{HERE}/01_raw/labels.csv"
    default = LabelsDataset(filepath=path, default={"filepath": path})
    assert default.load().empty
    assert "no such file" in sentence(LabelsDataset(filepath=f"{HERE}/other.csv", default={"filepath": path}).load)
    lake.pipe_file("lake/01_raw/labels.csv", b"image_name,label,confidence,notes,source\nswan_000120,abnormal,1,,llm\n")
    assert default.load().to_dict("records") == [{"image_name": "swan_000120", "label": "abnormal", "source": "llm"}]


# ---- tables, reports, states ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", [HERE, BY_ACCOUNT])
def test_training_reads_its_table_as_from_a_disk(root: str, lake: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    rows = toy_rows(per_class=40)
    tables = [
        TableDataset(filepath=f"{place}/05_model_input/training_set", table="training_set", load_as="arrow")
        for place in (root, str(tmp_path))
    ]
    for table in tables:
        table.save(rows)
    there, here = (table.load() for table in tables)
    assert read_keys(there).equals(read_keys(here))
    examples = [
        load_examples(table, "train", Preprocessing(32), 2, tmp_path / name)
        for table, name in ((there, "there"), (here, "here"))
        if (tmp_path / name).mkdir() is None
    ]
    assert np.array_equal(np.asarray(examples[0].images), np.asarray(examples[1].images))
    assert there.to_table().equals(here.to_table())


def test_tables_are_saved_over_loaded_and_shown(lake: fsspec.AbstractFileSystem) -> None:
    table = TableDataset(filepath=f"{HERE}/predictions", table="predictions", load_as="arrow")
    beside = TableDataset(filepath=f"{HERE}/predictions_2", table="predictions", load_as="arrow")
    beside.save(toy_predictions([0.5], [0.5]))
    assert not table.exists()
    assert "There is no table 'predictions'" in sentence(table.load)
    table.save(toy_predictions([0.1, 0.2], [0.9]))
    lake.pipe_file("lake/predictions/part-00001.parquet", lake.cat_file("lake/predictions/part-00000.parquet"))
    table.save(toy_predictions([0.3], [0.8]))
    assert table.exists()
    assert table.load().to_table().schema.equals(PREDICTIONS)
    assert table.load().to_table()["anomaly_score"].to_pylist() == pytest.approx([0.3, 0.8])
    assert table.preview()["data"][0][-1].endswith(" kB")
    assert beside.load().count_rows() == 2


@pytest.mark.parametrize("damage", ["part", "marker"])
def test_a_table_that_is_not_whole_is_refused(damage: str, lake: fsspec.AbstractFileSystem) -> None:
    table = TableDataset(filepath=f"{HERE}/predictions", table="predictions", load_as="arrow")
    table.save(toy_predictions([0.1], [0.9]))
    lake.rm({"part": "lake/predictions/part-00000.parquet", "marker": "lake/predictions/_SUCCESS"}[damage])
    assert "run `kedro run --pipeline=training` (again)" in sentence(table.check)


def test_a_table_whose_upload_is_cut_is_refused_until_it_is_saved_again(proxy: Proxy) -> None:
    table = TableDataset(filepath=f"{HERE}/training_set", table="training_set", load_as="arrow")
    rows = toy_rows()
    table.save(rows)
    proxy.most_up = 20_000
    assert "the connection broke off" in sentence(lambda: table.save(rows))
    proxy.most_up = float("inf")
    assert not table.exists()
    assert "run `kedro run --pipeline=augmentation` (again)" in sentence(table.check)
    table.save(rows)
    assert table.load().to_table().equals(rows)


def test_a_read_that_is_cut_within_a_node_ends_the_run_with_a_sentence(proxy: Proxy) -> None:
    table = TableDataset(filepath=f"{HERE}/training_set", table="training_set", load_as="arrow")
    table.save(toy_rows())
    dataset = table.load()
    proxy.most_down = 20_000
    with pytest.raises(Exception, match=r".") as cut:
        dataset.to_table()
    with pytest.raises(UserError, match="the connection broke off"):
        UserErrorHooks().on_pipeline_error(error=cut.value)


@pytest.mark.parametrize("verb", ["save", "load"])
def test_spark_is_given_the_path_of_a_table_unchanged(
    verb: str, lake: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{BY_ACCOUNT}/02_intermediate/frames"
    table = TableDataset(filepath=path, table="frames")
    part = pa.Table.from_pylist([], schema=FRAMES)
    if verb == "save":
        rows = MagicMock()
        rows.columns = FRAMES.names
        rows.schema.__getitem__.side_effect = cygnet.spark.spark_schema(FRAMES).__getitem__
        write = rows.select.return_value.write.mode.return_value.parquet
        stored = "lake/02_intermediate/frames/part-0.parquet"
        write.side_effect = lambda _: pq.write_table(part, stored, filesystem=lake)
        table.save(rows)
        write.assert_called_once_with(path)
        assert table.exists()
    else:
        TableDataset(filepath=path, table="frames", load_as="arrow").save(part)
        session = MagicMock()
        monkeypatch.setattr(cygnet.spark, "get_session", lambda: session)
        table.load()
        session.read.schema.return_value.parquet.assert_called_once_with(path)


@pytest.mark.usefixtures("tracking")
def test_reports_come_back_as_they_were_saved_and_are_in_mlflow(lake: fsspec.AbstractFileSystem) -> None:
    report, kept = {"auroc": 0.5}, pd.DataFrame({"source": ["swan"], "count": [3]})
    figure = Figure()
    figure.subplots().plot([1, 2])
    kinds = {"e.json": "json.JSONDataset", "r.csv": "pandas.CSVDataset", "f.png": "matplotlib.MatplotlibDataset"}
    made = {
        name: ReportDataset(filepath=f"{HERE}/08_reporting/{name}", dataset={"type": kind}, artifact_path="reports")
        for name, kind in kinds.items()
    }
    for name, data in (("e.json", report), ("r.csv", kept), ("f.png", figure)):
        made[name].save(data)
    run = mlflow.active_run().info.run_id
    logged = {item.path for item in mlflow.MlflowClient().list_artifacts(run, "reports")}
    assert logged == {f"reports/{name}" for name in kinds}
    assert made["e.json"].load() == report
    pd.testing.assert_frame_equal(made["r.csv"].load()[["source", "count"]], kept)
    assert cv2.imdecode(np.frombuffer(lake.cat_file("lake/08_reporting/f.png"), np.uint8), cv2.IMREAD_COLOR).size
    assert signature(made["f.png"].preview).return_annotation == signature(MatplotlibDataset.preview).return_annotation
    assert made["f.png"].preview().startswith("iVBOR")


def test_a_report_that_breaks_off_leaves_what_was_there(proxy: Proxy) -> None:
    report = ReportDataset(filepath=f"{HERE}/evaluation.json", dataset={"type": "json.JSONDataset"})
    report.save({"auroc": 0.5})
    with pytest.raises(DatasetError, match="not JSON serializable"):
        report.save({"auroc": 0.6, "then": object()})
    proxy.most_up = 5_000
    assert "the connection broke off" in sentence(lambda: report.save({"auroc": 0.7, "more": "x" * 10_000}))
    proxy.most_up = float("inf")
    assert report.load() == {"auroc": 0.5}


def test_timelines_and_annotated_videos_by_the_catalog_of_base(lake: fsspec.AbstractFileSystem, media: Path) -> None:
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("globals", lambda _: BY_ACCOUNT, replace=True)
    base = OmegaConf.load(PROJECT / "conf/base/catalog.yml")
    entries = {name: OmegaConf.to_container(base[name], resolve=True) for name in ("timelines", "annotated_videos")}
    catalog = DataCatalog.from_config(entries)
    catalog["timelines"].save({"swan": Figure})
    frames = [np.full((48, 64, 3), 40 + 10 * index, np.uint8) for index in range(6)]
    catalog["annotated_videos"].save({"swan": lambda: Clip(iter(frames), 10.0)})
    assert lake.cat_file("lake/08_reporting/scoring/swan_timeline.png").startswith(b"\x89PNG")
    source = {"path": f"{HERE}/08_reporting/scoring/swan.mp4", "media": "video", "file_index": 0}
    assert len(list(read_samples(source, None))) == 6


def test_a_fit_goes_on_from_a_state_on_adls_and_not_from_half_of_one(proxy: Proxy) -> None:
    checkpoints = TrainingStateDataset(filepath=f"{BY_ACCOUNT}/06_models/fitting_state").load()
    assert checkpoints.load("key") is None
    checkpoints.save("key", {"step": 1})
    proxy.most_up = 5_000
    with pytest.raises(UserError, match="broke off"):
        checkpoints.save("key", {"step": 2, "weights": "x" * 10_000})
    proxy.most_up = float("inf")
    assert checkpoints.load("key") == {"step": 1}


def test_a_checkpoint_is_written_whole_and_in_place_of_the_one_before(lake: fsspec.AbstractFileSystem) -> None:
    class Model:
        def __init__(self, name: str) -> None:
            self.name = name

        def save(self, folder: Path) -> None:
            (folder / self.name).write_text("weights")

    dataset = ModelFolderDataset(filepath=f"{HERE}/06_models/vit")
    assert not dataset.exists()
    dataset.save(Model("old"))
    dataset.save(Model("new"))
    assert dataset.exists()
    assert [Path(name).name for name in lake.find("lake/06_models/vit")] == ["_SUCCESS", "new"]
    assert "must be a local folder" in sentence(dataset.load)


def test_scoring_keeps_scorer_and_parts_and_goes_on_from_them(
    lake: fsspec.AbstractFileSystem, media: Path, parameters: dict[str, Any], tmp_path: Path, temporary: Path
) -> None:
    upload(lake, media)
    toy_scorer(parameters["training"]).save(tmp_path / "scorer")
    scores = []
    for root, videos in ((BY_ACCOUNT, f"{HERE}/media"), (str(tmp_path), str(media))):
        parts = ScorePartsDataset(filepath=f"{root}/parts").load()
        put_folder(tmp_path / "scorer", f"{parts.folder}/model")
        settings = FrameScoring(parts.folder, f"{parts.folder}/model", "square", None, SCENE)
        items = list_items(list_sources(f"{videos}/swan.mp4"), settings).to_dict("records")
        item = parts.item(items[0]["key"])
        assert (item.is_whole(), item.next_index(), item.count_rows()) == (False, 0, 0)
        assert list(score_item(items[0], settings, tasks=1)) == [{"key": items[0]["key"], "rows": 12}]
        assert (item.is_whole(), item.next_index(), item.count_rows()) == (True, 12, 12)
        files = fsspec.url_to_fs(item.folder)[0]
        scores.append(pad.dataset(files.glob(f"{item.folder}/*.parquet"), filesystem=files).to_table())
        parts.keep_only({items[0]["key"]})
        assert [Path(name).name for name in files.ls(parts.folder, detail=False)] == [items[0]["key"]]
    assert scores[0].equals(scores[1])
    assert copies(temporary) == 0


@pytest.mark.usefixtures("tracking")
def test_lineage_names_the_table_on_adls() -> None:
    dataset = LineageDataset(name="training_set", source=f"{HERE}/training_set", context="training")
    dataset.save(pd.DataFrame({"a": [1]}))
    run = mlflow.get_run(mlflow.active_run().info.run_id)
    assert json.loads(run.inputs.dataset_inputs[0].dataset.source)["path"] == f"{HERE}/training_set"


# ---- what goes wrong ------------------------------------------------------------------------------------------------


def everything(path: str) -> dict[str, Callable[[], object]]:
    """What a run does first at a place, for every kind of dataset."""
    report = ReportDataset(filepath=f"{path}/e.json", dataset={"type": "json.JSONDataset"})
    table = TableDataset(filepath=f"{path}/predictions", table="predictions", load_as="arrow")
    return {
        "check": lambda: check_access(path),
        "videos": lambda: list_sources(f"{path}/*.mp4"),
        "labels": lambda: LabelsDataset(filepath=f"{path}/l.csv", default={"filepath": "none"}).check(),
        "image": lambda: list(read_samples({"path": f"{path}/a.png", "media": "image", "file_index": 0}, None)),
        "save": lambda: table.save(toy_predictions([0.5], [0.5])),
        "check table": table.check,
        "report": lambda: report.save({}),
    }


WRONG_KEY = "d3Jvbmcga2V5IG9mIHRoZSB0ZXN0cw=="  # pragma: allowlist secret


@pytest.mark.parametrize("what", everything(HERE))
def test_a_wrong_key_is_a_sentence_that_does_not_tell_it(
    what: str, lake: fsspec.AbstractFileSystem, port: int, connect: Callable[[str], None]
) -> None:
    connect(connection_string(port, WRONG_KEY))
    told = sentence(everything(HERE)[what])
    assert told.startswith(HERE)
    assert "ADLS refused the credentials (AuthorizationFailure): set AZURE_STORAGE_ACCOUNT_NAME" in told
    assert WRONG_KEY not in told


@pytest.mark.parametrize("what", [name for name in everything(HERE) if name not in {"image", "check table"}])
def test_a_missing_container_is_a_sentence_and_is_not_made(what: str, lake: fsspec.AbstractFileSystem) -> None:
    told = sentence(everything("abfs://nowhere")[what])
    assert told.startswith("abfs://nowhere")
    assert "there is no such container" in told
    assert not lake.exists("nowhere")


@pytest.mark.parametrize("what", everything(HERE))
def test_an_account_that_cannot_be_reached_is_a_sentence(what: str, connect: Callable[[str], None]) -> None:
    connect(connection_string(1))
    told = sentence(everything(HERE)[what])
    assert "ADLS can't be reached, or the connection broke off (ServiceRequestError)" in told


@pytest.mark.parametrize(
    "settings",
    [{}, {"AZURE_STORAGE_CONNECTION_STRING": f"AccountKey={WRONG_KEY}"}],
    ids=["none", "malformed"],
)
def test_missing_and_malformed_credentials_are_a_sentence(
    settings: dict[str, str], connect: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect("")
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    told = sentence(lambda: check_access(HERE))
    assert told == f"{HERE}: there are no usable credentials for ADLS: {CREDENTIALS}."


def test_adlfs_that_is_not_installed_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: str) -> None:
        msg = "Install adlfs to access Azure Datalake Gen2 and Azure Blob Storage"
        raise ImportError(msg)

    monkeypatch.setattr(cygnet.storage.fsspec, "url_to_fs", refuse)
    assert sentence(lambda: check_access(HERE)) == f"{HERE}: ADLS needs `pip install 'cygnet[azure]'`."


@pytest.mark.parametrize("what", everything(HERE))
def test_the_form_of_a_path_that_kedro_misreads_is_refused_with_the_right_one(what: str) -> None:
    path = f"abfs://lake@{ACCOUNT}.dfs.core.windows.net/x"
    assert "write abfss:// for abfs://" in sentence(everything(path)[what])


def test_a_sentence_of_a_worker_is_found_in_the_traceback_that_the_driver_gets() -> None:
    try:
        raise UserError(f"{HERE}: ADLS refused the credentials.")
    except UserError:
        told = f"An exception was thrown from the Python worker:\n{format_exc()}\n\tat org.apache.spark"
    with pytest.raises(UserError, match=rf"^{HERE}: ADLS refused the credentials\.$"):
        UserErrorHooks().on_pipeline_error(error=RuntimeError(told))


def test_a_path_without_the_account_is_refused_for_a_table_that_spark_reads() -> None:
    TableDataset(filepath=f"{HERE}/frames", table="frames", load_as="arrow").check_settings()
    TableDataset(filepath=f"{BY_ACCOUNT}/frames", table="frames").check_settings()
    told = sentence(TableDataset(filepath=f"{HERE}/frames", table="frames").check_settings)
    assert told.startswith(f"{HERE}/frames: Spark needs the account's name: abfss://<container>@<account>")


def test_other_errors_are_not_explained() -> None:
    for error in (FileNotFoundError("x"), ValueError("y"), ImportError("z")):
        assert explain(error) is None


def test_every_entry_of_the_catalog_for_databricks_follows_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    places = []
    for data in (f"{BY_ACCOUNT}/cygnet", "/Volumes/main/cygnet/data"):
        monkeypatch.setenv("CYGNET_DATA", data)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
        config = OmegaConfigLoader(str(PROJECT / "conf"), "databricks", **CONFIG_LOADER_ARGS)["catalog"]
        fixed = {name: entry for name, entry in config.items() if "{" not in name and name != "live"}  # a camera
        catalog = DataCatalog.from_config(fixed)
        datasets = {name: catalog.get(name) for name in catalog}
        datasets["roc_figure"] = DataCatalog.from_config(config).get("roc_figure")
        found = {
            name: [str(path) for key, path in vars(dataset).items() if key in {"_filepath", "_path", "_source"}]
            for name, dataset in datasets.items()
        }
        assert all(path.startswith(f"{data}/") for paths in found.values() for path in paths)
        places.append({name: [path.removeprefix(data) for path in paths] for name, paths in found.items()})
    assert places[0] == places[1]
    assert sum(map(len, places[0].values())) > 20


# ---- whole runs -----------------------------------------------------------------------------------------------------


def lake_run(tmp_path: Path, *arguments: str, data: str, to: str) -> subprocess.CompletedProcess[str]:
    """Run `kedro run --env test` with its tables at a place, its tracker in a local folder, and an account."""
    conf = tmp_path / "conf"
    if not conf.exists():
        shutil.copytree(PROJECT / "conf", conf)
        settings = (conf / "test/globals.yml").read_text()
        (conf / "test/globals.yml").write_text(settings.replace("url:${data}", f"url:{tmp_path}"))
    return kedro_run(data, f"--conf-source={conf}", *arguments, AZURE_STORAGE_CONNECTION_STRING=to)


def test_spark_that_cannot_write_to_adls_is_given_its_path_and_says_so_in_a_sentence(
    lake: fsspec.AbstractFileSystem, port: int, tmp_path: Path
) -> None:
    done = lake_run(tmp_path, "--pipelines=ingestion", data=f"{BY_ACCOUNT}/cygnet", to=connection_string(port))
    assert done.returncode == 1
    assert "Error: This Spark can't read ADLS, it lacks hadoop-azure" in done.stderr.splitlines()[-1]
    assert lake.exists("lake/cygnet/01_raw/swan.mp4")


def secrets_in(tmp_path: Path, result: subprocess.CompletedProcess[str]) -> list[str]:
    """Where a run has written the account's key."""
    written = {str(file): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    written["what it printed"] = (result.stdout + result.stderr).encode()
    return [place for place, content in written.items() if KEY.encode() in content]


def test_ingestion_reads_videos_and_labels_and_one_that_was_cut_off_makes_no_table(
    proxy: Proxy, write_video: WRITE_VIDEO, tmp_path: Path
) -> None:
    lake = fsspec.filesystem("abfs")
    for name in ("swan.avi", "goose.avi"):
        lake.pipe_file(f"lake/videos/{name}", write_video(name, 100, codec="MJPG").read_bytes())
    lake.pipe_file("lake/labels.csv", b"image_name,label,confidence,notes\nswan_000003,abnormal,1,\n")
    data, run = tmp_path / "data", f"--params=video={BY_ACCOUNT}/videos/*.avi,labels={HERE}/labels.csv"
    proxy.most_down = 30_000
    cut = lake_run(tmp_path, "--pipelines=ingestion", run, data=str(data), to=connection_string(proxy.port))
    assert cut.returncode == 1
    assert f"Error: {BY_ACCOUNT}/videos/" in cut.stderr.splitlines()[-1]
    assert "the connection broke off" in cut.stderr.splitlines()[-1]
    assert not TableDataset(filepath=str(data / "02_intermediate/frames"), table="frames").exists()
    proxy.most_down = float("inf")
    done = lake_run(tmp_path, "--pipelines=ingestion", run, data=str(data), to=connection_string(proxy.port))
    assert done.returncode == 0, done.stderr
    frames = pq.read_table(data / "02_intermediate/frames").to_pandas()
    assert frames.groupby("source").size().to_dict() == {"goose": 100, "swan": 100}
    assert frames["reason"].isna().all()
    images = pq.read_table(data / "03_primary/images").to_pandas().set_index("frame_id")
    assert images["label_source"]["swan/000003"] == "human"
    assert secrets_in(tmp_path, cut) + secrets_in(tmp_path, done) == []


def test_training_reads_and_writes_on_adls_as_on_a_disk(
    lake: fsspec.AbstractFileSystem, port: int, tmp_path: Path
) -> None:
    rows = toy_rows(per_class=12)
    train = [row for row in rows.to_pylist() if row["split"] == "train" and row["label"] == 1]
    images = [{**row, "label_source": "default", "tile": 0, "tiles": 1} for row in train]
    root = f"{BY_ACCOUNT}/cygnet"
    for name, place, table in (
        ("training_set", "05_model_input", rows),
        ("images", "03_primary", pa.Table.from_pylist(images, schema=IMAGES)),
    ):
        TableDataset(filepath=f"{root}/{place}/{name}", table=name, load_as="arrow").save(table)
    SceneDataset(filepath=f"{root}/05_model_input/scene.json", made_by="augmentation").save(
        replace(SCENE, view="whole")  # as in conf/test
    )
    done = lake_run(tmp_path, "--pipelines=training", data=root, to=connection_string(port))
    assert done.returncode == 0, done.stderr
    predictions = TableDataset(filepath=f"{root}/07_model_output/predictions", table="predictions", load_as="arrow")
    assert predictions.load().count_rows() == 48
    reports = {Path(name).name for name in lake.find("lake/cygnet/08_reporting")}
    assert {"evaluation.json", "parity.json", "roc.png", "contact_sheet.png", "training_curves.png"} <= reports
    assert json.loads(lake.cat_file("lake/cygnet/08_reporting/evaluation.json"))["counts"]["normal"] == 12
    assert lake.exists("lake/cygnet/06_models/fitting_state/state.pt")  # the same fit again would reuse it
    (listed,) = (line for line in done.stderr.splitlines() if f"Reports in {root}/08_reporting: " in line)
    assert "evaluation.json" in listed
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run, *_ = client.search_runs([client.get_experiment_by_name("cygnet").experiment_id])
    assert {item.path for item in client.list_artifacts(run.info.run_id, "reports")} >= {"reports/evaluation.json"}
    assert not (PROJECT / "abfss:").exists()
    assert secrets_in(tmp_path, done) == []
    for noise in ("Traceback", "Warning", "Unclosed", "Incomplete"):
        assert noise not in done.stderr + done.stdout


def test_a_wrong_key_is_told_before_any_work(lake: fsspec.AbstractFileSystem, port: int, tmp_path: Path) -> None:
    data = f"{BY_ACCOUNT}/cygnet"
    done = lake_run(tmp_path, "--pipelines=ingestion", data=data, to=connection_string(port, WRONG_KEY))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"Error: {data}: ADLS refused the credentials")
    assert "Traceback" not in done.stderr
    assert "Step 1 of" not in done.stderr
    assert WRONG_KEY not in done.stdout + done.stderr
