"""What encoding and decoding promise: PNG is lossless, every image is BGR, and broken bytes never become pixels."""

import io
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image

from cygnet.vision.codec import decode_image, decode_mask, encode_jpeg, encode_png, image_size_px, jpeg_size_px

SCENE = Callable[..., np.ndarray]
FORMATS = [".jpg", ".png", ".webp", ".bmp", ".tiff"]


def encode(suffix: str, image: np.ndarray, *options: int) -> bytes:
    """Encode by OpenCV, in any of its formats."""
    return cv2.imencode(suffix, image, options)[1].tobytes()


def test_png_is_lossless(scene: SCENE) -> None:
    image = scene(1)
    assert np.array_equal(decode_image(encode_png(image)), image)


def test_mask_survives_as_one_channel(scene: SCENE) -> None:
    mask = np.where(scene(1)[:, :, 0] > 128, 255, 0).astype(np.uint8)
    assert np.array_equal(decode_mask(encode_png(mask)), mask)


def test_better_jpeg_quality_is_closer_and_larger(scene: SCENE) -> None:
    image = scene(1)
    fine, coarse = encode_jpeg(image, 95), encode_jpeg(image, 50)
    errors = [cv2.absdiff(decode_image(encoded), image).mean() for encoded in (fine, coarse)]
    assert errors[0] < errors[1]
    assert len(fine) > len(coarse)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_decodes_to_bgr_of_its_size(suffix: str, scene: SCENE) -> None:
    image = scene(1)[:40, :60]
    decoded = decode_image(encode(suffix, image))
    assert decoded.shape == (40, 60, 3)
    assert cv2.absdiff(decoded, image).mean() < 6


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((9, 7), 100, np.uint8),
        np.full((9, 7, 4), (10, 20, 30, 128), np.uint8),
        np.full((9, 7), 100 * 257, np.uint16),
        np.full((9, 7, 3), 100 * 257, np.uint16),
    ],
    ids=["grey", "rgba", "grey-16-bit", "colour-16-bit"],
)
def test_png_of_any_kind_decodes_to_three_channels_of_8_bits(pixels: np.ndarray) -> None:
    decoded = decode_image(encode(".png", pixels))
    expected = pixels[0, 0, :3] if pixels.shape[2:] == (4,) else 100
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, np.broadcast_to(np.uint8(expected), (9, 7, 3)))


def test_photograph_is_turned_upright_by_its_exif_tag(scene: SCENE) -> None:
    encoded = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(scene(1)[:40, :60]).save(encoded, "jpeg", exif=exif)
    assert decode_image(encoded.getvalue()).shape == (60, 40, 3)
    assert jpeg_size_px(encoded.getvalue()) == (60, 40)


@pytest.mark.parametrize("decode", [decode_image, decode_mask])
@pytest.mark.parametrize("encoded", [b"", b"\xff\xd8\xff", b"no image at all" * 99])
def test_empty_and_garbage_bytes_are_a_value_error(encoded: bytes, decode: Callable[[bytes], np.ndarray]) -> None:
    with pytest.raises(ValueError, match="no image"):
        decode(encoded)


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("suffix", FORMATS)
def test_truncated_file_is_a_value_error(suffix: str, kept: float, scene: SCENE) -> None:
    encoded = encode(suffix, scene(1))
    with pytest.raises(ValueError, match=r"no image|not decodable"):
        decode_image(encoded[: int(kept * len(encoded))])


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_reduced_decoding_divides_the_size_and_keeps_the_picture(reduction: int, scene: SCENE) -> None:
    image = scene(1, 512)
    reduced = decode_image(encode_jpeg(image, 95), reduction)
    averaged = cv2.resize(image, None, fx=1 / reduction, fy=1 / reduction, interpolation=cv2.INTER_AREA)
    assert reduced.shape == averaged.shape
    assert cv2.absdiff(reduced, averaged).mean() < 2


@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
@pytest.mark.parametrize(("width_px", "height_px"), [(1, 1), (17, 300), (1920, 1080)])
def test_jpeg_header_tells_the_real_size(width_px: int, height_px: int, options: tuple[int, ...]) -> None:
    encoded = encode(".jpg", np.zeros((height_px, width_px, 3), np.uint8), *options)
    assert jpeg_size_px(encoded) == (width_px, height_px)


def test_jpeg_header_is_found_behind_huffman_tables() -> None:
    encoded = encode_jpeg(np.zeros((30, 50, 3), np.uint8), 95)
    start = encoded.index(b"\xff\xc4")
    tables = encoded[start : start + 2 + int.from_bytes(encoded[start + 2 : start + 4], "big")]
    assert jpeg_size_px(encoded[:2] + tables + encoded[2:]) == (50, 30)


def test_grey_jpeg_header_tells_the_real_size() -> None:
    assert jpeg_size_px(encode(".jpg", np.zeros((30, 50), np.uint8))) == (50, 30)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"garbage",
        b"\xff\xd8",
        b"\xff\xd8" + b"\x00" * 99,
        b"\xff\xd8" + b"\xff" * 99,
        b"\xff\xd8\xff\xe0\xff\xff" + b"\x00" * 99,
        encode_png(np.zeros((8, 8, 3), np.uint8)),
        encode_jpeg(np.zeros((8, 8, 3), np.uint8), 90)[:100],
    ],
    ids=["empty", "text", "start-only", "zeros", "ones", "length-too-long", "png", "header-cut-off"],
)
def test_what_has_no_jpeg_header_has_no_size(encoded: bytes) -> None:
    assert jpeg_size_px(encoded) is None


@pytest.mark.parametrize("suffix", FORMATS)
def test_header_of_every_format_tells_the_size_though_the_pixels_are_missing(suffix: str) -> None:
    encoded = encode(suffix, np.random.default_rng(0).integers(0, 255, (30, 50, 3)).astype(np.uint8))
    assert image_size_px(encoded) == (50, 30)
    if suffix not in {".tiff", ".webp"}:  # one has its directory at the end, the other is looked at as a whole
        assert image_size_px(encoded[: len(encoded) // 2]) == (50, 30)


@pytest.mark.parametrize(
    "encoded",
    [b"", b"garbage", b"\x89PNG\r\n\x1a\n", b"BM" + bytes(60), b"II*\x00" + b"\xff" * 60, b"RIFF", b"GIF89a" * 9],
)
def test_what_has_no_header_of_these_formats_is_a_value_error(encoded: bytes) -> None:
    with pytest.raises(ValueError, match="no image of the formats JPEG, PNG, WEBP, BMP, TIFF"):
        image_size_px(encoded)
