"""Alerts on their way: each is on disk from the moment it is made until it is delivered, whatever happens meanwhile.

    waiting/<time>-<id>.json    not delivered yet; they are sent one by one, the oldest first
    sent/<time>-<id>.json       empty: delivered, and never sent again; the newest are kept
    refused/<time>-<id>.json    the receiver wants it in no case (a status such as 400 or 403): moved back, it is sent

A thread sends, so that a receiver that is away holds up no frame. If the process is killed between the receiver's
answer and the note of it, the alert is sent once more, with the same id.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cygnet.endpoints.alerts import Target, UndeliveredError
from cygnet.errors import UserError
from cygnet.parameters.watch import WatchAlerts
from cygnet.retry import LONGEST_RETRY_AFTER_S, backoff_s
from cygnet.storage import list_files, read_bytes, remove, replacing

logger = logging.getLogger(__name__)

MOST_SENT = 1000
"""Ids that are remembered as delivered: after a kill only alerts of the last part can come up again."""

END_S = 60.0
"""How long the end waits for the thread: a receiver that answers byte by byte keeps it for as long as it likes."""


class Outbox:
    """The alerts of one watched source, and the thread that sends them while the block lasts.

    Args:
        folder: Where they are, on any storage.
        target: What takes them.
        retry_s: Seconds before the second attempt; they double with each further one.
    """

    def __init__(self, folder: str, target: Target, retry_s: float) -> None:
        self._folder, self._target, self._retry_s = folder, target, retry_s
        self._added, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="send alerts", daemon=True)
        self._failures = 0
        self._taken: set[str] = set()  # by the receiver; the note of it may have failed
        self.sent = 0  # by this process
        self.refused = 0

    def __enter__(self) -> "Outbox":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Try once more to send what waits."""
        self._ended.set()
        self._added.set()
        self._thread.join(END_S)
        if waiting := self.count_waiting():
            logger.warning("%d alerts are not delivered: the next run sends them.", waiting)

    def put(self, alert_id: str, body: bytes) -> None:
        """Add an alert, unless one with its id is here already, sent or not."""
        known = (name for place in ("waiting", "sent", "refused") for name in list_files(f"{self._folder}/{place}"))
        if any(_id_of(name) == alert_id for name in known):
            return
        with replacing(f"{self._folder}/waiting/{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{alert_id}.json") as file:
            file.write_bytes(body)
        self._added.set()

    def count_waiting(self) -> int:
        """Count the alerts that are not delivered yet."""
        return len(self._waiting())

    def _waiting(self) -> list[str]:
        return list(list_files(f"{self._folder}/waiting", ".json"))

    def _run(self) -> None:
        while True:
            is_last = self._ended.is_set()
            wait_s = self._send_waiting()
            if is_last:
                return
            if wait_s is None:
                self._added.wait()
                self._added.clear()
            else:
                self._ended.wait(wait_s)

    def _send_waiting(self) -> float | None:
        """Send what waits; give the seconds after which to try again, None if everything is done."""
        for name in self._waiting():
            try:
                self._send(name)
            except UndeliveredError as error:
                return self._fail(error)
            except (OSError, UserError) as error:  # of the outbox's own storage
                return self._fail(UndeliveredError(str(error)))
        return None

    def _send(self, name: str) -> None:
        try:
            if name not in self._taken:
                self._target.send(_id_of(name), read_bytes(f"{self._folder}/waiting/{name}"))
                self._taken.add(name)
        except UndeliveredError as error:
            if error.may_pass:
                raise
            self._refuse(name, error)
        else:
            self._deliver(name)

    def _fail(self, error: UndeliveredError) -> float:
        if not self._failures:
            logger.warning("%s takes no alerts (%s): they wait, and are tried again.", self._target.name, error)
        self._failures += 1
        if error.wait_s is None:
            return backoff_s(self._retry_s, self._failures - 1)
        return min(max(error.wait_s, self._retry_s), LONGEST_RETRY_AFTER_S)  # 0 would send without a pause

    def _deliver(self, name: str) -> None:
        with replacing(f"{self._folder}/sent/{name}") as file:
            file.touch()
        remove(f"{self._folder}/waiting/{name}")
        if self._failures:
            logger.info("%s takes alerts again.", self._target.name)
        self._failures = 0
        self.sent += 1
        for old in list(list_files(f"{self._folder}/sent"))[:-MOST_SENT]:
            remove(f"{self._folder}/sent/{old}")

    def _refuse(self, name: str, error: UndeliveredError) -> None:
        logger.error("%s refused an alert (%s): it is in %s/refused.", self._target.name, error, self._folder)
        with replacing(f"{self._folder}/refused/{name}") as file:
            file.write_bytes(read_bytes(f"{self._folder}/waiting/{name}"))
        remove(f"{self._folder}/waiting/{name}")
        self.refused += 1


@dataclass(frozen=True)
class Alerts:
    """Where the alerts of all sources go."""

    folder: str  # of the outboxes, one for each source
    target: Callable[[float], Target]  # gives it, by the seconds that an attempt may take

    def open(self, folder: str, settings: WatchAlerts) -> Outbox:
        """Give the outbox of a source, by the name of its folder."""
        return Outbox(f"{self.folder}/{folder}", self.target(settings.timeout_s), settings.retry_s)


def _id_of(name: str) -> str:
    return name.removesuffix(".json").partition("-")[2]
