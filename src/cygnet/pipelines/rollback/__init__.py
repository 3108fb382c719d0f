"""Rollback: gives alias and traffic back to the previous champion."""

from cygnet.pipelines.rollback.pipeline import create_pipeline

__all__ = ["create_pipeline"]
