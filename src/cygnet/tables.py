"""The tables that pass between pipelines and nodes, and the constants that all of them share.

Each table is declared once, as an Arrow schema: Parquet stores it, pandas and Spark both map to it, and its metadata
lets Databricks show an `image` column as pictures. A field with `nullable=False` must have a value in every row. Images
are encoded bytes (JPEG or PNG), never nested arrays: a 256x256 image takes 15-100 kB encoded and 3 MB as a JSON list.
"""

import pyarrow as pa

ABNORMAL = 0
NORMAL = 1
LABELS = {"abnormal": ABNORMAL, "normal": NORMAL}

IMAGE_SIZE_PX = 256
SPLITS = ("train", "validation", "test")

KIND_NORMAL = "none"
KIND_REAL = "real"
KIND_NULL = "null"
"""The control: the full synthesis path with nothing drawn. It shows no anomaly and counts in no overall metric."""


def frame_id_of(source: str, frame_index: int) -> str:
    """Name a frame: `<source>/<frame index, at least 6 digits>`."""
    return f"{source}/{frame_index:06d}"


def parse_frame_id(frame_id: str) -> tuple[str, int]:
    """Split a `frame_id` into its source, which may itself contain slashes, and its frame index.

    Raises:
        ValueError: It does not end in a slash and a number.
    """
    source, _, frame_index = frame_id.rpartition("/")
    return source, int(frame_index)


def parse_image_id(image_id: str) -> tuple[str, int, int]:
    """Give source, frame index and tile of an `image_id` of the table `images`."""
    frame_id, _, tile = image_id.rpartition("/tile-")
    return (*parse_frame_id(frame_id), int(tile)) if tile.isdigit() else (*parse_frame_id(image_id), 0)


def _image(name: str, mime_type: str, *, nullable: bool) -> pa.Field:
    metadata = {"spark.contentAnnotation": f'{{"mimeType": "{mime_type}"}}'}
    return pa.field(name, pa.binary(), nullable=nullable, metadata=metadata)


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


SOURCES = pa.schema(
    [
        _required("source", pa.string()),  # name of the video, or of the folder of images
        _required("path", pa.string()),  # of one file
        _required("media", pa.string()),  # video or image
        _required("file_index", pa.int64()),  # an image's position in the natural name order of its folder; 0: a video
        pa.field(
            "label", pa.string()
        ),  # a key of LABELS, by the name of the image's folder; null: the name says nothing
    ]
)
"""One row per file. Built at the start of a run and never stored."""

IMAGE_LABELS = pa.schema(
    [
        _required("image_name", pa.string()),  # as the user wrote it
        _required("label", pa.string()),  # a key of LABELS
        _required("source", pa.string()),  # human or llm
    ]
)
"""The user's labels, by the name of an image."""

LABEL_RANGES = pa.schema(
    [
        _required("source", pa.string()),  # name of the video
        _required("start_s", pa.float64()),
        _required("end_s", pa.float64()),  # exclusive
        _required("label", pa.string()),  # a key of LABELS
    ]
)
"""The user's labels of ranges of time. Never stored."""

FRAME_LABELS = pa.schema(
    [
        _required("frame_id", pa.string()),
        pa.field("label", pa.int32()),  # ABNORMAL or NORMAL; null: unknown, the frame is left out
        _required("label_source", pa.string()),  # human, llm or folder
        _required("image_name", pa.string()),  # of the label that this row comes from; empty: a range
    ]
)
"""The labels that match a source of this run: at most one per frame. Never stored."""

FRAMES = pa.schema(
    [
        _required("frame_id", pa.string()),  # see `frame_id_of`
        _required("source", pa.string()),
        _required("frame_index", pa.int32()),  # position among the decoded frames, or in natural name order
        _required("timestamp_s", pa.float64()),
        _required("width", pa.int32()),  # pixels; 0 where nothing decoded
        _required("height", pa.int32()),
        _image("image", "image/jpeg", nullable=True),  # the whole frame; null if it failed
        pa.field("reason", pa.string()),  # why it failed; null if it did not
    ]
)

IMAGES = pa.schema(
    [
        _required("image_id", pa.string()),  # the frame_id; of a tile <frame_id>/tile-<n>
        _required("frame_id", pa.string()),
        _required("tile", pa.int32()),  # which of the frame's images, from 0: see `cygnet.vision.crop.seen_places`
        _required("tiles", pa.int32()),  # how many images the frame has; 1 unless scene.view is tiles
        _required("split", pa.string()),  # one of SPLITS
        _required("label", pa.int32()),  # ABNORMAL or NORMAL
        _required("label_source", pa.string()),  # default, human, llm, folder
        pa.field("timestamp_s", pa.float64()),  # since the first frame of the video; null: an image of a folder
        _image("image", "image/jpeg", nullable=False),  # 256x256, grey outside the area
        pa.field("width", pa.int32()),  # of the frame, in pixels; null in a table of an earlier version
        pa.field("height", pa.int32()),
        _image("area", "image/png", nullable=True),  # 256x256 grey, 255 = looked at; null: all of it
    ]
)

ANOMALIES = pa.schema(
    [
        _required("image_id", pa.string()),  # <frame_id>/<kind>-<n>
        _required("frame_id", pa.string()),
        _required("split", pa.string()),
        _required("label", pa.int32()),  # ABNORMAL
        _required("kind", pa.string()),
        _required("severity", pa.float32()),  # 0-1
        _required("area_frac", pa.float32()),  # share of the pixels in the mask, 0-1
        _image("image", "image/png", nullable=False),  # 256x256, lossless
        _image("mask", "image/png", nullable=False),  # 256x256 grey, 255 = abnormal
        _image("area", "image/png", nullable=True),  # as in `images`
    ]
)

TRAINING_SET = pa.schema(
    [
        _required("image_id", pa.string()),  # <parent image_id>/<n>
        _required("frame_id", pa.string()),
        _required("split", pa.string()),
        _required("label", pa.int32()),
        _required("kind", pa.string()),  # none: normal; real: labelled abnormal; else the synthetic kind
        pa.field("severity", pa.float32()),  # 0-1; null unless synthetic
        _image("image", "image/jpeg", nullable=False),  # 256x256
        _image("mask", "image/png", nullable=True),  # null unless synthetic
        _image("area", "image/png", nullable=True),  # as in `images`; moves with the image
    ]
)

PREDICTIONS = pa.schema(
    [
        _required("image_id", pa.string()),
        _required("frame_id", pa.string()),
        _required("split", pa.string()),
        _required("label", pa.int32()),
        _required("kind", pa.string()),
        _required("logit_abnormal", pa.float32()),  # already divided by the temperature
        _required("logit_normal", pa.float32()),
        _required("anomaly_score", pa.float32()),  # softmax(logits)[ABNORMAL], 0-1
        _required("is_anomalous", pa.bool_()),  # anomaly_score >= threshold
        pa.field("severity", pa.float32()),  # 0-1; null unless synthetic
        # the two parts of the score, as the network gives them
        _required("classifier_margin", pa.float32()),  # log odds that the image is abnormal, not calibrated
        _required("normality_distance", pa.float32()),  # squared distance of the most distant patches, >= 0
        # GxG, 16-bit grey, x 65535: how abnormal each patch is; and the classifier's probability alone
        _image("anomaly_map", "image/png", nullable=False),
        _image("classifier_map", "image/png", nullable=False),
    ]
)

BASELINES = pa.schema(
    [
        _required("baseline", pa.string()),  # name in `evaluation.json`
        *(field for field in PREDICTIONS if not field.name.startswith(("anomaly_map", "classifier_", "normality_"))),
    ]
)

SCORES = pa.schema(
    [
        _required("frame_id", pa.string()),  # see `frame_id_of`
        _required("source", pa.string()),
        _required("frame_index", pa.int32()),  # as in `frames`
        _required("timestamp_s", pa.float64()),
        _required("media", pa.string()),  # video or image
        _required("width", pa.int32()),  # pixels; 0 where nothing decoded
        _required("height", pa.int32()),
        # already divided by the temperature; of a video the mean over smoothing_s; null where nothing decoded
        pa.field("logit_abnormal", pa.float32()),
        pa.field("logit_normal", pa.float32()),
        pa.field(
            "anomaly_score", pa.float32()
        ),  # softmax(logits)[ABNORMAL], 0-1; the highest among the frame's squares
        pa.field("is_anomalous", pa.bool_()),  # anomaly_score >= threshold
        pa.field("classifier_margin", pa.float32()),  # as in `predictions`, each the highest among the frame's squares
        pa.field("normality_distance", pa.float32()),
        # grey levels, 0-255, the highest among the frame's squares; null: no frame one lag earlier, or an image
        pa.field("motion", pa.float32()),
        # the square with this score, in the frame's pixels; a letterbox extends beyond the frame
        pa.field("square_left_px", pa.int32()),
        pa.field("square_top_px", pa.int32()),
        pa.field("square_side_px", pa.int32()),
        _image("anomaly_map", "image/png", nullable=True),  # of that square, as in `predictions`
        pa.field("reason", pa.string()),  # why there is no score; null if there is one
    ]
)

SCORES_CSV_COLUMNS = ["source", "frame_index", "timestamp_s", "anomaly_score", "is_anomalous"]
"""Columns of `scores.csv`: the frames that have a score."""

SUSPICIOUS_FRAMES_COLUMNS = ["source", "frame_index", "tile", "distance", "limit"]
"""Columns of `suspicious_frames.csv`: images of normal train frames whose distance (>= 0) to the others is above the
limit."""

WATCH_SCORES = pa.schema(
    [
        *SCORES,  # of a camera, index and time go on over restarts
        # when the frame arrived, by the clock of this machine; of a file in a watched folder, when it was written
        _required("taken_at", pa.timestamp("us", "UTC")),
    ]
)
"""In parts: see `cygnet.model.scoring.watch_parts`."""

WATCH_EVENTS = pa.schema(
    [
        _required("source", pa.string()),  # the first five are those of `events.csv`
        _required("start_s", pa.float64()),
        _required("end_s", pa.float64()),
        _required("peak_score", pa.float32()),  # 0-1
        _required("peak_frame_index", pa.int32()),
        _required("alert_id", pa.string()),  # of the alert that was sent when the event had become certain
        _required("started_at", pa.timestamp("us", "UTC")),  # `taken_at` of its first frame
        _required("ended_at", pa.timestamp("us", "UTC")),  # of its last one
        _required("model_version", pa.string()),
    ]
)
"""In parts: an event is in the part during which it ended."""

TABLES = {
    "frames": FRAMES,
    "images": IMAGES,
    "anomalies": ANOMALIES,
    "training_set": TRAINING_SET,
    "predictions": PREDICTIONS,
    "baselines": BASELINES,
    "scores": SCORES,
}

WRITTEN_BY = {
    "frames": "ingestion",
    "images": "ingestion",
    "anomalies": "synthesis",
    "training_set": "augmentation",
    "predictions": "training",
    "baselines": "training",
    "scores": "scoring",
}
"""The pipeline that writes each table: error messages tell the user to run it."""
