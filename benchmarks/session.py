"""The Spark session and the parameters of a run on this machine, read from `conf/base` as Kedro reads them."""

import warnings
from functools import cache
from typing import Any

import pandas as pd
from kedro.config import OmegaConfigLoader
from pyspark.sql import DataFrame, SparkSession

from benchmarks.inputs import ROOT
from cygnet.scene import TrainingScene
from cygnet.spark import start_session
from cygnet.tables import SOURCES


@cache
def configuration() -> OmegaConfigLoader:
    """Open `conf/base`, and nothing that a user put into `conf/local`."""
    with warnings.catch_warnings(action="ignore"):  # not above: Spark's workers need no mlflow, which takes seconds
        from cygnet.settings import CONFIG_LOADER_ARGS

    arguments: dict[str, Any] = CONFIG_LOADER_ARGS
    return OmegaConfigLoader(str(ROOT / "conf"), env="base", **arguments)


def parameters_of(pipeline: str) -> dict[str, Any]:
    """Give the default parameters of one pipeline."""
    return configuration()["parameters"][pipeline]


def training_scene() -> TrainingScene:
    """Record the scene that the default parameters make, of one image per frame."""
    from cygnet.parameters.augmentation import Augmentation
    from cygnet.parameters.ingestion import Ingestion
    from cygnet.parameters.scene import SceneParameters
    from cygnet.pipelines.augmentation.nodes import record_training_scene
    from cygnet.pipelines.ingestion.nodes import record_scene

    scene = record_scene(
        Ingestion.model_validate(parameters_of("ingestion")),
        SceneParameters.model_validate({**parameters_of("scene"), "view": "square"}),
        pd.DataFrame(columns=SOURCES.names),
    )
    return record_training_scene(scene, Augmentation.model_validate(parameters_of("augmentation")), "fixed")


@cache
def spark() -> SparkSession:
    """Start the one session that both sides of all benchmarks run in."""
    return start_session(configuration()["spark"])


def partitions() -> int:
    """Give the number of tasks that images are dealt out to."""
    return int(configuration()["spark"]["spark.sql.shuffle.partitions"])


def write(rows: DataFrame, folder: str) -> None:
    """Write Parquet: what makes Spark do the work."""
    rows.write.mode("overwrite").parquet(folder)
