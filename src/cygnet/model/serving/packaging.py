"""The scorer as an MLflow model: signature, requirements, code and weights; no pickle, no Spark, no Kedro.

The model carries the few modules of Cygnet that scoring needs, which spares the endpoint a Cygnet wheel. Modules and
requirements that only one runtime needs are in `cygnet.model.serving.runtimes`.
"""

import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

import cygnet
from cygnet.model.serving.runtimes import RUNTIMES
from cygnet.model.serving.scorer import Scorer

MODULES = (
    "__init__.py",
    "scene.py",
    "tables.py",
    "vision/__init__.py",
    "vision/codec.py",
    "vision/crop.py",
    "vision/region.py",
    "model/__init__.py",
    "model/network/__init__.py",
    "model/network/preprocessing.py",
    "model/network/threads.py",
    "model/serving/__init__.py",
    "model/serving/combination.py",
    "model/serving/request.py",
    "model/serving/runtimes.py",
    "model/serving/scorer.py",
)
REQUIREMENTS = ("mlflow", "numpy", "opencv-python-headless", "pandas", "pillow", "pyarrow")
RECORDED = ("cygnet", "kedro", "mlflow", "torch", "transformers", "onnxruntime", "numpy", "opencv-python-headless")
"""The packages whose versions a model records: what made it, not what serves it."""

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("binary", "image")]),
    outputs=Schema(
        [
            ColSpec("float", "logit_abnormal"),
            ColSpec("float", "logit_normal"),
            ColSpec("float", "anomaly_score"),
            ColSpec("boolean", "is_anomalous"),
            ColSpec("binary", "heatmap", required=False),
            ColSpec("double", "threshold"),
            ColSpec("string", "model_version"),
            ColSpec("string", "error"),
        ]
    ),
    params=ParamSchema(
        [
            ParamSpec("cropped", "boolean", False),
            ParamSpec("threshold", "double", None),
            ParamSpec("heatmap", "boolean", False),
        ]
    ),
)


@dataclass(frozen=True)
class PackagedDetector:
    """The content of one model version."""

    scorer: Scorer
    input_example: bytes  # one encoded image
    metadata: dict[str, Any]


def log_detector(detector: PackagedDetector, registered_model_name: str) -> str:
    """Log the model to the active MLflow run (to a new one, if there is none) and register it.

    Returns:
        The registered version.
    """
    package = Path(cygnet.__file__).parent
    library = RUNTIMES[detector.scorer.runtime.name].library
    with TemporaryDirectory() as folder, _without_bytecode():
        code = Path(folder, "cygnet")
        for name in MODULES + library.modules:
            (code / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(package / name, code / name)
        detector.scorer.save(Path(folder, "detector"))
        info = mlflow.pyfunc.log_model(
            name="detector",
            python_model=str(package / "model" / "serving" / "served_model.py"),
            artifacts={"detector": Path(folder, "detector").as_uri()},
            code_paths=[str(code)],
            signature=SIGNATURE,
            input_example=pd.DataFrame({"image": [detector.input_example]}),
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS + library.requirements],
            metadata=detector.metadata,
            registered_model_name=registered_model_name,
        )
    return str(info.registered_model_version)


def installed_versions() -> dict[str, str]:
    """Give the versions of Python and of the `RECORDED` packages."""
    return {"python": platform.python_version(), **{name: version(name) for name in RECORDED}}


def fetch_detector(model_uri: str) -> PackagedDetector:
    """Read what `log_detector` logged; MLflow keeps a model that it fetches until this process ends.

    Raises:
        MlflowException, OSError: There is no such model.
        ValueError: It is of another version of Cygnet.
    """
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=model_uri))
    model = Model.load(str(folder))
    example = pd.DataFrame(model.load_input_example(str(folder)))["image"].iloc[0]
    return PackagedDetector(Scorer.load(stored_scorer(folder, model)), example, model.metadata or {})


def stored_scorer(folder: Path, model: Model) -> Path:
    """Give the folder of the scorer within that of a model."""
    return folder / model.flavors["python_function"]["artifacts"]["detector"]["path"]


@contextmanager
def _without_bytecode() -> Iterator[None]:
    """Keep Python from writing `__pycache__`: MLflow imports the model's code from the folder that it then stores."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
