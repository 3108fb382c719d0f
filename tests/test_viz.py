"""What kedro-viz makes of the project."""

from kedro_viz.data_access.managers import DataAccessManager
from kedro_viz.integrations.kedro.data_loader import load_data
from kedro_viz.server import populate_data

from support.project import PROJECT


def test_the_layers_have_an_order() -> None:
    """A layer that feeds one before it makes kedro-viz draw no layer at all, without a word."""
    viz = DataAccessManager()
    populate_data(viz, *load_data(PROJECT))
    for name in ("calibration", "adaptation"):
        assert viz.get_sorted_layers_for_registered_pipeline(name)[-2:] == ["models", "deployment"]
    assert viz.get_sorted_layers_for_registered_pipeline("__default__") == [
        "raw",
        "intermediate",
        "primary",
        "feature",
        "model input",
        "model output",
        "evaluation",
        "models",
        "deployment",
        "reporting",
    ]
