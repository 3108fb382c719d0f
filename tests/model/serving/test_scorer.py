"""What the scorer promises: the same scores wherever it runs, in every runtime, calibrated, without a pickle."""

import dataclasses
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from cygnet.model.serving.scorer import Calibration, Scorer, scores_of, softmax_abnormal
from cygnet.parameters.base import Parameters
from cygnet.vision.codec import decode_image, encode_jpeg, encode_png
from support.toys import LIMITS, frame_to_image, toy_scorer

RUNTIMES = ["torch", "torch_bf16", "onnx", "onnx_int8"]
MOST_DIFFERENCE = {"torch": 0, "onnx": 1e-5, "torch_bf16": 0.02, "onnx_int8": 0.05}
WITHOUT_TORCH = """
import json, sys
from pathlib import Path

for name in ("torch", "transformers", "onnx", "safetensors", "pydantic", "click", "mlflow", "sklearn", "scipy"):
    sys.modules[name] = None
from cygnet.model.serving.scorer import Scorer

scorer = Scorer.load(Path(sys.argv[1]))
scores, _ = scorer.score([scorer.decode(Path(sys.argv[2]).read_bytes())])
print(json.dumps(scores["anomaly_score"].tolist()))
"""
LOGITS = ["logit_abnormal", "logit_normal"]
COLUMNS = [*LOGITS, "anomaly_score", "is_anomalous"]


@pytest.fixture
def images(scene: Callable[..., np.ndarray]) -> list[np.ndarray]:
    """Give 40 images: more than one batch."""
    return [scene(seed) for seed in range(40)]


@pytest.fixture(scope="session", params=RUNTIMES)
def runtime_scorer(request: pytest.FixtureRequest, parameters: dict[str, Parameters]) -> Scorer:
    """Give the scorer in each runtime."""
    return toy_scorer(parameters["training"], runtime=request.param)


def test_saved_scorer_gives_identical_scores(runtime_scorer: Scorer, images: list[np.ndarray], tmp_path: Path) -> None:
    runtime_scorer.save(tmp_path / "detector")
    loaded = Scorer.load(tmp_path / "detector")
    (loaded_scores, loaded_maps), (scores, maps) = loaded.score(images), runtime_scorer.score(images)
    pd.testing.assert_frame_equal(loaded_scores, scores, check_exact=True)
    assert np.array_equal(loaded_maps, maps)
    assert loaded.runtime.name == runtime_scorer.runtime.name
    for name in ("calibration", "scene", "limits"):
        assert getattr(loaded, name) == getattr(runtime_scorer, name)
    assert loaded.runtime.preprocessing == runtime_scorer.runtime.preprocessing


def test_every_runtime_scores_as_torch(scorer: Scorer, runtime_scorer: Scorer, images: list[np.ndarray]) -> None:
    (expected, expected_maps), (answered, maps) = (one.score(images) for one in (scorer, runtime_scorer))
    difference = (expected["anomaly_score"] - answered["anomaly_score"]).abs().max()
    assert difference <= MOST_DIFFERENCE[runtime_scorer.runtime.name]
    assert (difference > 1e-5) == (runtime_scorer.runtime.name in {"torch_bf16", "onnx_int8"})  # it does run in less
    np.testing.assert_allclose(expected_maps, maps, rtol=0, atol=max(0.1 * (difference > 1e-5), 1e-5))


def test_no_score_depends_on_the_images_beside_it(runtime_scorer: Scorer, images: list[np.ndarray]) -> None:
    beside = [*images[:3], np.full((256, 256, 3), 255, np.uint8), np.zeros((256, 256, 3), np.uint8)]
    together, alone = (runtime_scorer.score(some)[0].loc[0, LOGITS].to_numpy(float) for some in (beside, images[:1]))
    raw = runtime_scorer.calibration.temperature
    np.testing.assert_allclose(raw * together, raw * alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "damage",
    [
        lambda settings: settings.pop("limits"),
        lambda settings: settings["limits"].pop("request_px"),
        lambda settings: settings.update(runtime="abacus"),
        dict.clear,
    ],
)
def test_settings_of_another_version_are_told(
    runtime_scorer: Scorer, tmp_path: Path, damage: Callable[[dict[str, Any]], Any]
) -> None:
    runtime_scorer.save(tmp_path)
    settings = json.loads((tmp_path / "detector.json").read_text())
    damage(settings)
    (tmp_path / "detector.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"its detector\.json is not of this version of Cygnet"):
        Scorer.load(tmp_path)


def test_saved_folder_has_no_pickle(runtime_scorer: Scorer, tmp_path: Path) -> None:
    runtime_scorer.save(tmp_path)
    hugging_face = {"config.json", "model.safetensors"}
    network = hugging_face if runtime_scorer.runtime.name.startswith("torch") else {"detector.onnx"}
    assert {path.name for path in tmp_path.iterdir()} == {"detector.json", "preprocessor_config.json", *network}


def test_graph_carries_preprocessing_temperature_and_threshold(
    parameters: dict[str, Parameters], tmp_path: Path
) -> None:
    import onnxruntime

    toy_scorer(parameters["training"], runtime="onnx", threshold=0.25).save(tmp_path)
    carried = onnxruntime.InferenceSession(tmp_path / "detector.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(carried["preprocessing"]) == json.loads((tmp_path / "preprocessor_config.json").read_text())
    calibration = json.loads(carried["calibration"])
    assert (calibration["temperature"], calibration["threshold"]) == (1.7, 0.25)


@pytest.mark.parametrize("runtime", ["onnx", "onnx_int8"])
def test_onnx_scores_where_neither_torch_nor_mlflow_is(
    runtime: str, parameters: dict[str, Parameters], scene: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    scorer = toy_scorer(parameters["training"], runtime=runtime)
    scorer.save(tmp_path / "detector")
    (tmp_path / "image.png").write_bytes(encode_png(scene(1)))
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "detector"), str(tmp_path / "image.png")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx(scorer.score([scene(1)])[0]["anomaly_score"].tolist(), abs=1e-6)


def test_patches_have_probabilities_of_their_own(scorer: Scorer, images: list[np.ndarray]) -> None:
    scores, maps = scorer.score(images)
    assert len(scores) == 40
    assert maps.shape == (40, 2, 2)
    assert maps.dtype == np.float32
    assert 0 <= maps.min() < maps.max() <= 1


def test_answer_has_four_columns_of_the_agreed_types(scorer: Scorer, images: list[np.ndarray]) -> None:
    rows = scorer.score(images[:3])[0]
    assert rows.dtypes.astype(str).to_dict() == dict(zip(COLUMNS, ["float32"] * 3 + ["bool"], strict=True))
    assert scorer.score([])[0].columns.tolist() == COLUMNS
    assert len(scorer.score([])[0]) == 0


def test_logits_are_divided_by_the_temperature(scorer: Scorer, images: list[np.ndarray]) -> None:
    with torch.inference_mode():
        resized = np.stack([scorer.runtime.preprocessing.resize(image) for image in images[:8]])
        raw = scorer.runtime.detector(torch.from_numpy(resized))[0].numpy()
    answered = scorer.score(images[:8])[0][["logit_abnormal", "logit_normal"]].to_numpy()
    margins = (raw[:, :1] - raw[:, 1:]) / 1.7
    np.testing.assert_allclose(answered, np.hstack([margins, -margins]) / 2, rtol=0, atol=1e-6)


def test_softmax_of_the_logits_is_the_score(scorer: Scorer, images: list[np.ndarray]) -> None:
    rows = scorer.score(images)[0]
    powers = np.exp(rows[["logit_abnormal", "logit_normal"]].to_numpy(np.float64))
    np.testing.assert_allclose(rows["anomaly_score"], powers[:, 0] / powers.sum(axis=1), rtol=0, atol=1e-6)
    assert rows["anomaly_score"].std() > 0.01


def test_batch_scores_as_one_by_one(scorer: Scorer, images: list[np.ndarray]) -> None:
    together, alone = scorer.score(images)[0], pd.concat([scorer.score([image])[0] for image in images])
    np.testing.assert_allclose(together[COLUMNS[:3]], alone[COLUMNS[:3]], rtol=0, atol=1e-5)


def test_threshold_itself_is_anomalous(scorer: Scorer, images: list[np.ndarray]) -> None:
    scores = np.sort(scorer.score(images)[0]["anomaly_score"])
    stricter = scorer.with_calibration(dataclasses.replace(scorer.calibration, threshold=float(scores[20])))
    assert stricter.score(images)[0]["is_anomalous"].sum() == 20
    given, _ = scorer.score(images, float(scores[20]))
    pd.testing.assert_frame_equal(given, stricter.score(images)[0], check_exact=True)


@pytest.mark.parametrize("size_px", [(640, 360), (360, 640), (1920, 1080), (300, 200)])
def test_frame_and_its_cropped_image_score_the_same(
    scorer: Scorer, scene: Callable[..., np.ndarray], size_px: tuple[int, int]
) -> None:
    frame = encode_jpeg(cv2.resize(scene(5), size_px), 95)
    image = encode_png(frame_to_image(frame, scorer.scene.crop_horizontal_bias))
    pixels = [scorer.see(frame)[0], scorer.decode(image)]
    assert pixels[0].shape == (256, 256, 3)
    assert np.array_equal(*pixels)
    one, other = (scorer.score([decoded])[0] for decoded in pixels)
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_frame_is_cropped_at_the_scorers_bias(scorer: Scorer) -> None:
    frame = np.zeros((256, 512, 3), np.uint8)
    frame[:] = np.arange(512)[None, :, None] // 2
    left = scorer.see(encode_png(frame))[0][0, 0, 0]
    assert left == round(256 * 0.4) // 2


@pytest.mark.parametrize("cropped", [True, False])
def test_bytes_that_are_no_image_are_refused(scorer: Scorer, cropped: bool) -> None:
    for encoded in (b"", b"no image", b"\xff\xd8\xff\xe0"):
        with pytest.raises(ValueError, match="no image"):
            scorer.decode(encoded) if cropped else scorer.see(encoded)


def bomb(width_px: int, height_px: int) -> bytes:
    """A PNG whose header promises many pixels that nobody has packed."""
    encoded = bytearray(encode_png(np.zeros((8, 8, 3), np.uint8)))
    encoded[16:24] = width_px.to_bytes(4, "big") + height_px.to_bytes(4, "big")
    encoded[29:33] = zlib.crc32(encoded[12:29]).to_bytes(4, "big")
    return bytes(encoded)


@pytest.mark.parametrize("cropped", [True, False])
@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (bomb(2001, 2000), "2001 x 2000 pixels, at most 4000000"),
        (bomb(60_000, 60_000), "3600000000 pixels"),
        (encode_png(np.zeros((8, 8), np.uint8)) + bytes(LIMITS.image_bytes), "bytes, at most 1000000"),
    ],
    ids=["pixels", "very-many-pixels", "bytes"],
)
def test_what_is_above_the_limits_is_not_decoded(
    scorer: Scorer, encoded: bytes, reason: str, cropped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: object) -> np.ndarray:
        pytest.fail("decoded")

    monkeypatch.setattr(cv2, "imdecode", decode)
    with pytest.raises(ValueError, match=reason):
        scorer.decode(encoded) if cropped else scorer.see(encoded)


def test_what_is_just_within_the_limits_is_decoded(scorer: Scorer) -> None:
    assert scorer.decode(encode_png(np.zeros((2000, 2000, 3), np.uint8))).shape == (2000, 2000, 3)


def test_images_of_an_iterator_are_taken_a_batch_at_a_time(scorer: Scorer, images: list[np.ndarray]) -> None:
    waiting, most_waiting = [], []

    def run(batch: np.ndarray) -> tuple[np.ndarray, ...]:
        most_waiting.append(len(waiting))
        waiting.clear()
        return tuple(np.zeros((len(batch), *shape), np.float32) for shape in ((2,), (2, 2), (2, 2)))

    counting = dataclasses.make_dataclass("Counting", ["preprocessing", "run", "batch_size"])
    runtime = counting(scorer.runtime.preprocessing, run, 16)
    taking = Scorer(runtime, scorer.calibration, scorer.scene, scorer.limits)
    taking.score(image for image in images if waiting.append(image) is None)
    assert most_waiting == [16, 16, 8]


@pytest.mark.parametrize("size_px", [(300, 200), (64, 64), (50, 120)])
def test_heatmap_of_a_cropped_image_is_as_large_as_the_image(scorer: Scorer, size_px: tuple[int, int]) -> None:
    anomaly_map = np.array([[0, 0], [0, 1]], np.float32)
    image = encode_png(np.zeros((*size_px[::-1], 3), np.uint8))
    heatmap = decode_image(scorer.draw_heatmap(image, anomaly_map[None], cropped=True))[:, :, 0]
    assert heatmap.shape == size_px[::-1]
    assert (heatmap[0, 0], heatmap[-1, -1]) == (0, 255)


def test_heatmap_of_a_frame_lies_where_the_crop_lies(scorer: Scorer) -> None:
    frame = encode_png(np.zeros((100, 300, 3), np.uint8))
    heatmap = decode_image(scorer.draw_heatmap(frame, np.ones((1, 2, 2), np.float32), cropped=False))[:, :, 0]
    expected = np.zeros((100, 300), np.uint8)
    expected[:, 80:180] = 255  # 0.4 of the margin of 200
    assert np.array_equal(heatmap, expected)


def test_the_tile_with_the_highest_score_counts_for_a_frame(scorer: Scorer, scene: Callable[..., np.ndarray]) -> None:
    tiled = Scorer(scorer.runtime, scorer.calibration, dataclasses.replace(scorer.scene, view="tiles"), scorer.limits)
    sizes = [(640, 256), (256, 256), (256, 700)]
    encoded = [encode_png(cv2.resize(scene(number), size)) for number, size in enumerate(sizes)]
    seen = [tiled.see(frame) for frame in encoded]
    assert [len(images) for images in seen] == [3, 1, 4]
    scores, maps = tiled.score_frames(seen)
    for number, images in enumerate(seen):
        alone, alone_maps = tiled.score(images)
        assert scores["logit_abnormal"][number] == pytest.approx(alone["logit_abnormal"].max(), abs=1e-5)
        np.testing.assert_allclose(maps[number], alone_maps, atol=1e-5)
    heatmap = decode_image(tiled.draw_heatmap(encoded[0], np.ones((3, 2, 2), np.float32), cropped=False))
    assert heatmap.shape == (256, 640, 3)
    assert (heatmap == 255).all()
    assert tiled.score_frames([])[0].columns.tolist() == COLUMNS


def test_scores_of_extreme_logits_are_finite() -> None:
    rows = scores_of(pd.DataFrame({"classifier_margin": [2e5, -2e5, 0]}), Calibration(1.0, 0.5))
    assert rows["anomaly_score"].tolist() == [1.0, pytest.approx(0.0, abs=1e-30), 0.5]
    assert rows["is_anomalous"].tolist() == [True, False, True]
    assert softmax_abnormal(np.array([np.log(3.0)]), np.array([0.0]))[0] == pytest.approx(0.75)


def test_a_whole_frame_is_seen_in_its_area_alone_and_a_cropped_image_as_it_is(
    scorer: Scorer, scene: Callable[..., np.ndarray]
) -> None:
    left = json.dumps([[[0, 0], [0.29, 0], [0.29, 1], [0, 1]]])  # ends at 186, before the second tile
    recorded = dataclasses.replace(scorer.scene, view="tiles", region=left)
    bounded = Scorer(scorer.runtime, scorer.calibration, recorded, scorer.limits)
    frame = cv2.resize(scene(3), (640, 256))
    other = frame.copy()
    other[:, 200:] = 0
    frames = [bounded.see(encode_png(each)) for each in (frame, other)]
    assert [len(images) for images in frames] == [1, 1]  # of three tiles, the first
    assert np.array_equal(frames[0][0], frames[1][0])
    heatmap = decode_image(bounded.draw_heatmap(encode_png(frame), np.ones((1, 2, 2), np.float32), cropped=False))
    assert (heatmap[:, :184] == 255).all()
    assert not heatmap[:, 188:].any()
    assert np.array_equal(bounded.decode(encode_png(frame)), frame)
    tall = Scorer(scorer.runtime, scorer.calibration, dataclasses.replace(recorded, view="square"), scorer.limits)
    with pytest.raises(ValueError, match="leave nothing"):
        tall.see(encode_png(np.zeros((100, 3000, 3), np.uint8)))


def test_the_map_of_a_large_jpeg_lies_where_its_tiles_were_cut(
    scorer: Scorer, scene: Callable[..., np.ndarray]
) -> None:
    region = json.dumps([[[0, 0], [0.4444, 0], [0.4444, 1], [0, 1]]])  # ends where the second tile begins
    recorded = dataclasses.replace(scorer.scene, view="tiles", region=region)
    bounded = Scorer(scorer.runtime, scorer.calibration, recorded, scorer.limits)
    encoded = encode_jpeg(cv2.resize(scene(3), (2051, 1153)), 95)
    maps = np.ones((len(bounded.see(encoded)), 2, 2), np.float32)
    heatmap = decode_image(bounded.draw_heatmap(encoded, maps, cropped=False))
    assert heatmap.shape[:2] == (1153, 2051)
    assert (heatmap[:, :900] == 255).all()
    assert not heatmap[:, 920:].any()
