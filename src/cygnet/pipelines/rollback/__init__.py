"""Rollback: the champion before the present one gets alias and traffic back."""

from cygnet.pipelines.rollback.pipeline import create_pipeline

__all__ = ["create_pipeline"]
