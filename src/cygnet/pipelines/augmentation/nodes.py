"""Nodes of augmentation: one Spark plan, one pass over the images."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's own documentation uses

from cygnet.errors import UserError
from cygnet.parameters.augmentation import Augmentation
from cygnet.parameters.scene import Camera
from cygnet.scene import Scene, TrainingScene
from cygnet.spark import flat_map_rows
from cygnet.tables import ABNORMAL, KIND_NORMAL, KIND_REAL, LABELS, NORMAL, TRAINING_SET
from cygnet.vision.codec import decode_image, decode_mask, encode_jpeg, encode_png
from cygnet.vision.region import fill_outside
from cygnet.vision.transforms import Policy, augment, select_policy


def record_training_scene(scene: Scene, augmentation: Augmentation, camera: Camera) -> TrainingScene:
    """Add what the rows of `training_set` go through here to what their images have gone through."""
    return TrainingScene(**asdict(scene), training_jpeg_quality=augmentation.jpeg_quality, camera=camera)


def make_training_set(
    images: DataFrame, anomalies: DataFrame, training_scene: TrainingScene, augmentation: Augmentation
) -> DataFrame:
    """Balance `train` to the asked-for counts with varied copies; take the other splits row by row.

    Every row is decoded, varied (train only) and encoded as JPEG once: the classes differ by the anomaly alone.

    Args:
        images: The table `images`.
        anomalies: The table `anomalies`.
        training_scene: `training_jpeg_quality`, `camera`.
        augmentation: Counts, seed, preset.

    Returns:
        The table `training_set`. No two rows of `train` are the same variant of the same pixels.

    Raises:
        UserError: `train` has no row of a class.
    """
    kind = F.when(F.col("label") == NORMAL, KIND_NORMAL).otherwise(KIND_REAL)
    columns = ["image_id", "frame_id", "split", "label", "kind", "severity", "image", "mask", "area"]
    nothing = {"severity": F.lit(None).cast("float"), "mask": F.lit(None).cast("binary")}
    rows = images.withColumns({"kind": kind, **nothing}).select(columns).unionByName(anomalies.select(columns))
    copies = _plan_copies(rows, augmentation)
    planned = rows.join(copies, "image_id", "left")
    policy, jpeg_quality = select_policy(augmentation, training_scene.camera), training_scene.training_jpeg_quality
    vary = partial(_augment_row, policy=policy, seed=augmentation.seed, jpeg_quality=jpeg_quality)
    return flat_map_rows(planned, vary, TRAINING_SET)


def _plan_copies(rows: DataFrame, augmentation: Augmentation) -> DataFrame:
    """Decide how many copies each train row gives, and which variants they are.

    Returns:
        `image_id`, `content` (hash of the encoded image), `copies`, `first_variant`: a row's variants are numbered
        after those of the rows with the same content.
    """
    train = rows.filter(F.col("split") == "train").select(
        "image_id",
        "label",
        (F.col("kind") != KIND_REAL).alias("is_made"),
        F.sha2("image", 256).alias("content"),
        F.xxhash64(F.lit(augmentation.seed), "image_id").alias("draw"),
    )
    sizes = {row["label"]: row["count"] for row in train.groupBy("label").count().collect()}
    targets = {NORMAL: augmentation.counts.normal, ABNORMAL: augmentation.counts.abnormal}
    for name, label in LABELS.items():
        if not sizes.get(label):
            msg = f"The split train has no {name} image: check the labels and synthesis.kinds.train."
            raise UserError(msg)
    whole = _by_label({label: targets[label] // sizes[label] for label in sizes})
    rest = _by_label({label: targets[label] % sizes[label] for label in sizes})
    in_class = Window.partitionBy("label").orderBy("is_made", "draw", "image_id")  # real anomalies go first
    before = Window.partitionBy("content").orderBy("image_id").rowsBetween(Window.unboundedPreceding, -1)
    return (
        train.withColumn("copies", whole + (F.row_number().over(in_class) <= rest).cast("int"))
        .withColumn("first_variant", F.coalesce(F.sum("copies").over(before), F.lit(0)))
        .select("image_id", "content", "copies", "first_variant")
    )


def _by_label(value_of_label: dict[int, int]) -> Column:
    return F.when(F.col("label") == NORMAL, value_of_label[NORMAL]).otherwise(value_of_label[ABNORMAL])


def _augment_row(row: dict[str, Any], policy: Policy, seed: int, jpeg_quality: int) -> Iterator[dict[str, Any]]:
    image = decode_image(row["image"])
    mask, area = (decode_mask(row[name]) if row[name] else None for name in ("mask", "area"))
    is_train = row["split"] == "train"
    for number in range(int(row["copies"]) if is_train else 1):
        if is_train:
            variant = int(row["first_variant"]) + number
            varied, varied_mask = augment((image, mask), row["content"], variant, policy, seed)
            varied_area = None if area is None else augment((image, area), row["content"], variant, policy, seed)[1]
            varied = fill_outside(varied, varied_area)  # what is not looked at keeps its grey
        else:
            varied, varied_mask, varied_area = image, mask, area
        yield {
            "image_id": f"{row['image_id']}/{number}",
            "frame_id": row["frame_id"],
            "split": row["split"],
            "label": row["label"],
            "kind": row["kind"],
            "severity": row["severity"],
            "image": encode_jpeg(varied, jpeg_quality),
            "mask": None if varied_mask is None else encode_png(varied_mask),
            "area": None if varied_area is None else encode_png(varied_area),
        }
