"""What lineage promises: the run says what the model was trained on."""

import json

import mlflow
import pandas as pd
import pytest

from cygnet.datasets.lineage import LineageDataset

ROWS = pd.DataFrame({"image_id": ["a", "b"], "label": [0, 1]})


@pytest.mark.usefixtures("tracking")
def test_run_names_table_place_and_digest_of_what_it_read() -> None:
    dataset = LineageDataset(name="training_set", source="/somewhere/training_set", context="training")
    dataset.save(ROWS)
    dataset.save(ROWS)
    dataset.save(ROWS.assign(label=[1, 1]))
    run = mlflow.get_run(mlflow.active_run().info.run_id)
    inputs = [logged.dataset for logged in run.inputs.dataset_inputs]
    assert [logged.name for logged in inputs] == ["training_set"] * 2
    assert len({logged.digest for logged in inputs}) == 2
    assert json.loads(inputs[0].source)["uri"] == "/somewhere/training_set"
    assert [tag.value for tag in run.inputs.dataset_inputs[0].tags] == ["training"]
