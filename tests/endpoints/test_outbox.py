"""What alerts promise: signed, patient, delivered once, and not lost when the process or the receiver is away."""

import base64
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cygnet import storage
from cygnet.endpoints.alerts import AlertFile, Webhook, key_of, sign
from cygnet.endpoints.outbox import Outbox
from cygnet.errors import UserError
from support.stub_server import Reply, Request, serving

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()  # pragma: allowlist secret
OK = Reply(200, {})
ALERT = json.dumps({"type": "anomaly.started", "data": {"id": "a1", "picture": "AAAA"}}).encode()


class Receiver:
    """Answers with `replies` first, and keeps what arrived."""

    def __init__(self, *replies: Reply) -> None:
        self.replies, self.requests, self.times_s = list(replies), [], []

    def __call__(self, request: Request) -> Reply:
        """Answer."""
        self.requests.append(request)
        self.times_s.append(time.monotonic())
        return self.replies.pop(0) if self.replies else OK

    @property
    def ids(self) -> list[str]:
        """The ids that arrived."""
        return [header(request, "webhook-id") for request in self.requests]


def header(request: Request, name: str) -> str:
    return {key.lower(): value for key, value in request.headers.items()}[name]


@contextmanager
def outbox_of(url: str, folder: Path, retry_s: float = 0.01) -> Iterator[Outbox]:
    with Outbox(str(folder), Webhook(f"{url}/hook/token-4711", key_of(SECRET), 5.0), retry_s) as outbox:
        yield outbox


def wait_for(is_so: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_a_receiver_can_verify_who_sent_what_and_when(tmp_path: Path) -> None:
    receiver = Receiver()
    with serving(receiver) as url, outbox_of(url, tmp_path) as outbox:
        outbox.put("a1", ALERT)
        wait_for(lambda: outbox.sent == 1)
    [request] = receiver.requests
    sent_at = header(request, "webhook-timestamp")
    signed = f"a1.{sent_at}.".encode() + request.body
    expected = base64.b64encode(hmac.new(b"k" * 32, signed, hashlib.sha256).digest()).decode()
    assert header(request, "webhook-signature") == f"v1,{expected}"
    assert abs(time.time() - int(sent_at)) < 60
    assert (request.method, request.body) == ("POST", ALERT)


def test_what_can_pass_is_tried_again_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    receiver = Receiver(Reply(500), Reply(503), Reply(200, {}, is_cut=True))
    with caplog.at_level(logging.INFO), serving(receiver) as url, outbox_of(url, tmp_path) as outbox:
        outbox.put("a1", ALERT)
        outbox.put("a2", ALERT)
        wait_for(lambda: outbox.sent == 2)
    assert receiver.ids[-2:] == ["a1", "a2"]
    assert set(receiver.ids[:-1]) == {"a1"}
    told = [record.getMessage() for record in caplog.records]
    assert len([line for line in told if "takes no alerts (status 500)" in line]) == 1
    assert len([line for line in told if "takes alerts again" in line]) == 1
    assert "token-4711" not in caplog.text


def test_a_receiver_is_left_alone_as_long_as_it_says(tmp_path: Path) -> None:
    receiver = Receiver(Reply(429, {}, {"Retry-After": "1"}))
    with serving(receiver) as url, outbox_of(url, tmp_path) as outbox:
        outbox.put("a1", ALERT)
        wait_for(lambda: outbox.sent == 1)
    assert receiver.times_s[1] - receiver.times_s[0] >= 0.95


@pytest.mark.parametrize("after", ["0", "Thu, 01 Jan 99999 00:00:00 GMT"])
def test_a_retry_after_that_is_no_pause_is_no_reason_to_hurry_or_stop(after: str, tmp_path: Path) -> None:
    receiver = Receiver(Reply(503, {}, {"Retry-After": after}))
    with serving(receiver) as url, outbox_of(url, tmp_path, 0.5) as outbox:
        outbox.put("a1", ALERT)
        wait_for(lambda: outbox.sent == 1)
    assert receiver.times_s[1] - receiver.times_s[0] >= 0.45


def test_an_answer_that_breaks_off_after_its_status_is_an_answer(tmp_path: Path) -> None:
    receiver = Receiver(Reply(200, {"never": "to arrive as a whole"}, is_cut=True))
    with serving(receiver) as url, outbox_of(url, tmp_path) as outbox:
        outbox.put("a1", ALERT)
        outbox.put("a2", ALERT)
        wait_for(lambda: outbox.sent == 2)
    assert receiver.ids == ["a1", "a2"]


def test_what_is_delivered_is_not_sent_again_while_the_note_of_it_fails(tmp_path: Path) -> None:
    receiver = Receiver()
    (tmp_path / "sent").touch()  # a file, where the folder should be
    with serving(receiver) as url, outbox_of(url, tmp_path) as outbox:
        outbox.put("a1", ALERT)
        wait_for(lambda: outbox._failures > 2)
        (tmp_path / "sent").unlink()
        wait_for(lambda: outbox.sent == 1)
    assert receiver.ids == ["a1"]


def test_an_alert_outlives_a_receiver_that_is_away_and_the_process(tmp_path: Path) -> None:
    receiver = Receiver()
    with outbox_of("http://127.0.0.1:9", tmp_path, 5.0) as outbox:
        outbox.put("a1", ALERT)
    assert (outbox.sent, outbox.count_waiting()) == (0, 1)
    for _ in range(2):  # the second time everything is delivered already
        with serving(receiver) as url, outbox_of(url, tmp_path) as outbox:
            outbox.put("a1", ALERT)
    assert receiver.ids == ["a1"]
    assert outbox.count_waiting() == 0


def test_what_waits_at_the_end_is_tried_once_more(tmp_path: Path) -> None:
    receiver = Receiver(Reply(503))
    with serving(receiver) as url, outbox_of(url, tmp_path, 60.0) as outbox:
        outbox.put("a1", ALERT)
        wait_for(lambda: len(receiver.requests) == 1)
    assert receiver.ids == ["a1", "a1"]
    assert outbox.sent == 1


def test_a_receiver_that_never_ends_its_answer_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless:
        name = "endless"
        released = threading.Event()

        def send(self, alert_id: str, body: bytes) -> None:  # noqa: ARG002 - the protocol
            self.released.wait(10)

    monkeypatch.setattr("cygnet.endpoints.outbox.END_S", 0.2)
    begun_s = time.monotonic()
    with Outbox(str(tmp_path), Endless(), 0.01) as outbox:
        outbox.put("a1", ALERT)
    assert time.monotonic() - begun_s < 5
    assert outbox.count_waiting() == 1
    Endless.released.set()


def test_what_the_receiver_refuses_is_set_aside_and_holds_nothing_up(tmp_path: Path) -> None:
    receiver = Receiver(Reply(403))
    with serving(receiver) as url, outbox_of(url, tmp_path) as outbox:
        outbox.put("a1", ALERT)
        outbox.put("a2", ALERT)
        wait_for(lambda: outbox.sent == 1)
    assert (receiver.ids, outbox.refused) == (["a1", "a2"], 1)
    [refused] = (tmp_path / "refused").iterdir()
    assert refused.read_bytes() == ALERT


def test_a_refused_alert_that_can_not_be_set_aside_does_not_end_the_sending(tmp_path: Path) -> None:
    receiver = Receiver(*[Reply(403)] * 3)
    (tmp_path / "refused").touch()  # a file, where the folder should be
    with serving(receiver) as url, outbox_of(url, tmp_path) as outbox:
        outbox.put("a1", ALERT)
        wait_for(lambda: outbox.sent == 1)
    assert receiver.ids == ["a1"] * 4


def test_a_file_gets_lines_without_pictures_even_after_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "new" / "alerts.jsonl"
    with Outbox(str(tmp_path / "outbox"), AlertFile(str(path)), 0.01) as outbox:
        outbox.put("a1", ALERT)
    with path.open("ab") as file:
        file.write(b'{"cut')
    with Outbox(str(tmp_path / "outbox"), AlertFile(str(path)), 0.01) as outbox:
        outbox.put("a1", ALERT)
        outbox.put("a2", ALERT)
    first, cut, last = path.read_text().splitlines()
    assert json.loads(first) == json.loads(last) == {"type": "anomaly.started", "data": {"id": "a1"}}
    assert cut == '{"cut'


def test_a_file_in_a_volume_is_written_again_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "VOLUMES", str(tmp_path))
    path = tmp_path / "new" / "alerts.jsonl"
    with Outbox(str(tmp_path / "outbox"), AlertFile(str(path)), 0.01) as outbox:
        outbox.put("a1", ALERT)
        wait_for(path.exists)
        inode = path.stat().st_ino
        outbox.put("a2", ALERT)
    assert len(path.read_text().splitlines()) == 2
    assert path.stat().st_ino != inode


def test_the_receiver_of_the_documentation_tells_genuine_from_forged(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "watching.md").read_text()
    receive: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], receive)  # noqa: S102
    receiver = Receiver()
    with serving(receiver) as url, outbox_of(url, tmp_path) as outbox:
        outbox.put("a1", ALERT)
    [request] = receiver.requests
    headers = {name.lower(): value for name, value in request.headers.items()}
    is_genuine, old = receive["is_genuine"], {**headers, "webhook-timestamp": "1700000000"}
    assert is_genuine(headers, request.body, SECRET)
    assert not is_genuine(headers, request.body + b" ", SECRET)
    assert not is_genuine(headers, request.body, "whsec_" + base64.b64encode(b"other" * 8).decode())
    old["webhook-signature"] = sign(b"k" * 32, "a1", "1700000000", request.body)
    assert not is_genuine(old, request.body, SECRET)


@pytest.mark.parametrize("secret", ["", "whsec_", "not base64!", "whsec_" + base64.b64encode(b"short").decode()])
def test_a_secret_of_another_form_is_a_sentence_without_it(secret: str) -> None:
    with pytest.raises(UserError, match="openssl rand -base64 32") as refused:
        key_of(secret)
    assert not secret.removeprefix("whsec_") or secret.removeprefix("whsec_") not in refused.value.message
