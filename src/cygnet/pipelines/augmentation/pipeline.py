"""Wiring of augmentation."""

from kedro.pipeline import Pipeline, node

from cygnet.pipelines.augmentation.nodes import make_training_set, record_training_scene


def create_pipeline() -> Pipeline:
    """Vary and balance the rows of `train`; take those of `validation` and `test` as they are."""
    return Pipeline(
        [
            node(
                record_training_scene,
                ["scene", "params:augmentation", "params:scene.camera"],
                "training_scene",
                name="record_training_scene",
            ),
            node(
                make_training_set,
                ["images", "anomalies", "training_scene", "params:augmentation"],
                "training_set",
                name="make_training_set",
                tags="spark",
            ),
        ],
        tags="augmentation",
    )
