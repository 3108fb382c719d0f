"""A stand-in for a vision model's endpoint: what it was asked, and answers as the chat API gives them."""

import base64
import json
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from support.stub_server import Reply, Request

KEY = "sk-never-to-be-seen-4711"  # pragma: allowlist secret
TOKENS = 100


def completion(content: str | None, *, refusal: str | None = None, finish_reason: str = "stop") -> Reply:
    """Give what the API answers."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    choices = [{"index": 0, "message": message, "finish_reason": finish_reason}]
    usage = {"prompt_tokens": TOKENS - 20, "completion_tokens": 20, "total_tokens": TOKENS}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "stub"}
    return Reply(200, {**head, "choices": choices, "usage": usage})


def said(label: str, confidence: float = 0.95, notes: str = "a pond") -> Reply:
    """Give an answer as the schema wants it."""
    return completion(json.dumps({"label": label, "confidence": confidence, "notes": notes}))


def refused(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    """Give an error as the API gives it."""
    return Reply(status, {"error": {"message": message, "type": "stub", "code": code}}, headers)


def sent_image(request: Request) -> bytes:
    """Give the JPEG that a request asks about."""
    [part] = json.loads(request.body)["messages"][1]["content"]
    head, _, encoded = part["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    return base64.b64decode(encoded)


def level_of(image: bytes) -> float:
    """Give the mean grey level of an image."""
    return float(cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE).mean())


def by_level(request: Request) -> Reply:
    """Answer that a bright image is abnormal."""
    return said("abnormal" if level_of(sent_image(request)) > 75 else "normal")


class Eye:
    """Keeps what it was asked, and answers with what is in `replies` before it answers by `answer`."""

    def __init__(self, *replies: Reply, answer: Callable[[Request], Reply] = by_level) -> None:
        """Start without requests."""
        self.replies = list(replies)
        self.answer = answer
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Reply:
        """Answer a request."""
        self.requests.append(request)
        return self.replies.pop(0) if self.replies else self.answer(request)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What was asked."""
        return [json.loads(request.body) for request in self.requests]
