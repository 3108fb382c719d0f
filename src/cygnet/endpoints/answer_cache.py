"""Answers of a vision model, kept as one small file each, so that nothing is asked, or paid, twice.

A file appears as soon as its answer arrives, complete or not at all, on any storage that Cygnet knows: a run that was
killed goes on from there, and two runs may share the folder. Failures are not kept; the next run asks again.
"""

import hashlib
import json
from dataclasses import asdict, dataclass

from cygnet.storage import list_files, read_bytes, replacing


@dataclass(frozen=True)
class Answer:
    """What a model says of one image."""

    label: str  # a key of `cygnet.tables.LABELS`
    confidence: float  # 0-1, as the model states it: not calibrated
    notes: str  # one line
    tokens: int  # that request and answer took, >= 0


class AnswerCache:
    """The answers in a folder, by the hash of the image and of everything that was said with it."""

    def __init__(self, folder: str) -> None:
        """Look which answers there are; the folder need not exist."""
        self._folder = folder
        self._names = set(list_files(folder))

    def get(self, image: bytes, asked_with: str) -> Answer | None:
        """Give the answer for an image; None: there is none that can be read."""
        name = self._name(image, asked_with)
        if name not in self._names:
            return None
        try:
            return Answer(**json.loads(read_bytes(f"{self._folder}/{name}")))
        except (ValueError, TypeError, FileNotFoundError):
            return None

    def put(self, image: bytes, asked_with: str, answer: Answer) -> None:
        """Keep an answer.

        Args:
            image: As it was sent.
            asked_with: Everything else that decides about the answer: model, prompt, settings.
            answer: The answer.
        """
        with replacing(f"{self._folder}/{self._name(image, asked_with)}") as file:
            file.write_text(json.dumps(asdict(answer), indent=1))

    @staticmethod
    def _name(image: bytes, asked_with: str) -> str:
        return f"{hashlib.sha256(image).hexdigest()}-{hashlib.sha256(asked_with.encode()).hexdigest()[:16]}.json"
