"""What addresses promise: nothing secret in them is shown, and a source has one name."""

from pathlib import Path

import pytest

from cygnet.addresses import check_address, folder_name, host_of, shown, source_name, with_password, without_secrets
from cygnet.errors import UserError


@pytest.mark.parametrize(
    ("address", "safe"),
    [
        ("rtsp://user:word@cam:554/stream1", "rtsp://cam:554/stream1"),  # pragma: allowlist secret
        ("rtsp://user:w@rd@cam/stream1", "rtsp://cam/stream1"),
        ("rtsp://user:wo/rd@cam/stream1", "rtsp://cam/stream1"),
        ("rtsp://user:wo?rd#@cam/stream1", "rtsp://..."),
        ("http://cam/video?mail=me@test&pwd=word", "http://..."),
        ("http://cam/video?user=me&pwd=word", "http://cam/video"),
        ("clips/a@b.mp4", "clips/a@b.mp4"),
        ("0", "0"),
    ],
)
def test_what_is_secret_is_not_shown(address: str, safe: str) -> None:
    assert shown(address) == safe
    assert without_secrets({"source": address, "other": 1}) == {"source": safe, "other": 1}


def test_the_path_of_a_webhook_is_not_shown() -> None:
    assert host_of("https://hooks.test/services/T/token?key=1") == "https://hooks.test"
    assert without_secrets({"alerts": "https://hooks.test/token"}) == {"alerts": "https://hooks.test"}
    assert without_secrets({"alerts": "out/alerts.jsonl"}) == {"alerts": "out/alerts.jsonl"}


def test_a_source_is_named_by_host_and_path_number_folder_or_file(tmp_path: Path) -> None:
    (tmp_path / "yard").mkdir()
    (tmp_path / "clip.mp4").touch()
    assert source_name("rtsp://u:p@cam:554/live/1/") == "cam:554/live/1"
    assert source_name("0") == "camera-0"
    assert source_name(str(tmp_path / "yard") + "/") == "yard"
    assert source_name(str(tmp_path / "clip.mp4")) == "clip"


def test_a_folder_may_be_named_by_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "12").mkdir()
    camera = folder_name("12")
    monkeypatch.chdir(tmp_path)
    assert source_name("12") == "12"
    assert folder_name("12") == folder_name(str(tmp_path / "12")) != camera


def test_a_password_goes_to_a_user_that_has_none() -> None:
    assert with_password("rtsp://me@cam/1", "w@/d") == "rtsp://me:w%40%2Fd@cam/1"  # pragma: allowlist secret
    for address in ("rtsp://me:other@cam/1", "rtsp://cam/1"):  # pragma: allowlist secret
        assert with_password(address, "word") == address
    assert with_password("rtsp://me@cam/1", "") == "rtsp://me@cam/1"


@pytest.mark.parametrize(
    "address", ["http://cam/video?mail=me@test&pwd=word", "rtsp://me:wo/rd@cam/1", "rtsp://me:wo#rd@cam/1"]
)
def test_where_a_password_ends_must_be_clear(address: str) -> None:
    with pytest.raises(UserError, match="%40") as refused:
        check_address(address)
    assert not any(secret in refused.value.message for secret in ("me@", "me:", "rd@", "pwd"))
    check_address("rtsp://me:w@rd@cam/1?a=b%40c")


def test_cameras_of_one_recorder_and_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    recorder = "rtsp://me@nvr:554/cam/realmonitor?channel={}&subtype=0&pin=4711"
    first, second = recorder.format(1), recorder.format(2)
    assert source_name(first) == "nvr:554/cam/realmonitor?channel=1&subtype=0"
    assert source_name(second) == "nvr:554/cam/realmonitor?channel=2&subtype=0"
    folders = [tmp_path / site / "inbox" for site in ("a", "b")]
    for folder in folders:
        folder.mkdir(parents=True)
    names = {folder_name(source) for source in (first, second, *map(str, folders), f"{folders[0]}/")}
    assert len(names) == 4
