"""Nodes of synthesis."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's own documentation uses

from cygnet.parameters.synthesis import SplitSeeds, Synthesis
from cygnet.spark import flat_map_rows
from cygnet.tables import ABNORMAL, ANOMALIES, KIND_NULL, NORMAL, SPLITS
from cygnet.vision.anomalies import draw_anomaly, draw_once, make_kinds
from cygnet.vision.codec import decode_image, decode_mask, encode_png
from cygnet.vision.rng import generator


def draw_anomalies(images: DataFrame, synthesis: Synthesis) -> DataFrame:
    """Draw the asked-for number of anomalies of each kind on every normal frame, on one of its tiles, in the area.

    Args:
        images: The table `images`; those labelled abnormal are left alone.
        synthesis: Kinds, seeds, severity and the settings of each kind.

    Returns:
        The table `anomalies`: lossless 256x256 images with their masks. Where a kind does not show on an image, however
        often it is drawn, there is no row.
    """
    columns = ["image_id", "frame_id", "split", "tile", "tiles", "image", "area"]
    normal = images.filter(F.col("label") == NORMAL).select(columns)
    return flat_map_rows(_with_donor(normal, synthesis.seeds), partial(_draw_row, synthesis=synthesis), ANOMALIES)


def _with_donor(normal: DataFrame, seeds: SplitSeeds) -> DataFrame:
    """Add `donor_image`, the same tile of another frame of the same split.

    The frames of a split form one ring in an order drawn by seed and key; a frame's donor is the next in the ring, so
    it is the frame itself only where it is alone.
    """
    seed = F.coalesce(*(F.when(F.col("split") == name, F.lit(getattr(seeds, name))) for name in SPLITS))
    ring = Window.partitionBy("split", "tile").orderBy(F.xxhash64(seed, F.col("frame_id")), "frame_id")
    donors = normal.select(
        "image_id",
        F.coalesce(F.lead("image_id").over(ring), F.first("image_id").over(ring)).alias("donor_id"),
    )
    donor_images = normal.select(F.col("image_id").alias("donor_id"), F.col("image").alias("donor_image"))
    return normal.join(donors, "image_id").join(donor_images, "donor_id")


def _draw_row(row: dict[str, Any], synthesis: Synthesis) -> Iterator[dict[str, Any]]:
    image, donor = decode_image(row["image"]), decode_image(row["donor_image"])
    draws = make_kinds(synthesis, decode_mask(row["area"]) if row["area"] else None)
    split, frame_id = row["split"], row["frame_id"]
    for kind, count in getattr(synthesis.kinds, split).items():
        for number in range(count):
            key = (getattr(synthesis.seeds, split), frame_id, kind, number)
            if generator(*key, "tile").integers(row["tiles"]) != row["tile"]:
                continue
            rng = generator(*key)
            draw = draw_once if kind == KIND_NULL else draw_anomaly
            anomaly = draw(draws[kind], image, donor, rng, synthesis.severity)
            if anomaly is None:
                continue
            yield {
                "image_id": f"{frame_id}/{kind}-{number}",
                "frame_id": frame_id,
                "split": split,
                "label": ABNORMAL,
                "kind": kind,
                "severity": anomaly.severity,
                "area_frac": anomaly.area_frac,
                "image": encode_png(anomaly.image),
                "mask": encode_png(anomaly.mask),
                "area": row["area"],
            }
