"""The plain ways: PIL, one image at a time, as the reference is described (no line of it is here).

Images are decoded, changed and encoded without detours. Randomness is the standard library's, quicker per number than
numpy's, and unseeded per row, as there.
"""

import io
import math
import random

from PIL import Image, ImageDraw

JPEG_QUALITY = 95
SIZE_PX = 256
RANDOM = random.Random(0)  # noqa: S311 - no secret is made of it


def open_rgb(encoded: bytes) -> Image.Image:
    """Decode to RGB."""
    return Image.open(io.BytesIO(encoded)).convert("RGB")


def to_jpeg(image: Image.Image) -> bytes:
    """Encode as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def crop_and_resize(image: Image.Image, horizontal_bias: float) -> Image.Image:
    """Cut the largest square, vertically centred, and resize it by PIL's default, bicubic."""
    side = min(image.size)
    left = round((image.width - side) * horizontal_bias)
    top = (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((SIZE_PX, SIZE_PX))


def augment(image: Image.Image) -> Image.Image:
    """Apply a random non-empty subset of: two flips, a quarter turn or more, squash and skew."""
    changes = [_flip_across, _flip_down, _turn, _squash_and_skew]
    for change in RANDOM.sample(changes, RANDOM.randint(1, len(changes))):
        image = change(image)
    return image


def _flip_across(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _flip_down(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)


def _turn(image: Image.Image) -> Image.Image:
    return image.rotate(RANDOM.choice((90, 180, 270)))


def _squash_and_skew(image: Image.Image, shear: float = 0.3) -> Image.Image:
    scale = 1 + shear
    recentre = image.width / 2 - (scale * image.width / 2 + shear * image.height / 2)
    return image.transform(
        image.size, Image.Transform.AFFINE, (scale, shear, recentre, 0, 1, 0), resample=Image.Resampling.BILINEAR
    )


def draw_patches(image: Image.Image, edge_patches: int, area_px: float = 500.0) -> Image.Image:
    """Draw one patch near the centre and some in the edge bands, each by way of a mask and a copy of the image."""
    width, height = image.size
    places = [(RANDOM.uniform(0.35, 0.55) * width, RANDOM.uniform(0.35, 0.55) * height)]
    places += [_edge_place(width, height) for _ in range(edge_patches)]
    for place in places:
        image = add_patch(image, place, area_px, 255 if RANDOM.random() < 0.6 else 0)
    return image


def draw_share(image: Image.Image, amount_frac: float = 0.01, salt_vs_pepper: float = 0.6) -> Image.Image:
    """Draw 1-9 white and 1-9 black patches anywhere, which share out `amount_frac` of the pixels at random."""
    width, height = image.size
    for value, share in ((255, salt_vs_pepper), (0, 1 - salt_vs_pepper)):
        weights = [RANDOM.expovariate(1) for _ in range(RANDOM.randint(1, 9))]
        for weight in weights:
            area_px = amount_frac * share * width * height * weight / sum(weights)
            place = (RANDOM.uniform(0, width), RANDOM.uniform(0, height))
            image = add_patch(image, place, area_px, value)
    return image


def add_patch(image: Image.Image, place: tuple[float, float], area_px: float, value: int) -> Image.Image:
    """Give a copy of the image with one irregular polygon around `place`."""
    radius_px = max(5.0, math.sqrt(area_px / math.pi))
    vertices = RANDOM.randint(5, 9)
    first = RANDOM.uniform(0, 2 * math.pi)
    points = []
    for number in range(vertices):
        angle, distance_px = first + 2 * math.pi * number / vertices, radius_px * RANDOM.uniform(0.5, 1.5)
        points.append((place[0] + distance_px * math.cos(angle), place[1] + distance_px * math.sin(angle)))
    mask = Image.new("L", image.size, 0)
    ImageDraw.Draw(mask).polygon(points, fill=255)
    return Image.composite(Image.new("RGB", image.size, (value,) * 3), image, mask)


def _edge_place(width: int, height: int, band_frac: float = 0.2) -> tuple[float, float]:
    across, along = RANDOM.uniform(0, band_frac), RANDOM.uniform(0, 1)
    places = [(across, along), (1 - across, along), (along, across), (along, 1 - across)]
    x, y = RANDOM.choice(places)
    return x * width, y * height
