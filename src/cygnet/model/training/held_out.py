"""Evaluation of a pretrained detector on pairs that it never saw: other scenes, and the sample video's swan.

The scenes are made of textures that pretraining leaves out. Both sets have every kind of anomaly that is drawn in
spots, including those that pretraining never draws; the overall metrics are over the kinds that it has seen.
Checkpoints are compared by these metrics, and therefore no filmed image is among them.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from cygnet.anomaly_kinds import KINDS, SEEN_KINDS
from cygnet.model.evaluation.calibrate import negative_log_likelihood
from cygnet.model.training.examples import batch_of_pairs
from cygnet.model.training.optimisation import is_known
from cygnet.parameters.pretraining import PairSynthesis, Pretraining
from cygnet.progress import tracked
from cygnet.reports import PairMetrics, PairMetricsByKind
from cygnet.sample.video import SampleVideo
from cygnet.tables import ABNORMAL, IMAGE_SIZE_PX, KIND_NULL, NORMAL
from cygnet.vision.crop import cut_place, place_views
from cygnet.vision.paired_synthesis import PROCEDURAL, draw_by_weight, draw_pair, make_pair
from cygnet.vision.rng import generator

if TYPE_CHECKING:
    from cygnet.model.network.detector import Detector

MEASURED_KINDS = tuple(kind for kind in KINDS if kind != KIND_NULL)
PAIRS_PER_BATCH = 32

Pair = tuple[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
"""A kind, and a pair: the normal and the abnormal image `(S, S, 3)` uint8 BGR, and the mask `(S, S)` uint8."""


def held_out_pairs(pretraining: Pretraining) -> Iterator[Pair]:
    """Draw pairs of scenes with the held-out textures, each kind in turn, with other generators than training."""
    for number in range(pretraining.held_out_images // 2):
        kind = MEASURED_KINDS[number % len(MEASURED_KINDS)]
        rng, settings = generator(pretraining.seed, "held out", number), _only(kind, pretraining.twins)
        yield kind, draw_pair(rng, IMAGE_SIZE_PX, 0.0, settings, pretraining.held_out_textures)


def swan_pairs(pretraining: Pretraining, crop_horizontal_bias: float) -> Iterator[Pair]:
    """Make pairs of frames spread over the sample video, each kind once per frame if the anomaly shows."""
    sample = SampleVideo()
    for time_s in np.linspace(0, sample.duration_s, pretraining.swan_frames, endpoint=False).tolist():
        frame = sample.frame(time_s)
        (place,) = place_views("square", frame.shape[0], frame.shape[1], crop_horizontal_bias)
        scene = cut_place(frame, place)
        for kind in MEASURED_KINDS:
            rng = generator(pretraining.seed, "swan", round(1000 * time_s), kind)
            pair = make_pair(rng, scene, draw_by_weight(_only(kind, pretraining.twins)), PROCEDURAL)
            if pair is not None:
                yield kind, pair


def as_shipped(detector: "Detector") -> "Detector":
    """Copy a detector with its weights rounded to fp16, as in its file."""
    return copy.deepcopy(detector).half().float().eval()


def measure(detector: "Detector", pairs: Iterator[Pair]) -> PairMetricsByKind:
    """Measure a detector on pairs.

    Returns:
        `pairs`; `auroc` and `nll` (nats, uncalibrated) of the images; `patch_average_precision` of the patches,
        without those of which the mask covers less than a tenth but not nothing, and None if no patch is abnormal. All
        are over the pairs with seen kinds, and in `by_kind` by kind.
    """
    drawn = list(tracked(pairs, "Drawing pairs", "pairs"))
    rows = pd.DataFrame(_score(detector, drawn))
    seen = rows[rows["kind"].isin(SEEN_KINDS)]
    by_kind = {str(kind): _describe(group) for kind, group in rows.groupby("kind")}
    return {**_describe(seen), "by_kind": by_kind}


@torch.inference_mode()
def _score(detector: "Detector", pairs: Sequence[Pair]) -> Iterator[dict[str, Any]]:
    """Score every image; yield its kind (that of its pair for a normal one), label, logits, patches and coverage."""
    device = next(detector.parameters()).device
    for start in tracked(range(0, len(pairs), PAIRS_PER_BATCH), "Scoring pairs", "batches"):
        kinds, images_and_masks = zip(*pairs[start : start + PAIRS_PER_BATCH], strict=True)
        images, labels, coverage = batch_of_pairs(images_and_masks, detector.preprocessing, detector.patches_per_side)
        logits, patch_logits, _ = (part.float().cpu().numpy() for part in detector(images.to(device)))
        for index, label in enumerate(labels.tolist()):
            yield {
                "kind": kinds[index // 2],
                "label": label,
                "logits": logits[index],
                "patch_logits": patch_logits[index].ravel(),
                "coverage": coverage[index].numpy().ravel(),
            }


def _describe(rows: pd.DataFrame) -> PairMetrics:
    logits, labels = np.stack(rows["logits"].to_list()), rows["label"].to_numpy()
    patch_logits, coverage = np.concatenate(rows["patch_logits"].to_list()), np.concatenate(rows["coverage"].to_list())
    known = is_known(coverage)
    is_abnormal = coverage[known] > 0
    return {
        "pairs": len(rows) // 2,
        "auroc": float(roc_auc_score(labels == ABNORMAL, logits[:, ABNORMAL] - logits[:, NORMAL])),
        "nll": negative_log_likelihood(logits, labels),
        "patch_average_precision": float(average_precision_score(is_abnormal, patch_logits[known]))
        if is_abnormal.any()
        else None,
    }


def _only(kind: str, synthesis: PairSynthesis) -> PairSynthesis:
    """Draw this kind only, even one that training must not see."""
    return synthesis.model_copy(update={"kinds": {kind: 1.0}})
