"""Calibration: the champion's threshold on new normal video, without training, as a new version."""

from cygnet.pipelines.calibration.pipeline import create_pipeline

__all__ = ["create_pipeline"]
