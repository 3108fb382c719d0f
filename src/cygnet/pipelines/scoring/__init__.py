"""Scoring: videos and folders of images to `scores`, events, timelines and annotated videos, by the champion."""

from cygnet.pipelines.scoring.pipeline import create_pipeline

__all__ = ["create_pipeline"]
