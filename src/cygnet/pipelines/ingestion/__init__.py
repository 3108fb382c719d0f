"""Ingestion: videos to `frames` to labelled, cropped and split `images`."""

from cygnet.pipelines.ingestion.pipeline import create_pipeline

__all__ = ["create_pipeline"]
