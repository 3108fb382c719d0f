"""What a written file promises on a disk and on a volume: whole, or what was there before. ADLS is in test_adls.py."""

from pathlib import Path

import pytest

import cygnet.storage
from cygnet.storage import folder_on_disk, list_files, on_disk, put_folder, remove, replacing, state_of


@pytest.fixture(params=["disk", "volume"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder that is not there yet."""
    if request.param == "volume":
        monkeypatch.setattr(cygnet.storage, "VOLUMES", str(tmp_path))
    return tmp_path / "new" / "folder"


def test_a_file_is_replaced_when_the_block_ends_and_not_when_it_breaks_off(folder: Path) -> None:
    path = str(folder / "a.txt")
    with replacing(path) as file:
        file.write_text("first")
        assert file.name == "a.txt"
        assert not Path(path).exists()

    def break_off() -> None:
        with replacing(path) as file:
            file.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    with on_disk(path) as name:
        assert (name, Path(name).read_text()) == (path, "first")
    with replacing(path) as file:
        file.write_text("second")
    assert Path(path).read_text() == "second"
    assert [each.name for each in folder.iterdir()] == ["a.txt"]


def test_on_a_volume_a_file_is_made_elsewhere_and_only_copied_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cygnet.storage, "VOLUMES", str(tmp_path))
    with replacing(str(tmp_path / "a.mp4")) as file:
        assert tmp_path not in file.parents
        file.touch()
    assert (tmp_path / "a.mp4").exists()


def test_files_are_listed_with_their_sizes_and_tell_when_they_change(folder: Path) -> None:
    assert list_files(str(folder)) == {}
    assert state_of(str(folder / "a")) == (0, "")
    for content in ("one", "four"):
        with replacing(str(folder / "a")) as file:
            file.write_text(content)
    (folder / "below").mkdir()
    assert list_files(str(folder)) == {"a": 4}
    size, changed = state_of(str(folder / "a"))
    assert (size, changed) == (4, str((folder / "a").stat().st_mtime_ns))
    remove(str(folder))
    remove(str(folder))
    assert not folder.exists()


def test_a_folder_is_copied_with_a_marker_at_the_end(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    (source / "below" / "a").write_text("a")
    put_folder(source, str(folder))
    with folder_on_disk(str(folder)) as there:
        assert (there / "below" / "a").read_text() == "a"
    assert list_files(str(folder)) == {"_SUCCESS": 0}
