"""What the server promises: the page and nothing else, to this machine and nobody else, and answers within bounds."""

import socket
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from cygnet.datasets.videos import VideosDataset
from cygnet.errors import UserError
from cygnet.labelling_page.server import MOST_ANSWER_BYTES, make_app, open_catalog, serve
from support.page_tables import THRESHOLD, frame_rows, image_rows, make_catalog

ORIGIN = "http://127.0.0.1:5002"
SCORES = np.array([0.1, 0.6, 0.9])
ANSWER = {"first": 0, "last": 0, "label": "normal"}


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    """Give a client of the page of two videos: three frames of `duck`, then two of `swan`; the first have scores."""
    catalog = make_catalog(tmp_path, {"duck": 3}, SCORES)
    catalog["frames"].save(frame_rows({"duck": 3, "swan": 2}))
    return TestClient(make_app(*open_catalog(catalog)), base_url=ORIGIN)


def test_the_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "javascript")):
        answer = client.get(path)
        assert answer.status_code == 200
        assert kind in answer.headers["content-type"]
        assert "://" not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_state_pictures_and_maps_belong_together(client: TestClient) -> None:
    state = client.get("/state").json()
    assert [(each["name"], each["count"]) for each in state["sources"]] == [("duck", 3), ("swan", 2)]
    assert state["indices"] == [0, 4, 8, 0, 4]
    assert state["times_s"] == [0, 0.25, 0.5, 0, 0.25]
    assert state["scores"] == [0.1, 0.6, 0.9, None, None]
    assert state["threshold"] == THRESHOLD  # that of the scoring run, which no score need have
    assert state["orders"]["anomalous"] == [2, 1, 0, 3, 4]
    assert client.get("/frames/4/picture").content[:2] == b"\xff\xd8"
    assert client.get("/frames/2/map").content[:4] == b"\x89PNG"
    assert client.get("/frames/4/map").status_code == 404


def test_answers_and_undo_reach_the_file(client: TestClient, tmp_path: Path) -> None:
    csv = tmp_path / "labels.csv"
    assert set(client.post("/answer", json={"first": 0, "last": 2, "label": "abnormal"}).json()) == {"0", "1", "2"}
    assert csv.read_text().count("abnormal") == 3
    assert client.get("/state").json()["labels"]["1"]["source"] == "human"
    assert client.post("/undo", json={}).json() == {"0": None, "1": None, "2": None}
    assert "abnormal" not in csv.read_text()
    assert client.post("/undo", json={}).json() == {}


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5002", "127.0.0.1.evil.example", "192.168.0.7", ""])
def test_a_name_that_was_rebound_to_this_machine_gets_nothing(client: TestClient, tmp_path: Path, host: str) -> None:
    for path in ("/", "/state", "/frames/0/picture"):
        assert client.get(path, headers={"host": host}).status_code == 400
    assert client.post("/answer", json=ANSWER, headers={"host": host}).status_code == 400
    assert not (tmp_path / "labels.csv").exists()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_website_can_send_without_asking_is_no_answer(client: TestClient, tmp_path: Path, kind: str) -> None:
    body = b'{"first": 0, "last": 0, "label": "normal"}'
    assert client.post("/answer", content=body, headers={"content-type": kind}).status_code == 415
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in client.options("/answer", headers=asked).headers
    assert not (tmp_path / "labels.csv").exists()


@pytest.mark.parametrize(
    "said",
    [
        {"first": 0, "last": 5, "label": "normal"},
        {"first": -1, "last": 0, "label": "normal"},
        {"first": 2, "last": 1, "label": "normal"},
        {"first": 0, "last": 3, "label": "normal"},
        {"first": 0, "last": 0, "label": "odd"},
        {"first": 0, "last": 0, "label": ["normal"]},
        {"first": True, "last": True, "label": "normal"},
        {"first": 0.0, "last": 0, "label": "normal"},
        {},
        [],
    ],
)
def test_an_answer_about_no_range_of_one_source_is_refused(client: TestClient, tmp_path: Path, said: Any) -> None:
    assert client.post("/answer", json=said).status_code == 422
    assert not (tmp_path / "labels.csv").exists()


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 422), (b"\xff", 422), (b"[" * 990, 422), (b" " * (MOST_ANSWER_BYTES + 1), 413), (b"x" * 9_000_000, 413)],
    ids=["cut", "bytes", "deep", "long", "huge"],
)
def test_a_body_is_small_json_or_nothing(client: TestClient, body: bytes, status: int) -> None:
    for path in ("/answer", "/undo"):
        assert client.post(path, content=body, headers={"content-type": "application/json"}).status_code == status


@pytest.mark.parametrize(
    "path",
    [
        "/frames/5/picture",
        "/frames/-1/picture",
        "/frames/1e1/picture",
        f"/frames/{'9' * 300}/map",
        "/../server.py",
        "/server.py",
        "/page.html",
        "/%2e%2e/%2e%2e/pyproject.toml",
        "/page.css/../server.py",
        "//etc/passwd",
    ],
)
def test_nothing_else_is_there(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_a_file_that_was_broken_meanwhile_is_said_in_a_sentence(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image_name,label,confidence,notes,source\nduck_000004,odd,,,\n")
    answer = client.post("/answer", json=ANSWER)
    assert answer.status_code == 409
    assert "has the label 'odd'" in answer.json()["error"]
    assert client.get("/state").status_code == 409


def test_ranges_of_time_and_missing_frames_stop_before_the_page_opens(tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path, {"swan": 2}, labels="source,start_s,end_s,label\nswan,0,1,normal\n")
    with pytest.raises(UserError, match="labels ranges of time"):
        serve(catalog, 0)
    catalog["frames"]._remove()
    with pytest.raises(UserError, match="ingestion"):
        serve(catalog, 0)


def test_a_port_that_is_taken_is_said_in_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"Port {port} .* choose another with --port"):
            serve(make_catalog(tmp_path, {"swan": 2}), port)


def test_images_of_a_folder_need_the_names_of_their_files(tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path, {"pond": 1})
    catalog["images"].save(image_rows(frame_rows({"pond": 1})))
    for name in ("pond", "other"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "heron.png"), np.zeros((8, 8, 3), np.uint8))
    sample = {"filepath": "sample.mp4"}
    catalog["videos"] = VideosDataset(filepath=tmp_path / "other", sample=sample)
    with pytest.raises(UserError, match=r"'pond' are images.*--params=video=PATH"):
        open_catalog(catalog)
    catalog["videos"] = VideosDataset(filepath=tmp_path / "pond", sample=sample)
    _, labels = open_catalog(catalog)
    labels.answer(0, 0, "abnormal")
    assert "\nheron.png,abnormal,,,human\n" in (tmp_path / "labels.csv").read_text()
