"""Serving: the challenger is served, asked about test images, and promoted or refused."""

from cygnet.pipelines.serving.pipeline import create_pipeline

__all__ = ["create_pipeline"]
