"""What the place of a fit's state promises: the last whole state of the same run, or none."""

import os
from pathlib import Path

import pytest
import torch

from cygnet.model.training.resume import Checkpoints

STATE = {"step": 3, "history": [{"loss": 0.5}], "weights": {"a": torch.arange(3.0)}}


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "new" / "folder").save("key", STATE)
    state = Checkpoints(tmp_path / "new" / "folder").load("key")
    assert state is not None
    assert (state["step"], state["history"]) == (3, [{"loss": 0.5}])
    assert torch.equal(state["weights"]["a"], torch.arange(3.0))


def test_the_last_state_is_kept_alone(tmp_path: Path) -> None:
    for step in (1, 2):
        Checkpoints(tmp_path).save("key", {"step": step})
    assert Checkpoints(tmp_path).load("key") == {"step": 2}
    assert len(list(tmp_path.iterdir())) == 1


def test_there_is_no_state_before_the_first_nor_of_another_run(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load("key") is None
    checkpoints.save("key", STATE)
    assert checkpoints.load("other") is None


def test_a_write_that_is_killed_leaves_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("key", {"step": 1})

    def killed(_state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save("key", {"step": 2})
    assert checkpoints.load("key") == {"step": 1}


class Code:
    """What a pickle could run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


def test_a_state_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("key", {"step": Code()})
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        checkpoints.load("key")
    assert not (tmp_path / "ran").exists()
