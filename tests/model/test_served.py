"""What packaging promises: the stored model scores as the scorer does, alone, anywhere, without a pickle."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

import cygnet
from cygnet.model.packaging import SERVED_MODULES, PackagedDetector, log_detector
from cygnet.model.scorer import Scorer
from cygnet.vision.codec import encode_jpeg, encode_png

NAME = "served"
ELSEWHERE = """
import json, sys
from pathlib import Path

source, folder, image = sys.argv[1:]
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(source)]
for name in ("kedro", "kedro_datasets", "kedro_mlflow", "pyspark"):
    sys.modules[name] = None
import mlflow.pyfunc
import pandas as pd
for name in ("click", "pydantic"):  # MLflow needs them, our code must not
    sys.modules[name] = None
rows = mlflow.pyfunc.load_model(folder).predict(pd.DataFrame({"image": [Path(image).read_bytes()]}))
loaded = [module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "cygnet"]
print(json.dumps({"row": rows.iloc[0].astype(float).to_dict(), "loaded": loaded}))
"""


@pytest.fixture
def frame(scene: Callable[..., np.ndarray]) -> bytes:
    """Give a whole frame, wider than high."""
    return encode_jpeg(scene(1, 400)[:300], 95)


@pytest.fixture
def image(scene: Callable[..., np.ndarray]) -> bytes:
    """Give an image that is cropped already."""
    return encode_png(scene(2))


@pytest.fixture
def folder(tracking: Path, scorer: Scorer, scene: Callable[..., np.ndarray]) -> Path:
    """Give the stored model's folder; registered once in a session."""
    place = tracking / "folder.txt"
    if not place.exists():
        log_detector(PackagedDetector(scorer, encode_jpeg(scene(0), 95), {"note": "toy"}), NAME)
        place.write_text(mlflow.artifacts.download_artifacts(f"models:/{NAME}/1"))
    return Path(place.read_text())


@pytest.fixture
def served(folder: Path) -> PyFuncModel:
    """Give the model as MLflow loads it from the registry."""
    return mlflow.pyfunc.load_model(f"models:/{NAME}/1")


def asked(model: PyFuncModel, *images: bytes | None, **params: bool) -> pd.DataFrame:
    return model.predict(pd.DataFrame({"image": images}), params=params)


def test_registered_model_scores_frames_as_the_scorer(served: PyFuncModel, scorer: Scorer, frame: bytes) -> None:
    answer = asked(served, frame, frame)
    expected = scorer.score([scorer.decode(frame, cropped=False)] * 2)
    pd.testing.assert_frame_equal(answer, expected, check_exact=False, rtol=0, atol=1e-6)


def test_cropped_images_are_taken_as_they_are(served: PyFuncModel, scorer: Scorer, frame: bytes, image: bytes) -> None:
    answer = asked(served, frame, image, cropped=True)
    expected = scorer.score([scorer.decode(encoded, cropped=True) for encoded in (frame, image)])
    pd.testing.assert_frame_equal(answer, expected, check_exact=False, rtol=0, atol=1e-6)
    assert asked(served, frame)["logit_abnormal"][0] != pytest.approx(answer["logit_abnormal"][0], abs=1e-4)


def test_stored_example_is_answered(served: PyFuncModel, folder: Path, scorer: Scorer, scene: Callable) -> None:
    from mlflow.pyfunc.scoring_server import infer_and_parse_data

    request = json.loads((folder / "serving_input_example.json").read_text())
    answer = served.predict(infer_and_parse_data(request, served.metadata.get_input_schema()))
    expected = scorer.score([scorer.decode(encode_jpeg(scene(0), 95), cropped=False)])
    pd.testing.assert_frame_equal(answer, expected, check_exact=False, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cropped", [True, False])
@pytest.mark.parametrize("broken", [b"", b"no image", b"\xff\xd8\xff\xe0", None])
def test_one_undecodable_image_refuses_the_request(
    served: PyFuncModel, image: bytes, broken: bytes | None, cropped: bool
) -> None:
    with pytest.raises(MlflowException, match="can't be decoded") as refused:
        asked(served, image, broken, cropped=cropped)
    assert refused.value.get_http_status_code() == 400


def test_request_without_the_column_is_refused(served: PyFuncModel, image: bytes) -> None:
    with pytest.raises(MlflowException, match="image"):
        served.predict(pd.DataFrame({"picture": [image]}))


def test_stored_model_has_its_signature_and_metadata(served: PyFuncModel) -> None:
    assert served.metadata.metadata == {"note": "toy"}
    signature = served.metadata.signature.to_dict()
    assert json.loads(signature["inputs"]) == [{"type": "binary", "name": "image", "required": True}]
    outputs = {column["name"]: column["type"] for column in json.loads(signature["outputs"])}
    scores = dict.fromkeys(("logit_abnormal", "logit_normal", "anomaly_score"), "float")
    assert outputs == {**scores, "is_anomalous": "boolean"}
    assert [(p["name"], p["default"]) for p in json.loads(signature["params"])] == [("cropped", False)]


def test_stored_model_has_no_pickle(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert (folder / "artifacts/detector/model.safetensors") in files
    assert {path.suffix for path in files} <= {".py", ".json", ".txt", ".yaml", ".safetensors", ""}
    assert {path.name for path in files if not path.suffix} <= {"MLmodel", "registered_model_meta"}


def test_stored_model_carries_only_the_modules_that_it_needs(folder: Path) -> None:
    carried = {str(path.relative_to(folder / "code/cygnet")) for path in (folder / "code").rglob("*.py")}
    assert carried == set(SERVED_MODULES)


def test_stored_model_asks_for_neither_kedro_nor_spark(folder: Path) -> None:
    requirements = (folder / "requirements.txt").read_text()
    environment = yaml.safe_load((folder / "conda.yaml").read_text())
    for text in (requirements, json.dumps(environment)):
        assert "kedro" not in text
        assert "pyspark" not in text
    pins = dict(line.split("==") for line in requirements.splitlines())
    assert {"mlflow", "torch", "transformers", "opencv-python-headless", "safetensors"} <= set(pins)


def test_stored_model_runs_where_no_cygnet_kedro_or_spark_is(
    folder: Path, scorer: Scorer, frame: bytes, tmp_path: Path
) -> None:
    (tmp_path / "frame.jpg").write_bytes(frame)
    arguments = [str(Path(cygnet.__file__).parents[1]), str(folder), str(tmp_path / "frame.jpg")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ELSEWHERE, *arguments],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    expected = scorer.score([scorer.decode(frame, cropped=False)]).iloc[0].astype(float).to_dict()
    assert answer["row"] == pytest.approx(expected, abs=1e-5)
    assert answer["loaded"]
    assert all(Path(path).is_relative_to(folder) for path in answer["loaded"])
