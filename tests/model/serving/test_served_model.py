"""What the served model promises: it scores as the scorer does, alone, anywhere, and answers whatever is sent."""

import base64
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import infer_and_parse_data
from PIL import Image

import cygnet
from cygnet.model.serving.packaging import MODULES, PackagedDetector, log_detector
from cygnet.model.serving.runtimes import RUNTIMES
from cygnet.model.serving.scorer import Scorer
from cygnet.parameters.base import Parameters
from cygnet.vision.codec import decode_image, encode_jpeg, encode_png
from support.toys import LIMITS, toy_image, toy_scorer

SCORES = ["logit_abnormal", "logit_normal", "anomaly_score", "is_anomalous"]
COLUMNS = [*SCORES, "threshold", "model_version", "error"]
ELSEWHERE = """
import json, sys
from pathlib import Path

source, folder, image, *unneeded = sys.argv[1:]
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(source)]
for name in ("kedro", "kedro_datasets", "kedro_mlflow", "pyspark", *unneeded):
    sys.modules[name] = None
import mlflow.pyfunc
import pandas as pd
for name in ("click", "pydantic"):  # MLflow needs them, our code must not
    sys.modules[name] = None
rows = mlflow.pyfunc.load_model(folder).predict(pd.DataFrame({"image": [Path(image).read_bytes()]}))
loaded = [module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "cygnet"]
row = rows[["logit_abnormal", "logit_normal", "anomaly_score", "is_anomalous"]].iloc[0].astype(float).to_dict()
print(json.dumps({"row": row, "loaded": loaded}))
"""
NO_IMAGES = {"empty": b"", "text": b"no image", "header-only": b"\xff\xd8\xff\xe0", "null": None}


@pytest.fixture
def frame(scene: Callable[..., np.ndarray]) -> bytes:
    """Give a whole frame, wider than high."""
    return encode_jpeg(scene(1, 400)[:300], 95)


@pytest.fixture
def image(scene: Callable[..., np.ndarray]) -> bytes:
    """Give an image that is cropped already."""
    return encode_png(scene(2))


@pytest.fixture(scope="session")
def scorers(parameters: dict[str, Parameters]) -> dict[str, Scorer]:
    """Give a scorer by each library, never fitted."""
    return {name: toy_scorer(parameters["training"], runtime=name) for name in ("torch", "onnx")}


@pytest.fixture(params=["torch", "onnx"])
def library(request: pytest.FixtureRequest) -> str:
    """Name the library that runs the network."""
    return request.param


@pytest.fixture
def scorer(library: str, scorers: dict[str, Scorer]) -> Scorer:
    """Give the scorer that was stored."""
    return scorers[library]


@pytest.fixture
def folder(
    tracking: Path,
    library: str,
    scorer: Scorer,
    scene: Callable[..., np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Give a copy of the stored model's folder as it was before anything loaded it; registered once in a session."""
    stored = tracking / f"stored-{library}"
    if not stored.exists():
        monkeypatch.setattr(sys, "dont_write_bytecode", False)  # the default of a shell
        log_detector(PackagedDetector(scorer, encode_jpeg(scene(0), 95), {"note": "toy"}), f"served-{library}")
        shutil.copytree(mlflow.artifacts.download_artifacts(f"models:/served-{library}/1"), stored)
    return shutil.copytree(stored, tmp_path / "model")


@pytest.fixture
def served(folder: Path, library: str) -> PyFuncModel:
    """Give the model as MLflow loads it from the registry."""
    return mlflow.pyfunc.load_model(f"models:/served-{library}/1")


def asked(model: PyFuncModel, *images: bytes | str | None, **params: Any) -> pd.DataFrame:
    return model.predict(pd.DataFrame({"image": images}, dtype=object), params=params)


def assert_scores(answer: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(answer.columns) == COLUMNS
    pd.testing.assert_frame_equal(answer[SCORES], expected, check_exact=False, rtol=0, atol=1e-6)


def test_registered_model_scores_frames_as_the_scorer(served: PyFuncModel, scorer: Scorer, frame: bytes) -> None:
    answer = asked(served, frame, frame)
    assert_scores(answer, scorer.score([scorer.see(frame)[0]] * 2)[0])
    assert answer["threshold"].tolist() == [scorer.calibration.threshold] * 2
    assert answer["model_version"].tolist() == ["1"] * 2
    assert answer["error"].tolist() == [None] * 2


def test_cropped_images_are_taken_as_they_are(served: PyFuncModel, scorer: Scorer, frame: bytes, image: bytes) -> None:
    answer = asked(served, frame, image, cropped=True)
    assert_scores(answer, scorer.score([scorer.decode(encoded) for encoded in (frame, image)])[0])
    assert asked(served, frame)["logit_abnormal"][0] != pytest.approx(answer["logit_abnormal"][0], abs=1e-4)


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "inputs", "instances", "cells"])
def test_every_format_is_answered_as_mlflows_own_reader_passes_it_on(
    served: PyFuncModel, scorer: Scorer, frame: bytes, image: bytes, form: str
) -> None:
    texts = [base64.b64encode(encoded).decode() for encoded in (frame, image)]
    body = {
        "dataframe_split": {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}},
        "dataframe_records": {"dataframe_records": [{"image": text} for text in texts]},
        "inputs": {"inputs": [{"image": text} for text in texts]},
        "instances": {"instances": [{"image": text} for text in texts]},
        "cells": {"inputs": texts},
    }[form]
    answer = served.predict(infer_and_parse_data(body, served.metadata.get_input_schema()))
    assert_scores(answer, scorer.score([scorer.see(encoded)[0] for encoded in (frame, image)])[0])


def test_stored_example_is_answered(served: PyFuncModel, folder: Path, scorer: Scorer, scene: Callable) -> None:
    request = json.loads((folder / "serving_input_example.json").read_text())
    answer = served.predict(infer_and_parse_data(request, served.metadata.get_input_schema()))
    assert_scores(answer, scorer.score([scorer.see(encode_jpeg(scene(0), 95))[0]])[0])


def test_mlflow_predicts_the_stored_example(served: PyFuncModel, library: str, tmp_path: Path) -> None:
    output = tmp_path / "answer.json"
    mlflow.models.predict(
        f"models:/served-{library}/1", served.input_example, env_manager="local", output_path=str(output)
    )
    (row,) = json.loads(output.read_text())["predictions"]
    assert list(row) == COLUMNS
    assert 0 < row["anomaly_score"] < 1


@pytest.mark.parametrize("cropped", [True, False])
def test_undecodable_images_fill_their_own_errors(
    served: PyFuncModel, scorer: Scorer, image: bytes, cropped: bool
) -> None:
    answer = asked(served, *NO_IMAGES.values(), image, "no base64!", cropped=cropped)
    expected = scorer.score([scorer.decode(image) if cropped else scorer.see(image)[0]])[0].iloc[0]
    good = len(NO_IMAGES)
    assert answer.loc[good, SCORES].astype(float).tolist() == pytest.approx(expected.astype(float).tolist(), abs=1e-6)
    assert answer.loc[good, "error"] is None
    for place in (*range(good), good + 1):
        assert answer.loc[place, SCORES].tolist() == [None] * 4
        assert answer.loc[place, "error"].startswith("The image can't be used: ")
        assert answer.loc[place, "error"].endswith(".")
    assert json.loads(json.dumps(answer.to_dict("records"), allow_nan=False))


def test_request_of_bad_images_alone_is_answered(served: PyFuncModel) -> None:
    answer = asked(served, *NO_IMAGES.values(), heatmap=True)
    assert answer[[*SCORES, "heatmap"]].isna().all(axis=None)
    assert answer["error"].notna().all()
    assert len(asked(served)) == 0


def test_given_threshold_decides_and_is_told(served: PyFuncModel, image: bytes) -> None:
    score = float(asked(served, image)["anomaly_score"][0])
    for threshold, decision in ((score, True), (np.nextafter(np.float32(score), np.float32(1)), False), (0, True)):
        answer = asked(served, image, threshold=float(threshold))
        assert (answer["is_anomalous"][0], answer["threshold"][0]) == (decision, float(threshold))


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), float("inf"), "high", [0.5]])
def test_threshold_that_is_no_score_is_refused(served: PyFuncModel, image: bytes, threshold: Any) -> None:
    with pytest.raises(MlflowException, match="threshold") as refused:
        asked(served, image, threshold=threshold)
    assert refused.value.get_http_status_code() == 400


def test_too_many_rows_are_refused(served: PyFuncModel) -> None:
    assert len(asked(served, *[b""] * LIMITS.request_rows)) == LIMITS.request_rows
    with pytest.raises(MlflowException, match="51 images, at most 50 are allowed") as refused:
        asked(served, *[b""] * (LIMITS.request_rows + 1))
    assert refused.value.get_http_status_code() == 400


def test_too_many_pixels_together_are_refused(served: PyFuncModel) -> None:
    image = encode_png(np.zeros((1500, 2000), np.uint8))
    assert asked(served, image, b"", image, image)["error"].isna().sum() == 3
    with pytest.raises(MlflowException, match="more than 9000000 pixels together") as refused:
        asked(served, *[image] * 4)
    assert refused.value.get_http_status_code() == 400


def test_heatmap_is_a_png_of_the_map_where_the_image_was(served: PyFuncModel, scorer: Scorer, frame: bytes) -> None:
    decoded = [scorer.decode(frame), *scorer.see(frame)]
    for cropped, pixels in zip((True, False), decoded, strict=True):
        answer = asked(served, frame, b"", cropped=cropped, heatmap=True)
        assert answer["heatmap"][1] is None
        heatmap = cv2.imdecode(np.frombuffer(answer["heatmap"][0], np.uint8), cv2.IMREAD_UNCHANGED)
        assert heatmap.shape == (300, 400)
        shown = scorer.score([pixels])[1][0, -1, -1] * 255  # its last patch is at the last corner
        assert heatmap[-1, -1 if cropped else 339] == pytest.approx(shown, abs=1)
        assert cropped or not heatmap[:, 340:].any()
    assert "heatmap" not in asked(served, frame)


def encoded_as(form: str, mode: str, **options: Any) -> bytes:
    """Encode one little scene in a format and a mode of Pillow's."""
    pixels, file = toy_image(0, seed=3, size_px=120)[:100, :, ::-1], io.BytesIO()
    picture = Image.fromarray(pixels).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    picture.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        *[(form, mode) for form in ("PNG", "TIFF", "WEBP", "BMP") for mode in ("RGB", "RGBA", "L")],
        *[("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "P"), ("PNG", "LA"), ("PNG", "1")],
        *[("PNG", "I;16"), ("TIFF", "I;16")],
    ],
)
def test_any_format_and_mode_is_scored_as_its_pixels(scorer: Scorer, served: PyFuncModel, form: str, mode: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    answer = asked(served, encoded_as(form, mode, **options))
    plain = encoded_as("PNG", "L" if mode in {"L", "LA", "I;16"} else "RGB")
    expected = scorer.score([scorer.see(plain)[0]])[0]["anomaly_score"][0]
    is_lossy = form == "JPEG" or mode in {"P", "1"}
    assert answer["error"][0] is None
    assert answer["anomaly_score"][0] == pytest.approx(expected, abs=0.05 if is_lossy else 1e-6)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_rotated_photograph_is_scored_upright(served: PyFuncModel, form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded_as(form, "RGB", exif=exif)
    upright = encode_png(decode_image(turned))
    assert decode_image(upright).shape[:2] == (120, 100)
    scores = asked(served, turned, upright)["anomaly_score"]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    heatmap = asked(served, turned, heatmap=True)["heatmap"][0]
    assert decode_image(heatmap).shape[:2] == (120, 100)


@pytest.mark.parametrize("size_px", [(1, 1), (1, 500), (700, 2), (1999, 2000)])
def test_any_size_is_scored(served: PyFuncModel, size_px: tuple[int, int]) -> None:
    encoded = encode_png(np.full((*size_px, 3), 90, np.uint8))
    for cropped in (True, False):
        answer = asked(served, encoded, cropped=cropped, heatmap=True)
        assert 0 < answer["anomaly_score"][0] < 1
        assert decode_image(answer["heatmap"][0]).shape[:2] == size_px


def test_request_without_the_column_is_refused(served: PyFuncModel, image: bytes) -> None:
    with pytest.raises(MlflowException, match="image"):
        served.predict(pd.DataFrame({"picture": [image]}))


def test_model_that_was_fetched_by_its_run_tells_its_id(served: PyFuncModel, folder: Path, image: bytes) -> None:
    (folder / "registered_model_meta").unlink()
    (version,) = asked(mlflow.pyfunc.load_model(str(folder)), image)["model_version"]
    assert version == served.metadata.model_id
    assert version.startswith("m-")


def test_stored_model_has_its_signature_and_metadata(served: PyFuncModel) -> None:
    assert served.metadata.metadata == {"note": "toy"}
    signature = served.metadata.signature.to_dict()
    assert json.loads(signature["inputs"]) == [{"type": "binary", "name": "image", "required": True}]
    outputs = {column["name"]: column["type"] for column in json.loads(signature["outputs"])}
    scores = dict.fromkeys(("logit_abnormal", "logit_normal", "anomaly_score"), "float")
    told = {"threshold": "double", "model_version": "string", "error": "string", "heatmap": "binary"}
    assert outputs == {**scores, "is_anomalous": "boolean", **told}
    params = {param["name"]: param["default"] for param in json.loads(signature["params"])}
    assert params == {"cropped": False, "threshold": None, "heatmap": False}


def test_stored_model_has_neither_pickle_nor_bytecode(folder: Path, library: str) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    weights = {"torch": "model.safetensors", "onnx": "detector.onnx"}[library]
    assert (folder / "artifacts/detector" / weights) in files
    assert {path.suffix for path in files} <= {".py", ".json", ".txt", ".yaml", Path(weights).suffix, ""}
    assert {path.name for path in files if not path.suffix} <= {"MLmodel", "registered_model_meta"}


def test_stored_model_carries_only_the_modules_that_it_needs(folder: Path, library: str) -> None:
    carried = {str(path.relative_to(folder / "code/cygnet")) for path in (folder / "code").rglob("*.py")}
    assert carried == {*MODULES, *RUNTIMES[library].library.modules}


def test_stored_model_asks_for_what_it_needs_and_nothing_else(folder: Path, library: str) -> None:
    requirements = (folder / "requirements.txt").read_text()
    environment = yaml.safe_load((folder / "conda.yaml").read_text())
    for text in (requirements, json.dumps(environment)):
        for other in ("kedro", "pyspark", "cloudpickle", "cygnet", "scikit", "scipy"):
            assert other not in text
    pins = dict(line.split("==") for line in requirements.splitlines())
    common = {"mlflow", "numpy", "opencv-python-headless", "pandas", "pillow", "pyarrow"}
    network = {"torch": {"torch", "transformers", "safetensors"}, "onnx": {"onnxruntime"}}[library]
    assert set(pins) == common | network
    assert not any("+" in pin for pin in pins.values())


def test_stored_model_runs_where_nothing_else_is(
    folder: Path, library: str, scorer: Scorer, frame: bytes, tmp_path: Path
) -> None:
    (tmp_path / "frame.jpg").write_bytes(frame)
    unneeded = {
        "torch": ["onnx", "onnxruntime"],
        "onnx": ["onnx", "torch", "transformers", "safetensors", "accelerate", "huggingface_hub"],
    }[library]
    arguments = [str(Path(cygnet.__file__).parents[1]), str(folder), str(tmp_path / "frame.jpg"), *unneeded]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ELSEWHERE, *arguments],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    expected = scorer.score([scorer.see(frame)[0]])[0].iloc[0].astype(float).to_dict()
    assert answer["row"] == pytest.approx(expected, abs=1e-5)
    assert answer["loaded"]
    assert all(Path(path).is_relative_to(folder) for path in answer["loaded"])
