"""From 100 frames to 800 normal and 200 abnormal rows in Spark: one pass against one plan per round, unioned.

Both sides read the same table of 256x256 JPEGs in the same session and write theirs to Parquet.

The baseline is the reference's way, as described: in each of 8 rounds a scalar `pandas_udf` decodes all frames with
PIL, applies a random non-empty subset of flips, turns and an affine map, and encodes; in 2 further rounds another
draws 1-7 polygon patches; all rounds are unioned: 800 and 200 rows, so nothing is counted or cut. Each image passes PIL
and JPEG once, no mask is made.

Ours is what the two pipelines do for the same rows: `draw_anomalies` (2 per frame, lossless, with masks), written to
Parquet and read back, and `make_training_set`, which also varies the abnormal rows and their masks. The second row
leaves the drawing out of both sides: the 200 anomalies are there, and one abnormal round of the baseline varies them.
"""

import tempfile
from collections.abc import Callable
from functools import reduce
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's own documentation uses
from pyspark.sql.pandas.functions import pandas_udf

from benchmarks import plain
from benchmarks.inputs import crop_square, full_hd_frames
from benchmarks.measure import Result, Work, compare
from benchmarks.session import parameters_of, partitions, spark, training_scene, write
from cygnet.parameters.augmentation import Augmentation
from cygnet.parameters.synthesis import Synthesis
from cygnet.pipelines.augmentation.nodes import make_training_set
from cygnet.pipelines.synthesis.nodes import draw_anomalies
from cygnet.tables import ABNORMAL, IMAGES, NORMAL
from cygnet.vision.codec import decode_image, encode_jpeg

BASE_FRAMES = 100
COUNTS = {NORMAL: 800, ABNORMAL: 200}
ASKED = 4


def run() -> list[Result]:
    augmentation = Augmentation.model_validate(parameters_of("augmentation"))
    assert augmentation.counts.model_dump() == {"normal": COUNTS[NORMAL], "abnormal": COUNTS[ABNORMAL]}
    scene = training_scene()
    synthesis = _two_per_frame(Synthesis.model_validate(parameters_of("synthesis")))
    with tempfile.TemporaryDirectory(prefix="cygnet-bench-") as folder:
        _write_images(Path(folder, "images"))
        images = spark().read.parquet(f"{folder}/images")
        anomalies = _stored(draw_anomalies(images, synthesis), f"{folder}/anomalies")
        whole = _compare(
            "100 frames to 800 + 200 rows in Spark",
            lambda: _rounds(images, _augment_series, NORMAL, 8).unionByName(_rounds(images, _draw_series, ABNORMAL, 2)),
            lambda: make_training_set(
                images, _stored(draw_anomalies(images, synthesis), f"{folder}/drawn"), scene, augmentation
            ),
            folder,
        )
        varying = _compare(
            "the same, anomalies drawn before",
            lambda: _rounds(images, _augment_series, NORMAL, 8).unionByName(
                _rounds(anomalies, _augment_series, ABNORMAL, 1)
            ),
            lambda: make_training_set(images, anomalies, scene, augmentation),
            folder,
        )
    return [whole, varying]


def _two_per_frame(synthesis: Synthesis) -> Synthesis:
    train = {"polygon": COUNTS[ABNORMAL] // BASE_FRAMES}
    return synthesis.model_copy(update={"kinds": synthesis.kinds.model_copy(update={"train": train})})


def _compare(what: str, baseline: Callable[[], DataFrame], ours: Callable[[], DataFrame], folder: str) -> Result:
    result = compare(
        Work(what, items=sum(COUNTS.values()), item="row", target=ASKED),
        lambda: write(baseline(), f"{folder}/baseline"),
        lambda: write(ours(), f"{folder}/ours"),
        repetitions=5,
    )
    for side in ("baseline", "ours"):
        _check_rows(f"{folder}/{side}")
    return result


def _rounds(images: DataFrame, change_series: Callable[[pd.Series], pd.Series], label: int, rounds: int) -> DataFrame:
    change = pandas_udf(change_series, "binary")  # type: ignore[call-overload]
    one = images.select("frame_id", F.lit(label).alias("label"), change("image").alias("image"))
    return reduce(DataFrame.unionByName, [one] * rounds)


def _augment_series(images: pd.Series) -> pd.Series:
    return images.apply(lambda encoded: plain.to_jpeg(plain.augment(plain.open_rgb(encoded))))


def _draw_series(images: pd.Series) -> pd.Series:
    return images.apply(
        lambda encoded: plain.to_jpeg(plain.draw_patches(plain.open_rgb(encoded), plain.RANDOM.randint(0, 6)))
    )


def _stored(rows: DataFrame, folder: str) -> DataFrame:
    write(rows, folder)
    return spark().read.parquet(folder)


def _write_images(folder: Path) -> None:
    rows = []
    for number in range(BASE_FRAMES):
        frame = full_hd_frames()[number % len(full_hd_frames())]
        shifted = crop_square(frame, number / BASE_FRAMES)  # no two images with the same pixels
        image = cv2.resize(shifted, (plain.SIZE_PX, plain.SIZE_PX), interpolation=cv2.INTER_AREA)
        name, frame_size = f"swan/{number:06d}", frame.shape[1::-1]
        encoded = encode_jpeg(image, plain.JPEG_QUALITY)
        rows.append((name, name, 0, 1, "train", NORMAL, "default", None, encoded, *frame_size, None))
    folder.mkdir()
    for part in range(partitions()):
        columns = dict(zip(IMAGES.names, zip(*rows[part :: partitions()], strict=True), strict=True))
        pq.write_table(
            pa.table({key: list(column) for key, column in columns.items()}, IMAGES), folder / f"{part}.parquet"
        )


def _check_rows(folder: str) -> None:
    rows = pq.read_table(folder, columns=["label", "image"])
    labels, counts = np.unique(rows["label"].to_numpy(), return_counts=True)
    assert dict(zip(labels.tolist(), counts.tolist(), strict=True)) == COUNTS
    encoded = rows["image"].to_pylist()
    assert {decode_image(image).shape for image in encoded[::50]} == {(plain.SIZE_PX, plain.SIZE_PX, 3)}
