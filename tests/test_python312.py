"""Python 3.12, which Databricks' runtimes have: what needs neither torch nor transformers works there too.

Their only build for 3.12 that can be had without an index of PyTorch's own has gigabytes of CUDA. `.ci/python312` makes
the environment that these tests ask for. That Spark's workers run on it too is shown in `test_end_to_end`.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd

from cygnet.parameters.base import Parameters
from support.toys import toy_image, toy_scorer

TESTS = Path(__file__).parent
LIGHT = (
    "vision",
    "test_job_runs.py",
    "test_parameters.py",
    *(f"datasets/test_{name}.py" for name in ("labels", "table", "video_file", "videos")),
    *(
        f"model/evaluation/test_{name}.py"
        for name in ("calibrate", "evaluate", "events", "intervals", "localisation", "parity", "plots")
    ),
    "model/serving/test_request.py",
)
IMPORT_ALL = """
import importlib, pkgutil, cygnet
print(cygnet.__file__)
for module in pkgutil.walk_packages(cygnet.__path__, "cygnet."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        assert error.name.partition(".")[0] in {"torch", "transformers", "databricks"}, error
    except SystemExit:
        assert module.name == "cygnet.__main__"
"""
SCORE = """
import sys
from pathlib import Path
import numpy as np
from cygnet.model.serving.scorer import Scorer
folder = Path(sys.argv[1])
Scorer.load(folder / "scorer").score(list(np.load(folder / "images.npy")))[0].to_parquet(folder / "scores.parquet")
"""


def run(python: Path, *arguments: str | Path, path: Path, cwd: Path) -> str:
    """Run it with the wheel and pyspark on the path; give what it prints."""
    search = os.pathsep.join([str(path), str(python.parent.parent / "shared")])
    done = subprocess.run(
        [python, *arguments], cwd=cwd, env={**os.environ, "PYTHONPATH": search},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_module_of_the_wheel_is_imported(python312: Path, installed: Path, tmp_path: Path) -> None:
    printed = run(python312, "-c", IMPORT_ALL, path=installed, cwd=tmp_path)
    assert printed.startswith(str(installed))


def test_the_light_tests_pass_with_the_wheel(python312: Path, installed: Path, tmp_path: Path) -> None:
    files = [TESTS / name for name in LIGHT]
    options = ("-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'inner'}")
    run(python312, "-m", "pytest", *options, *files, path=installed, cwd=TESTS.parent)


def test_what_is_served_scores_as_where_it_was_made(
    python312: Path, installed: Path, tmp_path: Path, parameters: dict[str, Parameters]
) -> None:
    scorer = toy_scorer(parameters["training"], runtime="onnx")
    images = [toy_image(label, seed, 256) for label in (0, 1) for seed in range(4)]
    np.save(tmp_path / "images.npy", images)
    scorer.save(tmp_path / "scorer")
    run(python312, "-c", SCORE, tmp_path, path=installed, cwd=tmp_path)
    there, here = pd.read_parquet(tmp_path / "scores.parquet"), scorer.score(images)[0]
    pd.testing.assert_frame_equal(there, here, check_exact=False, rtol=0, atol=1e-6)
