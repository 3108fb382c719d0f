"""Pretraining: procedural scenes to the checkpoint that Cygnet carries, `cygnet-vit-tiny`.

Not part of `kedro run`: it needs an hour or more, no video, and its result is in the package.
`kedro run --pipeline=pretraining` makes it; `make checkpoint` makes it and copies it into the package.
"""

from cygnet.pipelines.pretraining.pipeline import create_pipeline

__all__ = ["create_pipeline"]
