"""The nodes that run on Spark: same seed, same bytes, whatever the partitions; and the rules of the tables."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node
from pyspark.sql import DataFrame, SparkSession

from cygnet.anomaly_kinds import SEEN_KINDS
from cygnet.datasets.table import TableDataset
from cygnet.datasets.videos import VideosDataset, list_sources
from cygnet.errors import UserError
from cygnet.labels import match_labels
from cygnet.model.scoring.frame_scores import SCORED_ITEMS
from cygnet.parameters.base import Parameters
from cygnet.pipelines.augmentation.nodes import make_training_set, record_training_scene
from cygnet.pipelines.ingestion.nodes import label_frames, make_images, read_frames, record_scene, split_sources
from cygnet.pipelines.ingestion.reject_nodes import UNKNOWN, list_rejects
from cygnet.pipelines.ingestion.views import cut_images, tell_what_is_seen
from cygnet.pipelines.synthesis.nodes import _with_donor, draw_anomalies
from cygnet.preflight import check_run
from cygnet.spark import flat_map_rows, spark_schema
from cygnet.tables import IMAGE_LABELS, IMAGES, SOURCES, TRAINING_SET
from cygnet.vision.codec import decode_image, decode_mask, encode_jpeg
from support.project import ODD_VIDEO
from support.toys import IMAGES_SCENE, label_ranges

NO_LABELS = pd.DataFrame(columns=IMAGE_LABELS.names)
NO_SOURCES = pd.DataFrame(columns=SOURCES.names)


@pytest.fixture
def images(spark: SparkSession, scene: Callable[..., np.ndarray]) -> DataFrame:
    """Twelve images, two of them with the same pixels, one labelled abnormal."""
    splits = ["train"] * 8 + ["validation"] * 2 + ["test"] * 2
    rows = [
        {
            "image_id": f"s/{index:06d}",
            "frame_id": f"s/{index:06d}",
            "tile": 0,
            "tiles": 1,
            "split": split,
            "label": 0 if index == 5 else 1,
            "label_source": "default",
            "image": encode_jpeg(scene(0 if index == 1 else index), 95),
            "width": 256,
            "height": 256,
            "area": None,
        }
        for index, split in enumerate(splits)
    ]
    return spark.createDataFrame(pd.DataFrame(rows, columns=IMAGES.names), spark_schema(IMAGES)).cache()


def small(parameters: dict[str, Parameters]) -> Parameters:
    base = parameters["augmentation"]
    return base.model_copy(update={"counts": base.counts.model_copy(update={"normal": 90, "abnormal": 30})})


def scene_of(parameters: dict[str, Parameters], view: str, **changes: object) -> Parameters:
    return parameters["scene"].model_copy(update={"view": view, **changes})


def training_set_of(images: DataFrame, anomalies: DataFrame, augmentation: Parameters) -> DataFrame:
    scene = record_training_scene(IMAGES_SCENE, augmentation, "fixed")
    return make_training_set(images, anomalies, scene, augmentation)


def collect(rows: DataFrame) -> pd.DataFrame:
    return rows.toPandas().sort_values("image_id", ignore_index=True)


def test_partitions_change_no_byte(spark: SparkSession, images: DataFrame, parameters: dict[str, Parameters]) -> None:
    def run(partitions: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        spark.conf.set("spark.sql.shuffle.partitions", str(partitions))
        anomalies = draw_anomalies(images.repartition(partitions), parameters["synthesis"])
        return collect(anomalies), collect(training_set_of(images, anomalies, small(parameters)))

    few, many = run(1), run(5)
    spark.conf.set("spark.sql.shuffle.partitions", "2")
    pd.testing.assert_frame_equal(few[0], many[0])
    pd.testing.assert_frame_equal(few[1], many[1])


def test_anomalies_are_drawn_on_normal_frames_alone_and_their_masks_are_what_changed(
    images: DataFrame, parameters: dict[str, Parameters]
) -> None:
    before = {row["frame_id"]: decode_image(bytes(row["image"])) for row in images.collect()}
    anomalies = collect(draw_anomalies(images, parameters["synthesis"]))
    assert "s/000005" not in set(anomalies["frame_id"])
    normal = {"train": 7, "validation": 2, "test": 2}
    assert anomalies.groupby(["split", "kind"]).size().to_dict() == {
        (split, kind): frames * count
        for split, frames in normal.items()
        for kind, count in getattr(parameters["synthesis"].kinds, split).items()
    }
    for row in anomalies.itertuples():
        image, mask = decode_image(row.image), decode_mask(row.mask)
        changed = np.abs(image.astype(int) - before[row.frame_id].astype(int)).max(axis=2) > 8
        np.testing.assert_array_equal(mask == 255, changed)
        assert row.area_frac == pytest.approx(changed.mean(), abs=1e-6)


def test_the_seed_of_a_split_changes_that_split_alone(images: DataFrame, parameters: dict[str, Parameters]) -> None:
    synthesis = parameters["synthesis"]
    other = synthesis.model_copy(update={"seeds": synthesis.seeds.model_copy(update={"train": 999})})
    first, second = collect(draw_anomalies(images, synthesis)), collect(draw_anomalies(images, other))
    same = first["image"] == second["image"]
    assert same[first["split"] != "train"].all()
    assert not same[first["split"] == "train"].any()


def test_a_donor_is_another_frame_of_the_same_split(images: DataFrame, parameters: dict[str, Parameters]) -> None:
    normal = images.filter("label = 1").select("image_id", "frame_id", "tile", "split", "image")
    split_of = {row["image_id"]: row["split"] for row in normal.collect()}
    pairs = _with_donor(normal, parameters["synthesis"].seeds).select("image_id", "donor_id").collect()
    assert len(pairs) == len(split_of)
    assert all(row["image_id"] != row["donor_id"] for row in pairs)
    assert all(split_of[row["image_id"]] == split_of[row["donor_id"]] for row in pairs)


def test_no_two_train_rows_are_the_same_image_even_where_frames_are(
    images: DataFrame, parameters: dict[str, Parameters]
) -> None:
    rows = collect(training_set_of(images, draw_anomalies(images, parameters["synthesis"]), small(parameters)))
    train = rows[rows["split"] == "train"]
    assert train["label"].value_counts().to_dict() == {1: 90, 0: 30}
    assert train["image"].nunique() == 120
    assert list(rows.columns) == TRAINING_SET.names
    assert set(train["kind"]) == {"none", "real", *SEEN_KINDS}
    assert rows.loc[rows["kind"].isin(["none", "real"]), "mask"].isna().all()
    assert rows.loc[~rows["kind"].isin(["none", "real"]), "mask"].notna().all()


def test_real_anomalies_are_kept_when_a_class_is_thinned_out(
    images: DataFrame, parameters: dict[str, Parameters]
) -> None:
    base = parameters["augmentation"]
    few = base.model_copy(update={"counts": base.counts.model_copy(update={"normal": 7, "abnormal": 1})})
    rows = collect(training_set_of(images, draw_anomalies(images, parameters["synthesis"]), few))
    abnormal = rows[(rows["split"] == "train") & (rows["label"] == 0)]
    assert abnormal["kind"].tolist() == ["real"]


def test_null_rows_end_as_the_very_bytes_of_their_normal_frame(
    images: DataFrame, parameters: dict[str, Parameters]
) -> None:
    rows = collect(training_set_of(images, draw_anomalies(images, parameters["synthesis"]), small(parameters)))
    test = rows[rows["split"] == "test"]
    null, normal = (test[test["kind"] == kind].set_index("frame_id")["image"] for kind in ("null", "none"))
    assert null.to_dict() == normal.to_dict()


def test_a_train_split_without_a_class_stops_the_run(images: DataFrame, parameters: dict[str, Parameters]) -> None:
    normal_only = images.filter("label = 1")
    none = draw_anomalies(normal_only.filter("split = 'test'"), parameters["synthesis"])
    with pytest.raises(UserError, match="has no abnormal image"):
        training_set_of(normal_only, none, small(parameters))


def test_several_videos_become_split_images_and_rejects(
    spark: SparkSession, write_video: Callable[..., Path], parameters: dict[str, Parameters]
) -> None:
    ingestion = parameters["ingestion"]
    sources = pd.DataFrame(
        [
            ("a", str(write_video("a.mp4", 40)), "video", 0, None),
            ("b", str(write_video("b.avi", 50, codec="MJPG")), "video", 0, None),
            ("c", "/nowhere.mp4", "video", 0, None),
        ],
        columns=SOURCES.names,
    )
    labels = pd.DataFrame(
        [("a_000001", "abnormal", "human"), ("b_000777", "normal", "llm"), ("z_000001", "normal", "human")],
        columns=["image_name", "label", "source"],
    )
    sources, frame_labels, ranges, label_rejects = match_labels(sources, labels)
    frames = read_frames(sources, record_scene(ingestion, scene_of(parameters, "square"), sources)).cache()
    splits = split_sources(frames, frame_labels, ranges, sources, ingestion)
    images = make_images(
        frames,
        splits,
        frame_labels,
        record_scene(ingestion, scene_of(parameters, "square"), sources),
        ingestion.default_label,
    ).toPandas()
    rejects = list_rejects(frames, splits, frame_labels, label_rejects)
    assert frames.filter("source = 'a' and image is not null").count() == 40
    assert frames.filter("source = 'b' and image is not null").count() == 50
    assert images.groupby("frame_id").size().max() == 1
    for _, group in images.groupby(images["frame_id"].str[0]):
        indexes = group["frame_id"].str[2:].astype(int)
        by_split = indexes.groupby(group["split"])
        assert by_split.max()["train"] + 3 < by_split.min()["validation"]
        assert by_split.max()["validation"] + 3 < by_split.min()["test"]
    labelled = images.set_index("frame_id").loc["a/000001"]
    assert (labelled["label"], labelled["label_source"]) == (0, "human")
    assert labelled["timestamp_s"] == pytest.approx(0.1)
    assert "c/000000" in set(rejects["frame_id"])
    assert set(rejects.loc[rejects["image_name"] != "", "image_name"]) == {"b_000777"}
    gaps = rejects[rejects["reason"] == "in the gap between two splits"].set_index("source")["count"]
    assert gaps["a"] == 40 - (images["frame_id"].str[0] == "a").sum()


def test_a_source_too_short_to_split_stops_the_run(
    spark: SparkSession, write_video: Callable[..., Path], parameters: dict[str, Parameters]
) -> None:
    ingestion = parameters["ingestion"]
    sources = list_sources(str(write_video("a.mp4", 5)))
    _, frame_labels, ranges, _ = match_labels(sources, pd.DataFrame(columns=IMAGE_LABELS.names))
    with pytest.raises(UserError, match="has no frames"):
        split_sources(
            read_frames(sources, record_scene(ingestion, scene_of(parameters, "square"), sources)),
            frame_labels,
            ranges,
            sources,
            ingestion,
        )


@pytest.fixture
def ingest(parameters: dict[str, Parameters]) -> Callable[..., tuple[pd.DataFrame, pd.DataFrame]]:
    """Give a function that ingests a path with labels: to the rows of `images` without pixels, and of `rejects`."""
    ingestion = parameters["ingestion"]

    def run(path: Path, labels: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        sources, matched, ranges, unmatched = match_labels(list_sources(str(path)), labels)
        scene = record_scene(ingestion, scene_of(parameters, "square"), sources)
        frames = read_frames(sources, scene).cache()
        frame_labels, label_rejects = label_frames(frames, matched, ranges, unmatched)
        splits = split_sources(frames, frame_labels, ranges, sources, ingestion)
        images = make_images(frames, splits, frame_labels, scene, ingestion.default_label)
        rejects = list_rejects(frames, splits, frame_labels, label_rejects)
        return images.drop("image").orderBy("frame_id").toPandas(), rejects

    return run


def test_abnormal_ranges_leave_the_rest_normal_and_lie_in_one_split(
    spark: SparkSession, write_video: Callable[..., Path], ingest: Callable[..., tuple[pd.DataFrame, pd.DataFrame]]
) -> None:
    labels = label_ranges(("a", 5.0, 6.5, "abnormal"), ("a", 99.0, 100.0, "abnormal"))
    images, rejects = ingest(write_video("a.mp4", 100, frames_per_s=10.0), labels)
    abnormal = images[images["label"] == 0]
    assert abnormal["frame_id"].tolist() == [f"a/{index:06d}" for index in range(50, 65)]
    assert set(abnormal["split"]) == {"train"}
    assert set(abnormal["label_source"]) == {"human"}
    assert set(images.loc[images["label"] == 1, "label_source"]) == {"default"}
    told = rejects[rejects["reason"] == "a labelled range without a frame"]
    assert told["image_name"].tolist() == ["a 99-100 s"]


def test_a_normal_range_makes_everything_outside_unknown(
    spark: SparkSession, write_video: Callable[..., Path], ingest: Callable[..., tuple[pd.DataFrame, pd.DataFrame]]
) -> None:
    path = write_video("a.mp4", 100, frames_per_s=10.0)
    images, rejects = ingest(path, label_ranges(("a", 2.0, 6.0, "normal"), ("a", 8.0, 8.5, "abnormal")))
    known = {*range(20, 60), *range(80, 85)}
    assert set(images["frame_id"].str[2:].astype(int)) <= known
    assert set(images["split"]) == {"train", "validation", "test"}
    counts = rejects.set_index("reason")["count"]
    assert counts[UNKNOWN] == 100 - len(known)
    assert counts["in the gap between two splits"] == len(known) - len(images)
    told = "no frame lies in one of the labelled ranges, as 50-60 s of 'a', whose last frame is at 9.9 s; give ranges"
    with pytest.raises(UserError, match=told):
        ingest(path, label_ranges(("a", 50.0, 60.0, "normal")))


def write_set(folder: Path, **counts: int) -> Path:
    """Write a labelled set: so many grey images, named by their number, in each of its folders."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            cv2.imwrite(str(folder / name / f"{name}_{index:03d}.png"), np.full((32, 32, 3), 4 * index, np.uint8))
    return folder


def test_folders_of_a_labelled_set_label_their_images_and_a_csv_overrules_them(
    spark: SparkSession, tmp_path: Path, ingest: Callable[..., tuple[pd.DataFrame, pd.DataFrame]]
) -> None:
    write_set(tmp_path / "set", good=30, crack=20)
    own = pd.DataFrame([("crack_000", "normal", "human")], columns=IMAGE_LABELS.names)
    images, _ = ingest(tmp_path / "set", own)
    rows = images.set_index("frame_id")
    assert rows["timestamp_s"].isna().all()  # images of folders do not follow each other in time
    assert rows.loc["crack/000000", ["label", "label_source"]].tolist() == [1, "human"]
    others = rows.drop("crack/000000")
    assert set(others["label_source"]) == {"folder"}
    assert others.groupby(others.index.str.partition("/").get_level_values(0))["label"].unique().map(
        list
    ).to_dict() == {
        "crack": [0],
        "good": [1],
    }
    assert others.groupby("split")["label"].nunique().to_dict() == {"train": 2, "validation": 2, "test": 2}


def test_a_set_without_a_normal_image_is_a_sentence(
    spark: SparkSession, tmp_path: Path, ingest: Callable[..., tuple[pd.DataFrame, pd.DataFrame]]
) -> None:
    told = "None of the .. frames of the split train is normal, .* folder 'good' .* ingestion.default_label"
    with pytest.raises(UserError, match=told):
        ingest(write_set(tmp_path, good=0, crack=30), NO_LABELS)


def test_an_image_of_a_labelled_set_that_does_not_decode_is_one_reject(
    spark: SparkSession,
    tmp_path: Path,
    ingest: Callable[..., tuple[pd.DataFrame, pd.DataFrame]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (write_set(tmp_path, good=30, crack=20) / "crack/crack_003.png").write_bytes(b"no image")
    cv2.imwrite(str(tmp_path / "good/good_007.png"), np.zeros((1, 1, 3), np.uint8))
    with caplog.at_level("INFO"):
        _, rejects = ingest(tmp_path, NO_LABELS)
    failed = rejects[rejects["reason"] != "in the gap between two splits"]
    assert failed["frame_id"].tolist() == ["crack/000003", "good/000007"]
    assert failed["reason"].iloc[1] == "good_007.png: 1x1 px, at least 16 px a side are needed"
    assert "2 frames failed, 0 labels found no image: see rejects." in caplog.messages
    assert not any(message.startswith("Labels:") for message in caplog.messages)


def test_the_log_counts_labels_and_writes_one_in_the_singular(
    spark: SparkSession,
    write_video: Callable[..., Path],
    ingest: Callable[..., tuple[pd.DataFrame, pd.DataFrame]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    said = {
        "a_000001": "abnormal",
        "a_000002": "normal",
        "a_000003": "normal",
        "a_000999": "normal",
        "z_000000": "normal",
    }
    labels = pd.DataFrame({"image_name": [*said], "label": [*said.values()], "source": "human"})
    with caplog.at_level("INFO"):
        ingest(write_video("a.mp4", 40), labels)
    assert "Labels: 1 abnormal, 2 normal; 2 for frames that are not here." in caplog.messages
    assert any(message.startswith("40 frames of 1 source: train ") for message in caplog.messages)
    assert any("is seen as 1 square of" in message for message in caplog.messages)


def test_tiles_of_a_frame_are_images_of_its_split_and_share_its_anomalies(
    spark: SparkSession, parameters: dict[str, Parameters], scene: Callable[..., np.ndarray]
) -> None:
    splits = ["train"] * 4 + ["test"] * 2
    wide = [np.hstack([scene(number), scene(number + 50)]) for number in range(6)]
    rows = [
        {
            "frame_id": f"s/{number:06d}",
            "split": split,
            "label": 1,
            "label_source": "default",
            "image": encode_jpeg(frame, 95),
            "width": 512,
            "height": 256,
        }
        for number, (split, frame) in enumerate(zip(splits, wide, strict=True))
    ]
    recorded = record_scene(parameters["ingestion"], scene_of(parameters, "tiles"), NO_SOURCES)
    tiled = [tile for row in rows for tile in cut_images(row, recorded)]
    counts = [sum(tile["frame_id"] == row["frame_id"] for tile in tiled) for row in rows]
    assert counts == [3] * 6  # 512 x 256
    assert [tile["image_id"] for tile in tiled[:3]] == [f"s/000000/tile-{number}" for number in range(3)]
    images = spark.createDataFrame(pd.DataFrame(tiled, columns=IMAGES.names), spark_schema(IMAGES))
    synthesis = parameters["synthesis"]
    anomalies = draw_anomalies(images, synthesis).toPandas()
    of_image = {tile["image_id"]: decode_image(tile["image"]) for tile in tiled}
    drawn = anomalies[anomalies["kind"] == "polygon"]
    per_frame = drawn.groupby("frame_id").size()
    assert per_frame.tolist() == [synthesis.kinds.train["polygon"]] * 4 + [synthesis.kinds.test["polygon"]] * 2
    for row in drawn.to_dict("records"):
        is_kept = decode_mask(row["mask"]) == 0
        same = [np.array_equal(decode_image(row["image"])[is_kept], image[is_kept]) for image in of_image.values()]
        assert sum(same) == 1
        assert next(iter(np.array([*of_image])[same])).startswith(row["frame_id"])


def test_a_row_without_a_required_value_is_an_error(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(1,)], ["n"])
    with pytest.raises(Exception, match="which every row must have"):
        flat_map_rows(rows, lambda row: [{"image_id": "x"}], IMAGES).collect()


def test_workers_run_the_interpreter_that_runs_the_driver(spark: SparkSession) -> None:
    def name_interpreter(row: dict[str, object]) -> Iterator[dict[str, object]]:
        yield {"key": sys.executable, "rows": 1}

    rows = flat_map_rows(spark.createDataFrame([(1,)], ["n"]), name_interpreter, SCORED_ITEMS).collect()
    assert rows[0]["key"] == sys.executable


def test_spark_reads_a_table_where_it_wrote_it_under_any_name(images: DataFrame, tmp_path: Path) -> None:
    table = TableDataset(filepath=str(tmp_path / ODD_VIDEO / "images"), table="images")
    table.save(images)
    pd.testing.assert_frame_equal(collect(table.load()), collect(images))
    assert [path.name for path in tmp_path.iterdir()] == [ODD_VIDEO]


def test_the_area_bounds_images_anomalies_and_training_set(
    spark: SparkSession, parameters: dict[str, Parameters], scene: Callable[..., np.ndarray]
) -> None:
    left = [[(0.0, 0.0), (0.3, 0.0), (0.3, 1.0), (0.0, 1.0)]]
    recorded = record_scene(parameters["ingestion"], scene_of(parameters, "tiles", region=left), NO_SOURCES)
    keys = {"label": 1, "label_source": "default", "width": 512, "height": 256}
    rows = [
        {
            "frame_id": f"s/{number:06d}",
            "split": "train" if number < 4 else "test",
            **keys,
            "image": encode_jpeg(frame, 95),
        }
        for number, frame in enumerate(np.hstack([scene(number), scene(number + 50)]) for number in range(6))
    ]
    tiled = [tile for row in rows for tile in cut_images(row, recorded)]
    assert [tile["tiles"] for tile in tiled] == [2] * 12  # of three
    images = spark.createDataFrame(pd.DataFrame(tiled, columns=IMAGES.names), spark_schema(IMAGES))
    anomalies = draw_anomalies(images, parameters["synthesis"]).cache()
    of_image = {tile["image_id"]: decode_image(tile["image"]) for tile in tiled}
    drawn = anomalies.filter("kind != 'null'").toPandas()
    assert len(drawn) > 20
    for row in drawn.to_dict("records"):
        area, mask = decode_mask(row["area"]), decode_mask(row["mask"])
        assert 0 < np.count_nonzero(area) < area.size
        assert not mask[area == 0].any()
        outside = decode_image(row["image"])[area == 0]
        tiles = [f"{row['frame_id']}/tile-{number}" for number in range(2)]
        assert any(np.array_equal(outside, of_image[tile][area == 0]) for tile in tiles)
    rows_of_set = training_set_of(images, anomalies, small(parameters)).toPandas()
    assert rows_of_set["area"].notna().all()
    for row in rows_of_set.to_dict("records"):
        if row["mask"] is not None:
            assert not decode_mask(row["mask"])[decode_mask(row["area"]) == 0].any()
        is_grey = np.abs(decode_image(row["image"]).astype(int) - 128).max(axis=2) < 12
        far = cv2.dilate(decode_mask(row["area"]), np.ones((33, 33), np.uint8)) == 0
        assert is_grey[far].mean() > 0.99


def test_a_frame_that_the_area_does_not_fit_stops_the_run_and_the_first_one_before_it_starts(
    spark: SparkSession, parameters: dict[str, Parameters], tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "tall.png"), np.full((90, 50), 255, np.uint8))
    (tmp_path / "video").mkdir()
    cv2.imwrite(str(tmp_path / "video" / "frame.png"), np.zeros((64, 96, 3), np.uint8))
    edge = [[(0.95, 0.0), (1.0, 0.0), (1.0, 1.0), (0.95, 1.0)]]
    frames = spark.createDataFrame([(96, 64)], ["width", "height"])
    for view, region, told in (
        (
            "tiles",
            str(tmp_path / "tall.png"),
            "96x64 has another aspect ratio than the mask of 50x90 that scene.region names",
        ),
        ("square", edge, "leave nothing of 96x64 pixels to look at"),
    ):
        scene = scene_of(parameters, view, region=region)
        recorded = record_scene(parameters["ingestion"], scene, NO_SOURCES)
        with pytest.raises(UserError, match=told):
            tell_what_is_seen(frames, recorded)
        entries = {
            "params:ingestion": MemoryDataset(parameters["ingestion"]),
            "params:scene": MemoryDataset(scene),
            "videos": VideosDataset(filepath=str(tmp_path / "video"), sample={"filepath": "none"}),
        }
        pipeline = Pipeline([node(record_scene, list(entries), "scene", name="record_scene")])
        with pytest.raises(UserError, match=told):
            check_run(pipeline, DataCatalog(entries), {}, {})


def test_the_log_says_what_is_not_looked_at_and_how_small_an_object_may_be(
    spark: SparkSession, parameters: dict[str, Parameters], caplog: pytest.LogCaptureFixture
) -> None:
    frames = spark.createDataFrame([(1280, 720), (1280, 720)], ["width", "height"])
    for view, level in (("square", "WARNING"), ("tiles", "INFO")):
        caplog.clear()
        with caplog.at_level("INFO"):
            tell_what_is_seen(frames, record_scene(parameters["ingestion"], scene_of(parameters, view), NO_SOURCES))
        (line,) = caplog.records
        assert line.levelname == level
        assert ("43.8 %" if view == "square" else "Not looked at: 0.0 %") in line.message
        assert "about 45 px" in line.message
