"""What a checkpoint from the Hugging Face hub promises: the hub's client, in a process of its own, asks a local hub."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cygnet.model.network.detector import NORMALITY, Detector
from cygnet.model.network.preprocessing import Preprocessing
from cygnet.parameters.training import Training
from support.stub_server import Reply, Request, serving
from support.toys import SMALL_VIT, toy_detector

pytestmark = pytest.mark.slow  # each test starts processes that import transformers
REPOSITORY, COMMIT = "somebody/vit-toy", 40 * "c"
PREPROCESSING = Preprocessing(SMALL_VIT.image_size_px, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
LOAD = """
import sys
from pathlib import Path
from cygnet.errors import UserError
from cygnet.model.network.backbone import load_detector
from cygnet.parameters.training import Training
try:
    load_detector(Training.model_validate_json(sys.argv[1])).save(Path(sys.argv[2]))
except UserError as error:
    sys.exit(str(error))
"""


class Hub:
    """A hub with one repository: the files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []

    def reply(self, request: Request) -> Reply:
        """Answer as the hub does: https://huggingface.co/docs/hub/api, and by the headers that its client reads."""
        self.asked.append(f"{request.method} {request.path}")
        resolved = re.fullmatch(rf"/{REPOSITORY}/resolve/(?:main|{COMMIT})/([\w.]+)", request.path)
        if resolved is None:
            return Reply(404, headers={"X-Error-Code": "RepoNotFound"})
        file = self.folder / resolved[1]
        if not file.exists():
            return Reply(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content = file.read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        return Reply(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """Give a hub that has a detector with heads, a preprocessing of its own, and a pickle beside it."""
    folder = tmp_path / "repository"
    toy_detector(SMALL_VIT).save(folder)
    PREPROCESSING.save(folder)
    (folder / "pytorch_model.bin").write_bytes(b"a pickle that nobody may load")
    return Hub(folder)


@pytest.fixture
def address(hub: Hub) -> Iterator[str]:
    """Serve the hub."""
    with serving(hub.reply) as address:
        yield address


def load(training: Training, checkpoint: str, made: Path, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Load a checkpoint in a process that knows no hub but ours, and keeps what it fetched in `home`."""
    settings = training.model_copy(update={"checkpoint": checkpoint}).model_dump_json()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    return subprocess.run(
        [sys.executable, "-c", LOAD, settings, str(made)],
        env=environment | {"HF_HOME": str(home), **more},
        capture_output=True,
        text=True,
        check=False,
    )


def test_checkpoint_comes_from_the_hub_once_and_is_the_same_as_from_a_folder(
    hub: Hub, address: str, training: Training, tmp_path: Path
) -> None:
    fetched = load(training, REPOSITORY, tmp_path / "fetched", tmp_path / "home", HF_ENDPOINT=address)
    assert fetched.returncode == 0, fetched.stderr
    assert any(asked.startswith("GET") and asked.endswith("model.safetensors") for asked in hub.asked)
    assert not any(asked.startswith("GET") and asked.endswith(".bin") for asked in hub.asked)
    detector = Detector.load(tmp_path / "fetched")
    assert detector.preprocessing == PREPROCESSING
    theirs = toy_detector(SMALL_VIT).state_dict()
    ours = {name: value for name, value in detector.state_dict().items() if name not in NORMALITY}  # it is fitted anew
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())

    kept = load(training, REPOSITORY, tmp_path / "kept", tmp_path / "home", HF_HUB_OFFLINE="1")
    assert kept.returncode == 0, kept.stderr
    assert (tmp_path / "kept/model.safetensors").read_bytes() == (tmp_path / "fetched/model.safetensors").read_bytes()


def test_repository_that_the_hub_lacks_is_one_sentence(address: str, training: Training, tmp_path: Path) -> None:
    told = load(training, "nobody/no-such-vit", tmp_path / "made", tmp_path / "home", HF_ENDPOINT=address)
    assert told.returncode == 1
    assert "training.checkpoint 'nobody/no-such-vit' can't be used: " in told.stderr.splitlines()[-1]
    assert "Traceback" not in told.stderr
