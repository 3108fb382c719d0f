"""The pipelines by name; `kedro run` runs those that the data goes through, in their order.

kedro-viz shows each as one box that opens, and in its panel what a node does. A node's name is `<pipeline>.<node>`.
"""

import inspect

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.pipeline.preview_contract import TextPreview

from cygnet.pipelines import (
    adaptation,
    augmentation,
    calibration,
    ingestion,
    labelling,
    pretraining,
    rollback,
    scoring,
    serving,
    synthesis,
    training,
    watch,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Name every pipeline. Their order follows from the catalog: each reads what the one before wrote."""
    pipelines = _named(
        ingestion=ingestion.create_pipeline(),
        synthesis=synthesis.create_pipeline(),
        augmentation=augmentation.create_pipeline(),
        training=training.create_pipeline(),
        serving=serving.create_pipeline(),
    )
    default = sum(pipelines.values(), start=Pipeline([]))
    apart = _named(
        adaptation=adaptation.create_pipeline(),
        calibration=calibration.create_pipeline(),
        labelling=labelling.create_pipeline(),
        pretraining=pretraining.create_pipeline(),
        rollback=rollback.create_pipeline(),
        scoring=scoring.create_pipeline(),
        watch=watch.create_pipeline(),
    )
    return {**pipelines, **apart, "__default__": default}


def _named(**pipelines: Pipeline) -> dict[str, Pipeline]:
    """Give each pipeline its name as namespace, without another name for any dataset, and describe its nodes."""
    return {
        name: Pipeline(
            [described(node) for node in pipeline.nodes], namespace=name, prefix_datasets_with_namespace=False
        )
        for name, pipeline in pipelines.items()
    }


def described(node: Node) -> Node:
    """Let kedro-viz show the first paragraph of the docstring of a node's function."""
    paragraph = (inspect.getdoc(node.func) or "").partition("\n\n")[0].replace("\n", " ")
    return node._copy(preview_fn=lambda: TextPreview(paragraph))
