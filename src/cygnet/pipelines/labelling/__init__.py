"""Labelling: a vision model labels frames that no person has labelled; it runs only when it is asked for."""

from cygnet.pipelines.labelling.pipeline import create_pipeline

__all__ = ["create_pipeline"]
