"""Fixtures for the detector: a ViT of one layer, on one thread, without the network."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from cygnet.model.serving.scorer import Scorer
from cygnet.parameters.base import Parameters
from cygnet.parameters.training import Training
from support.toys import toy_scorer, toy_training


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keep torch, where it is, to one thread: models this small only wait for the others."""
    if find_spec("torch") is None:
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep transformers from the network: the variable is read at import, so the constant is set too."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if find_spec("huggingface_hub") is not None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def training(parameters: dict[str, Parameters]) -> Training:
    """Give parameters of training with a tiny ViT."""
    return toy_training(parameters["training"])


@pytest.fixture(scope="session")
def scorer(training: Training) -> Scorer:
    """Give a scorer that was never fitted."""
    return toy_scorer(training)
