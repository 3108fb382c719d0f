"""Fixtures for the nodes: a Spark session like that of a run, on two cores."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

import cygnet
from cygnet.spark import start_session

LOG4J = Path(cygnet.__file__).parent / "log4j2.properties"


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    """Give the session that all tests of a module share."""
    session = start_session(
        {
            "spark.master": "local[2]",
            "spark.ui.enabled": "false",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.sql.shuffle.partitions": "2",
            "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={LOG4J}",
        }
    )
    yield session
    session.stop()
