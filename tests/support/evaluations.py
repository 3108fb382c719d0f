"""A small whole evaluation."""

import numpy as np
import pandas as pd

from cygnet.model.evaluation.evaluate import evaluate, evaluate_baselines
from cygnet.model.evaluation.results import FittedBaseline, LocalisationByKind, LocalisationByPart
from cygnet.model.serving.scorer import Calibration
from cygnet.parameters.training import Evaluation
from cygnet.reports import EvaluationReport, TrainingSummary
from cygnet.tables import KIND_NULL
from support.toys import toy_predictions


def toy_evaluation(predictions: pd.DataFrame) -> EvaluationReport:
    """An evaluation of predictions, with a control and one baseline."""
    controls = toy_predictions([], [0.2, 0.3]).assign(kind=KIND_NULL)
    rows = pd.concat([predictions, controls], ignore_index=True)
    settings = Evaluation(seed=0, resamples=100, normal_frames=1, memory_patches=1)
    calibration, made = (
        Calibration(1.0, 0.5, normal_margins=[0.0], normal_distances=[1.0]),
        TrainingSummary(checkpoint=None, epochs=3, images=1200, seconds=7.5, images_per_second=160.0, seed=301),
    )
    metrics = evaluate(rows, calibration, made, settings, LocalisationByPart(*[LocalisationByKind(None, {})] * 2))
    constant = rows.assign(baseline="majority", anomaly_score=np.float32(0.5))
    baselines = evaluate_baselines(constant, {"majority": FittedBaseline({}, calibration)}, settings)
    return {**metrics, "baselines": baselines}
