"""Adaptation: new normal frames taken into the champion's normal subspace, without training, as a new version."""

from cygnet.pipelines.adaptation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
