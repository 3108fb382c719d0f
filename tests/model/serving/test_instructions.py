"""What torch's runtimes promise: the same scores on a processor with fewer instructions.

It takes a process of its own, because torch and its libraries look at the processor when they are loaded. ONNX Runtime
has no such switch: `test_quantise` compares its int8 sums with exact ones.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from cygnet.model.serving.scorer import softmax_abnormal
from cygnet.parameters.training import Training
from support.toys import toy_scorer

OLDEST = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
MOST_DIFFERENCE = {"torch": 1e-5, "torch_bf16": 0.02}  # of a score; bfloat16 as in `test_scorer`
RUN = """
import sys
from pathlib import Path

import numpy as np
import torch
from cygnet.model.serving.scorer import Scorer

assert torch.backends.cpu.get_cpu_capability() == "DEFAULT"
folder = Path(sys.argv[1])
for name in sys.argv[2:]:
    logits, *_ = Scorer.load(folder / name).runtime.run(np.load(folder / "images.npy"))
    np.save(folder / f"{name}.npy", logits)
"""


def test_scores_are_the_same_with_the_oldest_instructions(training: Training, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    scorers = {name: toy_scorer(training, runtime=name) for name in MOST_DIFFERENCE}
    for name, scorer in scorers.items():
        scorer.save(tmp_path / name)
    command = [sys.executable, "-c", RUN, str(tmp_path), *scorers]
    done = subprocess.run(command, env=os.environ | OLDEST, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, scorer in scorers.items():
        here, there = scorer.runtime.run(images)[0], np.load(tmp_path / f"{name}.npy")
        scores = [softmax_abnormal(logits[:, 0], logits[:, 1]) for logits in (here, there)]
        assert np.ptp(scores[0]) > 0.01
        assert np.abs(scores[0] - scores[1]).max() <= MOST_DIFFERENCE[name]
