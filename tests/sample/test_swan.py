"""What the sample video promises to those who crop it, add anomalies to it and train on it."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from cygnet.datasets.videos import VideosDataset
from cygnet.sample.scene import draw_frame
from cygnet.sample.video import SampleVideo

CONF = Path(__file__).parents[2] / "conf"

WIDTH_PX, HEIGHT_PX, SEED = 160, 90, 7
CROP_LEFT_PX = round(0.40 * (WIDTH_PX - HEIGHT_PX))
TIMES_S = [0.0, 4.2, 7.5, 15.0, 22.5, 29.9]


def frame(time_s: float, seed: int = SEED) -> np.ndarray:
    """One small frame."""
    return draw_frame(time_s, WIDTH_PX, HEIGHT_PX, seed)


def swan_mask(image: np.ndarray) -> np.ndarray:
    """Where the image is as bright as plumage or as orange as the beak."""
    blue, green, red = (image[..., channel].astype(int) for channel in range(3))
    plumage = np.minimum(np.minimum(blue, green), red) > 165
    return np.asarray(plumage | ((red - blue > 90) & (red > 140)))


def write_tiny(path: Path) -> None:
    """Write 2 s of video, 12 frames, as a run does where the sample is missing."""
    sample = SampleVideo(duration_s=2, frames_per_s=6, width_px=96, height_px=64, seed=SEED)
    VideosDataset(filepath=path, sample={"filepath": str(path), **dataclasses.asdict(sample)}).check()


def decoded(path: Path) -> list[np.ndarray]:
    """All frames of the video."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames


def test_same_arguments_draw_the_same_pixels() -> None:
    assert np.array_equal(frame(3.2), frame(3.2))


def test_another_seed_draws_other_waves_and_bank() -> None:
    difference = cv2.absdiff(frame(3.2), frame(3.2, seed=8))
    assert (difference > 8).mean() > 0.2


@pytest.mark.parametrize(("width_px", "height_px"), [(96, 64), (161, 91), (64, 64)])
def test_frame_has_the_size_asked_for(width_px: int, height_px: int) -> None:
    image = draw_frame(1.0, width_px, height_px, SEED)
    assert image.shape == (height_px, width_px, 3)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("time_s", TIMES_S)
def test_swan_is_inside_the_square_that_is_cut_out(time_s: float) -> None:
    _, columns = np.nonzero(swan_mask(frame(time_s)))
    assert columns.size > 0.02 * WIDTH_PX * HEIGHT_PX
    assert columns.min() >= CROP_LEFT_PX
    assert columns.max() < CROP_LEFT_PX + HEIGHT_PX


@pytest.mark.parametrize("time_s", TIMES_S)
def test_consecutive_frames_differ_only_slightly(time_s: float) -> None:
    difference = cv2.absdiff(frame(time_s), frame(time_s + 0.1))
    assert 0.2 < difference.mean() < 6


@pytest.mark.parametrize("time_s", TIMES_S)
def test_hardly_any_pixel_is_as_black_or_white_as_an_anomaly(time_s: float) -> None:
    image = frame(time_s)
    assert ((image <= 8) | (image >= 247)).mean() < 0.005


def test_water_is_dark_and_swan_is_bright() -> None:
    image = frame(5.0)
    water = image[HEIGHT_PX // 2 :, -WIDTH_PX // 5 :]
    assert 20 < water.mean() < 80
    assert 190 < np.median(image[swan_mask(image)]) < 235


def test_negative_time_is_refused() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        frame(-0.1)


def test_written_video_has_the_promised_frames_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "swan.mp4"
    write_tiny(path)
    frames = decoded(path)
    assert [image.shape for image in frames] == [(64, 96, 3)] * 12
    assert cv2.absdiff(frames[6], draw_frame(1.0, 96, 64, SEED)).mean() < 4
    assert list(path.parent.iterdir()) == [path]


def test_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.mp4", tmp_path / "b.mp4"
    write_tiny(first)
    write_tiny(second)
    assert first.read_bytes() == second.read_bytes()


def test_failing_in_the_middle_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(time_s: float, *size_and_seed: int) -> np.ndarray:
        if time_s >= 1:
            raise RuntimeError("killed")
        return draw_frame(time_s, *size_and_seed)

    monkeypatch.setattr("cygnet.sample.video.draw_frame", fail)
    with pytest.raises(RuntimeError, match="killed"):
        write_tiny(tmp_path / "swan.mp4")
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_tiny(tmp_path / "file" / "swan.mp4")


def test_name_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="can't write a video of 96x64 pixels"):
        write_tiny(tmp_path / f"{'s' * 300}.mp4")


def test_defaults_are_the_sample_in_globals() -> None:
    sample = yaml.safe_load((CONF / "base" / "globals.yml").read_text())["sample"]
    assert dataclasses.asdict(SampleVideo()) == sample
