"""Nodes of pretraining. torch and transformers are imported when a node runs, which keeps the command line fast."""

import logging

from matplotlib.figure import Figure

from cygnet.model.network.preprocessing import Preprocessing
from cygnet.model.training.model_card import PackagedCheckpoint, write_card
from cygnet.model.training.results import Pretrained
from cygnet.model.training.resume import StateStore
from cygnet.parameters.pretraining import Pretraining
from cygnet.reports import PretrainingReport
from cygnet.vision.paired_synthesis import draw_pair
from cygnet.vision.rng import generator

logger = logging.getLogger(__name__)

NAME = "cygnet-vit-tiny"
SHEET_PAIRS = 12


def draw_pairs_sheet(pretraining: Pretraining) -> Figure:
    """Draw some pairs side by side as training sees them at the end, anomalies outlined."""
    from cygnet.model.evaluation.plots import draw_contact_sheet

    cells = []
    for pair in range(SHEET_PAIRS):
        rng = generator(pretraining.seed, "sheet", pair)
        normal, abnormal, mask = draw_pair(
            rng, pretraining.vit.image_size_px, 0.0, pretraining.twins, pretraining.textures
        )
        cells += [(f"scene {pair + 1}", normal, None), ("with an anomaly", abnormal, mask)]
    return draw_contact_sheet(cells)


def pretrain_detector(pretraining: Pretraining, pretraining_state: StateStore) -> Pretrained:
    """Train a ViT from its configuration on procedural pairs, or resume a run with the same settings that stopped.

    Args:
        pretraining: All settings.
        pretraining_state: Where the state is kept.
    """
    import torch

    from cygnet.model.network.backbone import initial_vit
    from cygnet.model.network.detector import Detector
    from cygnet.model.training.pretrain import pretrain

    torch.manual_seed(pretraining.seed)
    detector = Detector(initial_vit(pretraining.vit), Preprocessing(pretraining.input_size_px))
    return pretrain(detector, pretraining, pretraining_state)


def evaluate_pretrained(
    pretrained: Pretrained, pretraining: Pretraining, crop_horizontal_bias: float
) -> PretrainingReport:
    """Measure the detector as it will ship, on held-out scenes and on the sample video's swan.

    Args:
        pretrained: The detector.
        pretraining: What was trained on, and what is measured on.
        crop_horizontal_bias: Of the swan's frames, 0-1.

    Returns:
        The content of `pretraining_report.json`: how it was made, and `held_out` and `swan` as
        `cygnet.model.training.held_out` measures them.
    """
    from cygnet.model.training.held_out import as_shipped, held_out_pairs, measure, swan_pairs

    detector = as_shipped(pretrained.detector)
    report: PretrainingReport = {
        "pretraining": {
            "seed": pretraining.seed,
            "images_seen": pretrained.images,
            "kinds_seen": list(pretraining.twins.kinds),
            "textures_seen": list(pretraining.textures),
            "steps": int(pretrained.history["step"].iloc[-1]),
            "seconds": pretrained.seconds,
            "loss": float(pretrained.history["loss"].iloc[-1]),
            "parameters": sum(parameter.numel() for parameter in detector.parameters()),
        },
        "held_out": measure(detector, held_out_pairs(pretraining)),
        "swan": measure(detector, swan_pairs(pretraining, crop_horizontal_bias)),
    }
    for name, measured in (("held_out", report["held_out"]), ("swan", report["swan"])):
        logger.info("AUROC %.4f, NLL %.4f on %d pairs: %s", measured["auroc"], measured["nll"], measured["pairs"], name)
    return report


def draw_curve(pretrained: Pretrained, pretraining: Pretraining) -> Figure:
    """Draw the loss against the images seen."""
    from cygnet.model.evaluation.plots import draw_pretraining_curve

    larger_from = pretraining.small_size_frac * pretrained.images
    return draw_pretraining_curve(pretrained.history, larger_from, pretraining.vit.image_size_px)


def package_checkpoint(
    pretrained: Pretrained, report: PretrainingReport, pretraining: Pretraining
) -> PackagedCheckpoint:
    """Put together the folder that Cygnet carries: the detector, what it saw, and the model card."""
    made = report["pretraining"]
    facts = {
        "kinds_seen": made["kinds_seen"],
        "textures_seen": made["textures_seen"],
        "images_seen": made["images_seen"],
        "seed": made["seed"],
    }
    return PackagedCheckpoint(pretrained.detector, facts, write_card(NAME, pretraining, report))
