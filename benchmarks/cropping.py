"""Crop, resize and encode 1080p JPEGs in Spark: `frame_to_images` in `mapInPandas` against PIL in a pandas UDF.

Both sides read the same Parquet table in the same session, deal it out to the same number of tasks, and write their
256x256 JPEGs of quality 95 to Parquet; the whole job is timed. The baseline is a scalar `pandas_udf` that takes the
images of its batch one by one, as the reference's ETL is described, with PIL's default resize (bicubic, cheaper than
LANCZOS). Ours decodes within the DCT at half the size, and averages over areas. Number, size and pixels are checked.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql.pandas.functions import pandas_udf

from benchmarks import plain
from benchmarks.inputs import full_hd_frames
from benchmarks.measure import Result, Work, compare
from benchmarks.session import parameters_of, partitions, spark, write
from cygnet.spark import flat_map_rows
from cygnet.vision.codec import decode_image, encode_jpeg
from cygnet.vision.crop import frame_to_images

ROWS = 200
QUALITY = 95
BIAS = 0.4
SCHEMA = pa.schema([("frame_id", pa.string()), ("image", pa.binary())])
ALIKE_LEVELS = 4.0
"""Most mean difference of two images, 0-255; two different resizes of the swan's water differ by 1.6."""


def run() -> Result:
    assert parameters_of("ingestion")["crop_horizontal_bias"] == BIAS
    assert parameters_of("ingestion")["image_jpeg_quality"] == QUALITY == plain.JPEG_QUALITY
    with tempfile.TemporaryDirectory(prefix="cygnet-bench-") as folder:
        _write_frames(Path(folder, "frames"))
        frames = spark().read.parquet(f"{folder}/frames")
        result = compare(
            Work("crop, resize, encode 1080p JPEG in Spark", items=ROWS, item="image", target=2),
            lambda: write(_baseline(frames), f"{folder}/baseline"),
            lambda: write(_ours(frames), f"{folder}/ours"),
            repetitions=5,
        )
        _check_alike(f"{folder}/baseline", f"{folder}/ours")
    return result


def _baseline(frames: DataFrame) -> DataFrame:
    crop = pandas_udf(_crop_series, "binary")  # type: ignore[call-overload]
    return frames.repartition(partitions()).select("frame_id", crop("image").alias("image"))


def _crop_series(images: pd.Series) -> pd.Series:
    return images.apply(_crop_one)


def _crop_one(encoded: bytes) -> bytes:
    return plain.to_jpeg(plain.crop_and_resize(plain.open_rgb(encoded), BIAS))


def _ours(frames: DataFrame) -> DataFrame:
    return flat_map_rows(frames, partial(_crop_row, horizontal_bias=BIAS, quality=QUALITY), SCHEMA)


def _crop_row(row: dict[str, Any], horizontal_bias: float, quality: int) -> Iterator[dict[str, Any]]:
    (image,) = frame_to_images(row["image"], "square", horizontal_bias)
    yield {**row, "image": encode_jpeg(image, quality)}


def _write_frames(folder: Path) -> None:
    encoded = [encode_jpeg(frame, QUALITY) for frame in full_hd_frames()]
    rows = [{"frame_id": f"{number:06d}", "image": encoded[number % len(encoded)]} for number in range(ROWS)]
    folder.mkdir()
    for part in range(partitions()):
        pq.write_table(pa.Table.from_pylist(rows[part :: partitions()], SCHEMA), folder / f"part-{part}.parquet")


def _check_alike(baseline: str, ours: str) -> None:
    sides = [pq.read_table(side).sort_by("frame_id") for side in (baseline, ours)]
    names = [side["frame_id"].to_pylist() for side in sides]
    assert names[0] == names[1]
    assert len(names[0]) == ROWS
    for pair in zip(*(side["image"].to_pylist()[:10] for side in sides), strict=True):
        first, second = (decode_image(encoded).astype(float) for encoded in pair)
        assert first.shape == second.shape == (plain.SIZE_PX, plain.SIZE_PX, 3)
        assert np.abs(first - second).mean() < ALIKE_LEVELS
