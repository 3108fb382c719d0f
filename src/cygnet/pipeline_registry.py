"""The pipelines by name; `kedro run` runs all of them but pretraining and scoring, in the order of the data."""

from kedro.pipeline import Pipeline

from cygnet.pipelines import augmentation, ingestion, pretraining, scoring, serving, synthesis, training


def register_pipelines() -> dict[str, Pipeline]:
    """Name every pipeline. Their order follows from the catalog: each reads what the one before wrote."""
    pipelines = {
        "ingestion": ingestion.create_pipeline(),
        "synthesis": synthesis.create_pipeline(),
        "augmentation": augmentation.create_pipeline(),
        "training": training.create_pipeline(),
        "serving": serving.create_pipeline(),
    }
    default = sum(pipelines.values(), start=Pipeline([]))
    return {
        **pipelines,
        "pretraining": pretraining.create_pipeline(),
        "scoring": scoring.create_pipeline(),
        "__default__": default,
    }
