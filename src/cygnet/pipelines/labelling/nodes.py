"""Nodes of labelling. Human labels decide what is asked and measure the answers; nothing changes them."""

import logging
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as pad

from cygnet.endpoints.answer_cache import Answer, AnswerCache
from cygnet.endpoints.vision_model import NOT_ASKED, Usage, VisionEndpoint, check_labelling
from cygnet.errors import UserError
from cygnet.labels import label_by_time, match_labels, name_frames
from cygnet.parameters.labelling import Labelling
from cygnet.pipelines.labelling.agreement import measure_agreement
from cygnet.preflight import checked_before_run
from cygnet.progress import tracked
from cygnet.reports import LabellingReport
from cygnet.scene import Scene
from cygnet.tables import LABELS
from cygnet.vision.codec import encode_jpeg
from cygnet.vision.shown import shown_frame

logger = logging.getLogger(__name__)

NAME_OF = {value: name for name, value in LABELS.items()}
LABEL_COLUMNS = ["image_name", "label", "confidence", "notes"]
FAILURE_COLUMNS = ["image_name", "frame_id", "reason"]


def pick_frames(
    stored_frames: pad.Dataset, videos: pd.DataFrame, labels: pd.DataFrame, labelling: Labelling
) -> pd.DataFrame:
    """Pick the frames that the model is asked about, evenly spread: without a human label, and some that have one.

    A folder that says what its images are counts as a human label.

    Args:
        stored_frames: The table `frames`.
        videos: The table `SOURCES`.
        labels: The table `IMAGE_LABELS` or `LABEL_RANGES`, of which the model's own are left out.
        labelling: `max_frames`, `agreement_frames`.

    Returns:
        `frame_id`, `image_name`, `human_label` (a key of `LABELS`; empty: none), by source, in time order.

    Raises:
        UserError: `frames` has none of these sources, no frame is left to ask about, or as `match_labels`.
    """
    columns = ["frame_id", "source", "frame_index", "timestamp_s"]
    rows = stored_frames.to_table(columns=columns, filter=pad.field("reason").is_null()).to_pandas()
    rows = rows[rows["source"].isin(videos["source"])].sort_values(["source", "frame_index"])
    if rows.empty:
        msg = f"The table 'frames' has no frame of {videos['source'].iloc[0]}: run `kedro run --pipeline=ingestion`."
        raise UserError(msg)
    by_people = labels if "start_s" in labels else labels[labels["source"] != "llm"]
    _, named, ranges, rejects = match_labels(videos, by_people)
    known = label_by_time(rows, named, ranges, rejects)[0].dropna(subset="label").drop_duplicates("frame_id")
    human = known.set_index("frame_id")["label"].map(NAME_OF)
    rows = rows.assign(human_label=rows["frame_id"].map(human).fillna(""))
    has_label = rows["human_label"] != ""
    picked = pd.concat(
        [_spread(rows[~has_label], labelling.max_frames), _spread(rows[has_label], labelling.agreement_frames)]
    ).sort_values(["source", "frame_index"], ignore_index=True)
    if picked.empty:
        msg = "Every frame has a human label: set labelling.agreement_frames above 0 to compare, or add videos."
        raise UserError(msg)
    logger.info(
        "%d of %d frames without a human label are picked, and %d of %d with one.",
        (picked["human_label"] == "").sum(),
        (~has_label).sum(),
        (picked["human_label"] != "").sum(),
        has_label.sum(),
    )
    names = name_frames(videos, picked["frame_id"])
    return picked.assign(image_name=names)[["frame_id", "image_name", "human_label"]]


def draw_frames(
    stored_frames: pad.Dataset, picked_frames: pd.DataFrame, scene: Scene, labelling: Labelling
) -> pd.DataFrame:
    """Draw what is sent: what the detector sees of each frame, scaled down, as JPEG.

    Args:
        stored_frames: The table `frames`.
        picked_frames: What `pick_frames` gave.
        scene: `view`, `region`, `ignore`, `crop_horizontal_bias`.
        labelling: `image_px`, `image_jpeg_quality`.

    Returns:
        `picked_frames` with the column `image`.
    """
    images: dict[str, bytes] = {}
    wanted = pad.field("frame_id").isin(picked_frames["frame_id"].tolist())
    batches = stored_frames.to_batches(columns=["frame_id", "image"], filter=wanted, batch_size=16)
    for batch in tracked(batches, "Drawing frames", "frames", len(picked_frames), len):
        for row in batch.to_pylist():
            shown = shown_frame(row["image"], scene, labelling.image_px)
            images[row["frame_id"]] = encode_jpeg(shown, labelling.image_jpeg_quality)
    return picked_frames.assign(image=picked_frames["frame_id"].map(images))


@checked_before_run(check_labelling)
def ask_model(
    drawn_frames: pd.DataFrame, vision_endpoint: VisionEndpoint, vision_answers: AnswerCache, labelling: Labelling
) -> tuple[pd.DataFrame, Usage]:
    """Ask the model about each frame that has no answer yet.

    Returns:
        `frame_id`, `image_name`, `human_label`, `label` (empty: no answer), `confidence` (NaN), `notes`, `reason` (why
        there is no answer; empty: there is one); and what it took.

    Raises:
        UserError: The model gave no answer at all, though it was asked; see also `VisionModel.ask_all`.
    """
    model = vision_endpoint.open(labelling, vision_answers)
    outcomes, usage = model.ask_all(drawn_frames["image"].tolist())
    columns: list[dict[str, Any]] = [
        {"label": each.label, "confidence": each.confidence, "notes": each.notes, "reason": ""}
        if isinstance(each, Answer)
        else {"label": "", "confidence": np.nan, "notes": "", "reason": each.reason}
        for each in outcomes
    ]
    answers = pd.concat([drawn_frames[["frame_id", "image_name", "human_label"]], pd.DataFrame(columns)], axis=1)
    failed = (answers["reason"] != "").sum()
    if failed == len(answers) and usage.requests:
        reason = answers["reason"].value_counts().index[0]
        msg = f"{labelling.endpoint.model} answered about none of {failed} frames; most often: {reason}"
        raise UserError(msg)
    logger.info(
        "%d frames have an answer, %d have none: %s requests, %s tokens, %.0f s.",
        len(answers) - failed,
        failed,
        f"{usage.requests:,}",
        f"{usage.tokens:,}",
        usage.seconds,
    )
    return answers, usage


def sort_answers(answers: pd.DataFrame, review_below: float) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Divide the frames without a human label into those that get the model's, and those that a person shall look at.

    Args:
        answers: What `ask_model` gave.
        review_below: Confidence, 0-1, below which a frame goes to a person.

    Returns:
        `LABEL_COLUMNS` of those that were asked about, `label` empty where they stay without; `LABEL_COLUMNS` of those
        for a person, the least certain first; and `FAILURE_COLUMNS` of all frames without an answer.
    """
    unlabelled, has_answer = answers["human_label"] == "", answers["reason"] == ""
    is_unsure = has_answer & (answers["confidence"] < review_below)
    was_asked = ~answers["reason"].str.startswith(NOT_ASKED)
    labels = answers.loc[unlabelled & was_asked, LABEL_COLUMNS]
    model_labels = labels.assign(label=labels["label"].mask(is_unsure, ""))
    review = answers.loc[unlabelled & is_unsure, LABEL_COLUMNS].sort_values("confidence", kind="stable")
    return model_labels, review, answers.loc[~has_answer, FAILURE_COLUMNS]


def write_labelling_report(answers: pd.DataFrame, usage: Usage, labelling: Labelling) -> LabellingReport:
    """Sum up: see `cygnet.reports.LabellingReport`."""
    is_asked, has_answer = answers["human_label"] == "", answers["reason"] == ""
    is_sure = has_answer & (answers["confidence"] >= labelling.review_below)
    failures = answers.loc[~has_answer, "reason"].value_counts()
    given = answers.loc[is_asked & is_sure, "label"].value_counts()
    both, sure = answers[~is_asked & has_answer], answers[~is_asked & is_sure]
    agreement = measure_agreement(both["human_label"].tolist(), both["label"].tolist())
    if agreement is not None:
        logger.info(
            "Of %d frames with a human label, the model labels %.1f %% alike; Cohen's kappa %s.",
            agreement["frames"],
            100 * agreement["agree_frac"],
            "is not defined" if agreement["kappa"] is None else f"{agreement['kappa']:.3f}",
        )
    return {
        "model": str(labelling.endpoint.model),
        "url": labelling.endpoint.url,
        "frames": int(is_asked.sum()),
        "labels": {name: int(given.get(name, 0)) for name in LABELS},
        "review_below": labelling.review_below,
        "review_frames": int((is_asked & has_answer & ~is_sure).sum()),
        "failed_frames": {str(reason): int(count) for reason, count in failures.items()},
        "cached_answers": usage.cached,
        "requests": usage.requests,
        "tokens": usage.tokens,
        "seconds": usage.seconds,
        "agreement": agreement,
        "sure_agreement": measure_agreement(sure["human_label"].tolist(), sure["label"].tolist()),
    }


def _spread(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Keep at most so many rows, evenly spread from the first to the last."""
    if len(rows) <= count:
        return rows
    return rows.iloc[np.linspace(0, len(rows) - 1, count).round().astype(int)]
