"""What watching promises: scores as of the recording, one alert an event, and nothing lost but what it says."""

import base64
import errno
import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from cygnet import storage
from cygnet.datasets.alerts import AlertsDataset
from cygnet.datasets.live import LiveSourceDataset
from cygnet.datasets.registry import RegisteredModelDataset
from cygnet.datasets.watch_parts import WatchPartsDataset
from cygnet.endpoints import outbox
from cygnet.endpoints.versions import ModelVersion
from cygnet.errors import UserError
from cygnet.model.scoring import live_scores, watch_parts
from cygnet.model.scoring.frame_scores import score_batch
from cygnet.model.scoring.live_scores import LiveScorer
from cygnet.model.serving.packaging import PackagedDetector
from cygnet.model.serving.scorer import Scorer
from cygnet.parameters.base import Parameters
from cygnet.parameters.scoring import Scoring
from cygnet.parameters.watch import Watch
from cygnet.pipelines.watch import watching
from cygnet.pipelines.watch.nodes import prepare_scorer, watch_source, write_watch_report
from cygnet.reports import WatchReport
from cygnet.tables import NORMAL, WATCH_EVENTS, WATCH_SCORES
from cygnet.vision.codec import encode_jpeg, encode_png
from cygnet.vision.live import LiveFrame
from cygnet.vision.video import sample_video
from support.cameras import camera
from support.reports import assert_conforms
from support.rtsp import rtsp_camera
from support.runs import KEDRO_RUN, PROJECT
from support.stub_server import Reply, Request, serving
from support.toys import toy_image, toy_scorer, tracked

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()  # pragma: allowlist secret
RTSP_SOURCE = {"timeout_s": 5.0, "retry_s": 0.05, "settle_s": 0.1}  # FFmpeg looks at a stream for a second first
JPEGS = [encode_jpeg(np.full((64, 96, 3), 40 + 2 * index, np.uint8), 95) for index in range(80)]
PASSWORD = "reeds-8731"  # noqa: S105  # pragma: allowlist secret


@pytest.fixture(scope="module")
def scorer(parameters: dict[str, Parameters]) -> Scorer:
    """Give a detector that was never fitted."""
    return toy_scorer(parameters["training"])


class Place:
    """A folder of data, and the pipeline's nodes on it."""

    def __init__(self, folder: Path, scorer: Scorer, parameters: dict[str, Parameters]) -> None:
        self.folder, self.scorer, self.parameters = folder, scorer, parameters
        self.report: dict[str, Any] = {}

    def live_scorer(self, **scoring: Any) -> LiveScorer:
        """The champion; everything is abnormal to it unless told otherwise."""
        detector = PackagedDetector(self.scorer, b"", {})
        changed = self.parameters["scoring"].model_copy(update={"threshold": 1e-6, **scoring})
        assert isinstance(changed, Scoring)
        return prepare_scorer(detector, ModelVersion("toy", "3"), changed)

    def watch(self, source: str | Path, alerts: str | None = None, /, **changes: Any) -> pd.DataFrame:
        """Watch a source; `changes` are of `params:watch`, and `scoring`. Gives all scores that are stored."""
        live_scorer = self.live_scorer(**changes.pop("scoring", {}))
        quick = {"timeout_s": 1.0, "retry_s": 0.05}
        values = {"source": {**quick, "settle_s": 0.1}, "alerts": quick, "buffer_frames": 256, **changes}
        watch = Watch.model_validate({**self.parameters["watch"].model_dump(), **values})
        run = watch_source(
            LiveSourceDataset(source=str(source), password_variable="CYGNET_CAMERA_PASSWORD").load(),  # noqa: S106
            live_scorer,
            WatchPartsDataset(filepath=str(self.folder / "watch")).load(),
            AlertsDataset(
                target=alerts or str(self.folder / "alerts.jsonl"),
                outbox=str(self.folder / "outbox"),
                secret_variable="CYGNET_WEBHOOK_SECRET",  # noqa: S106  # pragma: allowlist secret
            ).load(),
            watch,
        )
        report = write_watch_report(run, live_scorer)
        assert_conforms(report, WatchReport)
        self.report = dict(report)
        return self.table("scores")

    def table(self, name: str) -> pd.DataFrame:
        """All parts of a table, in the order in which they were written."""
        parts = sorted((self.folder / "watch" / name).rglob("*.parquet"), key=lambda part: part.name)
        tables = [pq.read_table(part) for part in parts]
        schema = {"scores": WATCH_SCORES, "events": WATCH_EVENTS}[name]
        assert all(table.schema.equals(schema) for table in tables)
        return pd.concat([table.to_pandas() for table in tables], ignore_index=True) if tables else pd.DataFrame()

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """The alerts in the file."""
        return [json.loads(line)["data"] for line in (self.folder / "alerts.jsonl").read_text().splitlines()]


@pytest.fixture
def place(tmp_path: Path, scorer: Scorer, parameters: dict[str, Parameters]) -> Place:
    """Give a place without data."""
    return Place(tmp_path / "data", scorer, parameters)


def test_a_video_that_plays_in_real_time_gets_the_scores_of_the_recording(
    place: Place, write_video: Callable[..., Path]
) -> None:
    path = write_video(frames=40, frames_per_s=20.0)
    start_s = time.monotonic()
    rows = place.watch(path, part_s=0.5, scoring={"threshold": 0.5})
    assert time.monotonic() - start_s > 1.8
    samples = list(sample_video(path, None))
    taken_at = pd.Timestamp("2026-01-01", tz="UTC").to_pydatetime()
    frames = [LiveFrame("video", "video", 0, sample, taken_at) for sample in samples]
    recorded = place.live_scorer(threshold=0.5).score(frames).rows  # those of scoring: see test_live_scores.py
    assert rows["frame_id"].tolist() == [row["frame_id"] for row in recorded]
    for column in ("timestamp_s", "anomaly_score", "is_anomalous"):
        np.testing.assert_allclose(rows[column], [row[column] for row in recorded], rtol=0, atol=1e-5)
    assert len(list((place.folder / "watch/scores").rglob("*.parquet"))) >= 3
    assert place.report["frames_left_out"] == place.report["outages"] == 0


class Receiver:
    """A webhook that keeps what arrived, and answers with `replies` first."""

    def __init__(self, *replies: Reply) -> None:
        self.replies, self.bodies = list(replies), []

    def __call__(self, request: Request) -> Reply:
        """Answer."""
        self.bodies.append(json.loads(request.body))
        return self.replies.pop(0) if self.replies else Reply(200, {})


def test_an_event_of_a_camera_is_sent_once_with_a_picture(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYGNET_WEBHOOK_SECRET", SECRET)
    receiver = Receiver(Reply(500), Reply(500))
    with serving(receiver) as url, camera(JPEGS, 0.05) as served:
        address = f"http://me:{PASSWORD}@127.0.0.1:{served.server_port}/yard"
        rows = place.watch(address, f"{url}/hook", duration_s=2.0)
    assert [body["data"]["id"] for body in receiver.bodies] == [receiver.bodies[0]["data"]["id"]] * 3
    data = receiver.bodies[-1]["data"]
    [event] = place.table("events").to_dict("records")
    name = f"127.0.0.1:{served.server_port}/yard"
    assert (data["id"], data["source"]) == (event["alert_id"], name) == (event["alert_id"], event["source"])
    assert data["start_s"] == event["start_s"] == 0.0
    assert data["model"] == {"name": "toy", "version": "3"}
    assert event["end_s"] > 1.5
    assert rows["source"].unique().tolist() == [name]
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data["picture"]), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] == 96
    assert place.report["alerts"] == {"sent": 1, "waiting": 0, "refused": 0}
    assert place.report["events"] == 1


def test_rtsp_is_watched_with_the_password_from_the_environment(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYGNET_CAMERA_PASSWORD", PASSWORD)
    with rtsp_camera(JPEGS, 0.05, f"me:{PASSWORD}") as served:
        port = served.server_address[1]
        rows = place.watch(f"rtsp://me@127.0.0.1:{port}/yard", duration_s=3.0, source=RTSP_SOURCE)
    assert len(rows) > 20
    assert rows["source"].unique().tolist() == [f"127.0.0.1:{port}/yard"]
    np.testing.assert_allclose(rows["timestamp_s"], 0.05 * np.arange(len(rows)), atol=1e-3)
    assert len(place.alerts) == len(place.table("events")) == 1


def test_who_scores_slowly_leaves_frames_out_and_says_so(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def slow(frames: Any, scorer: Scorer) -> Any:
        time.sleep(0.3)
        return score_batch(frames, scorer)

    monkeypatch.setattr(live_scores, "score_batch", slow)
    with camera(JPEGS, 0.02) as served, caplog.at_level(logging.INFO):
        address = f"http://127.0.0.1:{served.server_port}/"
        rows = place.watch(address, duration_s=1.5, buffer_frames=2, status_s=0.5)
    report = place.report
    assert report["frames_left_out"] > 20
    assert report["frames"] + report["frames_left_out"] == report["frames_seen"]
    assert report["frames"] == len(rows) == rows["frame_index"].nunique()
    assert report["delay_s"]["max"] < 1.0  # it does not fall behind
    told = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert len(told) >= 3
    assert f"{report['frames_left_out']} left out" in told[-1]


def test_a_camera_that_was_away_begins_another_event(place: Place) -> None:
    with camera(JPEGS[:20], 0.03) as served:
        rows = place.watch(f"http://127.0.0.1:{served.server_port}/", duration_s=3.0)
    assert place.report["outages"] >= 1
    assert rows["frame_index"].tolist() == list(range(len(rows)))
    outages, events = place.report["outages"], place.table("events")
    assert len(events) == len(place.alerts) == place.report["events"]
    assert len(events) in {outages, outages + 1}  # the last one may be too short
    assert (events["start_s"].iloc[1:].to_numpy() > events["end_s"].iloc[:-1].to_numpy()).all()


def test_a_run_continues_the_timeline_of_the_one_before(place: Place) -> None:
    with camera(JPEGS, 0.05) as served:
        address = f"http://127.0.0.1:{served.server_port}/"
        first = place.watch(address, duration_s=0.8)
        rows = place.watch(address, duration_s=0.8)
    assert len(rows) > len(first)
    assert rows["frame_index"].tolist() == list(range(len(rows)))
    assert rows["timestamp_s"].is_monotonic_increasing
    passed_s = (rows["taken_at"].iloc[-1] - rows["taken_at"].iloc[0]).total_seconds()
    assert rows["timestamp_s"].iloc[-1] == pytest.approx(passed_s, abs=0.3)
    assert [alert["id"] for alert in place.alerts] == place.table("events")["alert_id"].tolist()


def test_a_video_file_is_played_from_its_beginning_each_time_with_an_alert_of_its_own(
    place: Place, write_video: Callable[..., Path]
) -> None:
    path = write_video(frames=20, frames_per_s=20.0)
    first = place.watch(path)
    rows = place.watch(path)
    assert rows[["frame_id", "timestamp_s"]].iloc[20:].to_numpy().tolist() == (
        first[["frame_id", "timestamp_s"]].to_numpy().tolist()
    )
    assert [alert["start_s"] for alert in place.alerts] == [0.0, 0.0]
    assert place.alerts[0]["id"] != place.alerts[1]["id"]


class FullDisk:
    """Writes fail while `is_full`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full, self._replacing = True, storage.replacing
        for module in (watch_parts, outbox):
            monkeypatch.setattr(module, "replacing", self)

    def __call__(self, path: str) -> AbstractContextManager[Path]:
        """Give a file to write."""
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._replacing(path)


def test_a_full_disk_is_waited_for_and_nothing_is_lost(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FullDisk(monkeypatch)
    later = threading.Timer(1.0, setattr, [disk, "is_full", False])
    with camera(JPEGS, 0.05) as served, caplog.at_level(logging.INFO):
        later.start()
        rows = place.watch(f"http://127.0.0.1:{served.server_port}/", duration_s=2.0, part_s=0.2)
    assert rows["frame_index"].tolist() == list(range(place.report["frames"]))
    assert [alert["id"] for alert in place.alerts] == place.table("events")["alert_id"].tolist()
    told = [record.getMessage() for record in caplog.records if "stored" in record.getMessage()]
    assert ["No space left on device" in line for line in told] == [True, False]


def test_what_a_full_disk_never_takes_is_bounded_and_told_in_the_end(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    FullDisk(monkeypatch)
    monkeypatch.setattr(watching, "MOST_ROWS", 5)
    told = r"5 frames, 1 event and 1 alert could not be stored \(\[Errno 28\] No space left on device\), and are lost"
    with camera(JPEGS, 0.05) as served, pytest.raises(UserError, match=told):
        place.watch(f"http://127.0.0.1:{served.server_port}/", duration_s=1.0, part_s=0.1)


def test_a_folder_that_can_not_be_written_is_a_sentence_before_the_first_frame(tmp_path: Path) -> None:
    dataset = WatchPartsDataset(filepath=str(tmp_path / "watch"))
    dataset.check()
    (tmp_path / "watch").rmdir()
    (tmp_path / "watch").touch()  # a file, where the folder should be
    with pytest.raises(UserError, match=r"watch can't be written .*: make room there"):
        dataset.check()


def test_an_event_that_is_open_is_counted(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with camera(JPEGS, 0.05) as served, caplog.at_level(logging.INFO):
        place.watch(f"http://127.0.0.1:{served.server_port}/", duration_s=2.0, status_s=0.5)
    *_, while_open, at_the_end = [line for record in caplog.records if "left out" in (line := record.getMessage())]
    assert ", 1 event; " in while_open
    assert ", 1 event; " in at_the_end
    assert place.report["events"] == 1


def put(folder: Path, name: str, level: int) -> None:
    (folder / name).write_bytes(encode_png(np.full((64, 96, 3), level, np.uint8)))


def test_a_folder_is_scored_as_files_arrive_each_file_once_in_all_runs(
    place: Place, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    folder = tmp_path / "yard"
    folder.mkdir()
    put(folder, "a.png", 50)
    (folder / "bad.png").write_bytes(b"no image")
    later = threading.Timer(0.6, put, [folder, "b.png", 60])
    later.start()
    place.watch(folder, duration_s=1.6)
    later.join()
    assert place.report["frames"] == 2
    assert place.report["failed_frames"] == {"bad.png: 8 bytes that contain no image": 1}
    put(folder, "c.png", 70)
    write_video("clip.mp4", 12).rename(folder / "clip.mp4")
    rows = place.watch(folder, duration_s=1.5)
    assert place.report["frames"] == 13
    images = rows[rows["media"] == "image"]
    assert images["frame_id"].tolist() == [f"yard/{index:06d}" for index in range(4)]
    assert rows[rows["source"] == "clip"]["frame_index"].tolist() == list(range(12))
    assert len(place.watch(folder, duration_s=0.5)) == len(rows)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_and_handlers_are_as_before(number: signal.Signals, place: Place) -> None:
    before = signal.getsignal(number)
    with camera(JPEGS, 0.05) as served:
        later = threading.Timer(1.0, os.kill, [os.getpid(), number])
        later.start()
        rows = place.watch(f"http://127.0.0.1:{served.server_port}/")
    assert len(rows) > 5
    assert len(place.table("events")) == 1  # the open one was closed
    assert signal.getsignal(number) is before


def test_a_reader_that_fails_stores_what_was_scored_and_raises(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from cygnet.vision import live

    def fail(*_: Any) -> Iterator[Any]:
        yield next(sample_video(PROJECT / "data/01_raw/swan.mp4", None))
        raise MemoryError

    monkeypatch.setattr(live, "samples_of", fail)
    with camera(JPEGS, 0.05) as served, pytest.raises(MemoryError):
        place.watch(f"http://127.0.0.1:{served.server_port}/")
    assert len(place.table("scores")) == 1


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (None, "There is nothing to watch: pass --params=source=rtsp://"),
        (f"ftp://me:{PASSWORD}@cam/x", "source=ftp://cam/x: the address must start with rtsp://"),
        ("no/such/folder", "source=no/such/folder: it is no address"),
        ("99999999999", "source=99999999999: it is no address"),
    ],
)
def test_what_can_not_be_watched_is_a_sentence(source: str | None, told: str) -> None:
    dataset = LiveSourceDataset(source=source, password_variable="CYGNET_NO_PASSWORD")  # noqa: S106
    with pytest.raises(UserError) as refused:
        dataset.check()
    assert refused.value.message.startswith(told)
    assert PASSWORD not in f"{refused.value.message} {dataset}"


def test_a_webhook_without_a_secret_is_a_sentence_without_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CYGNET_WEBHOOK_SECRET", raising=False)
    target = f"https://hooks.test/{PASSWORD}"
    dataset = AlertsDataset(target=target, outbox="outbox", secret_variable="CYGNET_WEBHOOK_SECRET")  # noqa: S106
    with pytest.raises(UserError, match="export CYGNET_WEBHOOK_SECRET=whsec_") as refused:
        dataset.check_settings()
    assert PASSWORD not in f"{refused.value.message} {dataset}"


@pytest.fixture
def project(tmp_path: Path, scorer: Scorer) -> Path:
    """Give a folder of data with a tracker of its own, in which a toy is the champion of `--env test`."""
    data = tmp_path / "data"
    with tracked(data):
        detector = PackagedDetector(scorer, encode_jpeg(toy_image(NORMAL), 95), {})
        RegisteredModelDataset(name="cygnet-test", alias="champion").save(detector)
    return data


@pytest.mark.slow
def test_a_kill_loses_a_part_sigterm_nothing_and_no_secret_is_anywhere(project: Path) -> None:
    def start(url: str, address: str) -> subprocess.Popen[str]:
        given = {"source": address, "alerts": f"{url}/token-4711", "watch.part_s": 0.5, "scoring.threshold": 1e-6}
        params = ",".join(f"{name}={value}" for name, value in given.items())
        environment = {**os.environ, "CYGNET_DATA": str(project), "CYGNET_WEBHOOK_SECRET": SECRET}
        return subprocess.Popen(
            [*KEDRO_RUN, "--env=test", "--pipeline=watch", f"--params={params}"],
            cwd=PROJECT,
            env={**environment, "CYGNET_CAMERA_PASSWORD": PASSWORD, "KEDRO_DISABLE_TELEMETRY": "1"},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def parts() -> list[Path]:
        return list((project / "07_model_output/watch/scores").glob("*/*.parquet"))

    def wait_for_parts(count: int, process: subprocess.Popen[str]) -> None:
        until_s = time.monotonic() + 120
        while len(parts()) < count:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until_s
            time.sleep(0.05)

    receiver, token = Receiver(), "token-4711"
    with serving(receiver) as url, camera(JPEGS * 100, 0.05) as served:
        address = f"http://me:{PASSWORD}@127.0.0.1:{served.server_port}/yard?pwd={PASSWORD}"
        killed = start(url, address)
        wait_for_parts(2, killed)
        killed.kill()
        texts = [*killed.communicate()]
        before = len(parts())
        stopped = start(url, address)
        wait_for_parts(before + 2, stopped)
        stopped.send_signal(signal.SIGTERM)
        texts += stopped.communicate(timeout=60)
    assert stopped.returncode == 0, texts[-1]
    rows = pd.read_parquet(project / "07_model_output/watch/scores").sort_values("frame_index")
    assert rows["frame_index"].tolist() == list(range(len(rows)))
    gaps_s = rows["timestamp_s"].diff().dropna()
    assert gaps_s.min() > 0
    sent = [body["data"]["id"] for body in receiver.bodies]
    assert len(sent) == len(set(sent)) == 2  # the event before the kill, and the one after it
    report = json.loads((project / "08_reporting/watch_report.json").read_text())
    assert_conforms(report, WatchReport)
    assert report["alerts"]["waiting"] == 0
    texts += [file.read_bytes().decode(errors="replace") for file in project.rglob("*") if file.is_file()]
    for secret in (PASSWORD, token, SECRET):
        assert not [text[:200] for text in texts if secret in text]
