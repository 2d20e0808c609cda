"""Tests of folders on their way: what takes the place of another does so whole, and a copy is what was verified."""

import errno
from pathlib import Path

import pytest

from limpq_hub.errors import ArtifactIntegrityError
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.folder_copy import copy_verified, replaced_folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), KeyboardInterrupt()], ids=repr)
def test_where_the_new_folder_cannot_be_put_in_place_the_old_one_is_still_there(tiny, entry_copy, monkeypatch, error):
    rename = Path.rename

    def rename_but_the_new(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_but_the_new)
    with pytest.raises(type(error)), replaced_folder(entry_copy) as building:
        copy_verified(open_local_folder(tiny.folder, "entry"), building)
    assert content(entry_copy) == content(tiny.folder)
    assert [path.name for path in entry_copy.parent.iterdir()] == [entry_copy.name]


def test_a_folder_takes_the_place_of_an_entry_and_leaves_nothing_else(tiny, entry_copy):
    with replaced_folder(entry_copy) as building:
        (building / "one.json").write_bytes(b"1")
    assert content(entry_copy) == {"one.json": b"1"}
    assert [path.name for path in entry_copy.parent.iterdir()] == [entry_copy.name]


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"format": 1, "kind": "entry", "files": {}}'])
def test_a_copy_holds_the_config_that_was_verified_whatever_became_of_the_file(tiny, entry_copy, tmp_path, damage):
    for source, kind in ((entry_copy, "entry"), (entry_copy / "policies/small", "checkpoint")):
        folder = open_local_folder(source, kind)
        before = content(source)
        (source / "config.json").write_bytes(damage)
        copy_verified(folder, tmp_path / "copy" / kind)
        (source / "config.json").write_bytes(before["config.json"])
        assert content(tmp_path / "copy" / kind) == before
        assert open_local_folder(tmp_path / "copy" / kind, kind).config == folder.config


def test_a_file_that_is_damaged_is_not_copied(entry_copy, tmp_path):
    folder = open_local_folder(entry_copy, "entry")
    (entry_copy / "classes.json").write_bytes(b"[]")
    with pytest.raises(ArtifactIntegrityError, match=r"classes\.json is damaged"):
        copy_verified(folder, tmp_path / "copy")
    assert not (tmp_path / "copy" / "config.json").exists()
