"""Synthesis: anomalies and their masks, drawn on the normal `images`."""

from cygnet.pipelines.synthesis.pipeline import create_pipeline

__all__ = ["create_pipeline"]
