"""Watch: a live source to scores, events and alerts, by the champion, as frames come."""

from cygnet.pipelines.watch.pipeline import create_pipeline

__all__ = ["create_pipeline"]
