"""Nodes of training. torch and transformers are imported when a node runs, which keeps the command line fast."""

import logging
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad
from matplotlib.figure import Figure

from cygnet.model.serving.packaging import PackagedDetector, installed_versions
from cygnet.model.serving.scorer import Limits, Scorer
from cygnet.model.training.results import Fitted, LeftOut
from cygnet.model.training.resume import StateStore
from cygnet.model.training.settings import FitSettings
from cygnet.parameters.augmentation import Augmentation
from cygnet.parameters.serving import Parity, RequestLimits, RuntimeName
from cygnet.parameters.synthesis import Synthesis
from cygnet.parameters.training import Training
from cygnet.preflight import checked_before_run
from cygnet.reports import EvaluationReport, ParityReport, View
from cygnet.scene import TrainingScene
from cygnet.tables import ABNORMAL, NORMAL, PREDICTIONS
from cygnet.vision.transforms import select_policy

logger = logging.getLogger(__name__)


def list_training_rows(training_set: pad.Dataset) -> pd.DataFrame:
    """List the rows of the training table without their pixels, for the run's lineage."""
    from cygnet.model.training_set import read_keys

    return read_keys(training_set)


def draw_training_images(training_set: pad.Dataset) -> Figure:
    """Draw a contact sheet of normal and abnormal train images, with the anomalies outlined."""
    from cygnet.model.evaluation.gallery import training_examples
    from cygnet.model.evaluation.plots import draw_contact_sheet

    return draw_contact_sheet(training_examples(training_set))


def check_checkpoint(training: Training) -> None:
    """Load the checkpoint before the run starts, which takes a second, instead of after all pipelines before this one.

    Raises:
        UserError: The checkpoint can't be used, or `last_blocks` are all it has.
    """
    from cygnet.model.network.backbone import load_detector
    from cygnet.model.training.frozen import freeze

    freeze(load_detector(training), training)


@checked_before_run(check_checkpoint)
def gather_fit_settings(
    training: Training, synthesis: Synthesis, augmentation: Augmentation, training_scene: TrainingScene
) -> FitSettings:
    """Gather what fitting reads.

    Args:
        training: All settings.
        synthesis: Which anomalies `training.twins` draws.
        augmentation: How `training.twins` varies images: as the table's.
        training_scene: `camera`.
    """
    return FitSettings(training, synthesis, select_policy(augmentation, training_scene.camera))


def fit_detector(training_set: pad.Dataset, fit_settings: FitSettings, fitting_state: StateStore) -> Fitted:
    """Fine-tune the checkpoint on `train`; a sample of the first half of `validation` decides when to stop.

    The second half stays unseen: the threshold is chosen on it.

    Args:
        training_set: The table.
        fit_settings: What `gather_fit_settings` gave.
        fitting_state: Where the fit leaves its state, to continue from there after it was killed.

    Raises:
        UserError: The checkpoint can't be used, or a split lacks a class.
    """
    from cygnet.model.network.backbone import load_detector
    from cygnet.model.training.examples import choose_stopping_rows, load_examples
    from cygnet.model.training.fit import Splits, fit
    from cygnet.model.training_set import check_classes, read_keys

    check_classes(read_keys(training_set, "test"), "test")
    stopping_rows = choose_stopping_rows(training_set)
    detector = load_detector(fit_settings.training)
    with TemporaryDirectory(prefix="cygnet-fit-") as folder:
        train, validation = (
            load_examples(rows, split, detector.preprocessing, detector.patches_per_side, Path(folder))
            for rows, split in ((training_set, "train"), (stopping_rows, "validation"))
        )
        logger.info("Fitting on %d images; another %d decide when to stop.", len(train.labels), len(validation.labels))
        return fit(detector, Splits(train, validation), fit_settings, fitting_state, Path(folder))


def make_scorer(
    fitted: Fitted, training_scene: TrainingScene, runtime: RuntimeName, limits: RequestLimits, training: Training
) -> Scorer:
    """Make the scorer that will be served, not calibrated yet.

    Args:
        fitted: The fitted detector.
        training_scene: What the images have gone through; the scorer does the same to whole frames.
        runtime: What runs the network.
        limits: What a request may hold.
        training: `score` and `normality.top_frac`.
    """
    from cygnet.model.evaluation.calibrate import UNCALIBRATED
    from cygnet.model.serving.runtimes import RUNTIMES

    served_limits = Limits(**limits.model_dump())
    calibration = replace(UNCALIBRATED, score=training.score, top_frac=training.normality.top_frac)
    return Scorer(RUNTIMES[runtime].make(fitted.detector), calibration, training_scene, served_limits)


def score_held_out_rows(
    uncalibrated_scorer: Scorer,
    training_set: pad.Dataset,
    train_frames: pad.Dataset,
    left_out: LeftOut,
    training: Training,
) -> tuple[Scorer, pa.Table]:
    """Score every validation and test image with the scorer that will be served, calibrated on `validation`.

    Args:
        uncalibrated_scorer: The scorer.
        training_set: The table.
        train_frames: The table `images`: what moves in its normal validation frames.
        left_out: How far normal train frames lie from a fit without them.
        training: `threshold`, the rule.

    Returns:
        The scorer, with temperature and threshold found in its own runtime, and the table `predictions`.
    """
    from cygnet.model.evaluation.calibrate import thin
    from cygnet.model.evaluation.motions import measure_normal_motions
    from cygnet.model.evaluation.predictions import EVALUATION_SPLITS, calibrate_scorer, measure_rows, score_rows

    rows = measure_rows(uncalibrated_scorer, training_set, EVALUATION_SPLITS)
    start = replace(
        uncalibrated_scorer.calibration,
        left_out_distances=thin(np.array(left_out.clean_distances())),
        normal_motions=measure_normal_motions(train_frames, uncalibrated_scorer.scene),
    )
    scorer = calibrate_scorer(uncalibrated_scorer.with_calibration(start), rows, training.threshold)
    return scorer, pa.Table.from_pandas(score_rows(rows, scorer), schema=PREDICTIONS, preserve_index=False)


def describe_view(train_frames: pad.Dataset, training_scene: TrainingScene, fitted: Fitted) -> View:
    """Measure how much of a frame is seen, and the smallest object: see `cygnet.model.evaluation.view`."""
    from cygnet.model.evaluation import view

    return view.describe_view(train_frames, training_scene, fitted.detector.patches_per_side)


def package_detector(
    scorer: Scorer,
    evaluation: EvaluationReport,
    parity: ParityReport,
    training_set: pad.Dataset,
    limits: Parity,
) -> PackagedDetector:
    """Put together what the registry stores: the scorer, an example request, what the model is and was made with."""
    example = training_set.head(1, columns=["image"], filter=pad.field("split") == "test")["image"][0].as_py()
    metadata = {
        "checkpoint": evaluation["training"]["checkpoint"] or "small ViT from its configuration",
        "input": "a whole frame, or with the parameter cropped=true a 256x256 image of the scene",
        "labels": {"abnormal": ABNORMAL, "normal": NORMAL},
        "temperature": scorer.calibration.temperature,
        "threshold": scorer.calibration.threshold,
        "threshold_rule": scorer.calibration.rule,
        "promised_fpr": scorer.calibration.target_fpr,
        "auroc_test": evaluation["auroc"],
        "runtime": scorer.runtime.name,
        "parity": parity,
        "versions": installed_versions(),
        "made_with": {
            **scorer.scene.by_parameter(),
            "serving.runtime": scorer.runtime.name,
            **{f"serving.limits.{name}": value for name, value in asdict(scorer.limits).items()},
            **{f"serving.parity.{name}": value for name, value in limits},
        },
    }
    return PackagedDetector(scorer, example, metadata)
