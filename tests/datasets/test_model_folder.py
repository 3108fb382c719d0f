"""What a model's folder promises: whole or not there, and nothing of what was there before."""

from pathlib import Path

import pytest

from cygnet.datasets.model_folder import ModelFolderDataset
from cygnet.datasets.training_state import TrainingStateDataset


class Model:
    """Writes a file of a name, or breaks off after it."""

    def __init__(self, name: str, *, breaks: bool = False) -> None:
        self.name, self.breaks = name, breaks

    def save(self, folder: Path) -> None:
        """Write."""
        (folder / self.name).write_text("weights")
        if self.breaks:
            raise KeyboardInterrupt


@pytest.fixture
def dataset(tmp_path: Path) -> ModelFolderDataset:
    """Give a dataset whose folder's parent is not there yet."""
    return ModelFolderDataset(filepath=str(tmp_path / "06_models" / "vit"))


def names(dataset: ModelFolderDataset) -> list[str]:
    return sorted(path.name for path in dataset.load().iterdir())


def test_a_model_is_saved_in_place_of_the_one_before(dataset: ModelFolderDataset) -> None:
    assert not dataset.exists()
    dataset.save(Model("old"))
    dataset.save(Model("new"))
    assert dataset.exists()
    assert names(dataset) == ["new"]
    assert [path.name for path in dataset.load().parent.iterdir()] == ["vit"]


def test_a_write_that_breaks_off_leaves_what_was_there(dataset: ModelFolderDataset) -> None:
    with pytest.raises(KeyboardInterrupt):
        dataset.save(Model("first", breaks=True))
    assert not dataset.exists()
    dataset.save(Model("old"))
    with pytest.raises(KeyboardInterrupt):
        dataset.save(Model("new", breaks=True))
    assert names(dataset) == ["old"]
    dataset.save(Model("newer"))
    assert names(dataset) == ["newer"]


def test_the_place_of_a_state_is_loaded_and_never_saved(tmp_path: Path) -> None:
    dataset = TrainingStateDataset(filepath=str(tmp_path / "state"))
    dataset.load().save("key", {"step": 1})
    assert dataset.load().load("key") == {"step": 1}
    assert (tmp_path / "state").is_dir()
    with pytest.raises(Exception, match="is read-only"):
        dataset.save("anything")
