"""The pipelines by name; `kedro run` runs those that the data goes through, in their order."""

from kedro.pipeline import Pipeline

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
    pipelines = {
        "ingestion": ingestion.create_pipeline(),
        "synthesis": synthesis.create_pipeline(),
        "augmentation": augmentation.create_pipeline(),
        "training": training.create_pipeline(),
        "serving": serving.create_pipeline(),
    }
    default = sum(pipelines.values(), start=Pipeline([]))
    apart = {
        "adaptation": adaptation.create_pipeline(),
        "calibration": calibration.create_pipeline(),
        "labelling": labelling.create_pipeline(),
        "pretraining": pretraining.create_pipeline(),
        "rollback": rollback.create_pipeline(),
        "scoring": scoring.create_pipeline(),
        "watch": watch.create_pipeline(),
    }
    return {**pipelines, **apart, "__default__": default}
