"""Training: `training_set` to a fitted, calibrated, evaluated and registered detector."""

from cygnet.pipelines.training.pipeline import create_pipeline

__all__ = ["create_pipeline"]
