"""Augmentation: `images` and `anomalies` to a balanced `training_set`."""

from cygnet.pipelines.augmentation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
