"""Tests of folders on their way: what takes the place of another does so whole, and a copy is what was verified."""

import errno
from pathlib import Path

import pytest

from limpq_hub.errors import ArtifactFormatError, ArtifactIntegrityError, OutputError
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.folder_copy import copy_verified, replaced_folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fill(target: Path, *files: str) -> None:
    with replaced_folder(target) as building:
        for file in files:
            (building / file).parent.mkdir(parents=".." not in file, exist_ok=True)
            (building / file).write_bytes(b"{}")


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


def test_an_empty_folder_is_filled_and_stays_the_same_folder(tiny, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with replaced_folder(Path(".")) as building:
        copy_verified(open_local_folder(tiny.folder, "entry"), building)
    assert content(Path(".")) == content(tiny.folder)
    assert Path(".").samefile(tmp_path / "empty")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_an_empty_folder_that_is_a_disk_is_filled(tiny, tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    rename = Path.rename

    def rename_on_one_disk(path: Path, target: Path) -> Path:
        if path == tmp_path / "disk" or path.is_relative_to(tmp_path / "disk") != target.is_relative_to(
            tmp_path / "disk"
        ):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_on_one_disk)
    with replaced_folder(tmp_path / "disk") as building:
        copy_verified(open_local_folder(tiny.folder, "entry"), building)
    assert content(tmp_path / "disk") == content(tiny.folder)


@pytest.mark.parametrize("seal", ["config.json", "verify.json"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_seal_comes_last_and_where_it_does_not_come_the_folder_is_empty_again(tmp_path, monkeypatch, seal, error):
    rename = Path.rename

    def rename_but_the_seal(path: Path, target: Path) -> Path:
        if path.name == seal:
            assert (tmp_path / "policies/small/config.json").exists()
            assert (tmp_path / "z.json").exists()
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_but_the_seal)
    with pytest.raises(type(error)):
        fill(tmp_path, "policies/small/config.json", "a.json", "z.json", "config.json", seal)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_before_the_end_leaves_an_empty_folder_empty(tmp_path):
    with pytest.raises(FileNotFoundError):
        fill(tmp_path, "one.json", "no such folder/../two.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"cat.jpg": b"cat", "dog.jpg": b"dog"}, "holds 'cat.jpg': it is no entry, and would be lost"),
        ({"figures/bits.png": b""}, "holds 'figures': it is no entry, and would be lost"),
        ({"config.json": b"{}"}, "holds 'config.json': it is no entry, or one that was changed, and would be lost"),
        (
            {"config.json": b'{"architecture": "resnet18"}', "a.txt": b""},
            "holds 'a.txt': it is no entry, or one that was changed, and would be lost",
        ),
    ],
    ids=["pictures", "a folder", "JSON", "timm's"],
)
def test_a_folder_that_is_no_entry_is_told_by_what_it_holds_and_stays(tmp_path, files, told):
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ArtifactFormatError, match=f"^{tmp_path} {told}; choose another folder$"):
        fill(tmp_path, "one.json")
    assert content(tmp_path) == files


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"kept")
    told = f"^{tmp_path}/file is a file, and a folder is to be written; name another one$"
    with pytest.raises(OutputError, match=told):
        fill(tmp_path / "file", "one.json")
    assert content(tmp_path) == {"file": b"kept"}


@pytest.mark.parametrize("current", [".", "policies"])
def test_the_current_folder_is_not_replaced_under_the_shell_that_is_in_it(tiny, entry_copy, monkeypatch, current):
    monkeypatch.chdir(entry_copy / current)
    message = f"^{entry_copy} is the current folder or holds it, and is not empty: go to another one, or choose another"
    with pytest.raises(OutputError, match=message), replaced_folder(entry_copy):
        pass
    assert content(entry_copy) == content(tiny.folder)


def test_a_disk_with_an_entry_on_it_is_not_replaced(tiny, entry_copy, monkeypatch):
    monkeypatch.setattr(Path, "is_mount", lambda path: path == entry_copy)
    message = f"^{entry_copy} is a mounted disk, and not empty: choose a folder on it$"
    with pytest.raises(OutputError, match=message), replaced_folder(entry_copy):
        pass
    assert content(entry_copy) == content(tiny.folder)


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


@pytest.mark.parametrize(
    ("was_there", "error", "told"),
    [
        (False, ArtifactFormatError, "holds 'theirs.txt': it is no entry, and would be lost; choose another folder$"),
        (True, OutputError, "was empty, and holds files of others by now: choose another folder$"),
    ],
)
def test_what_others_wrote_meanwhile_is_not_deleted(tmp_path, was_there, error, told):
    target = tmp_path / "target"
    if was_there:
        target.mkdir()

    def write() -> None:
        with replaced_folder(target) as building:
            (building / "theirs.txt").write_text("ours")
            target.mkdir(exist_ok=True)
            (target / "theirs.txt").write_text("theirs")

    with pytest.raises(error, match=told):
        write()
    assert content(tmp_path) == {"target/theirs.txt": b"theirs"}


def test_an_entry_that_got_a_file_meanwhile_stays_with_it(tiny, entry_copy):
    told = "holds 'notes.txt' as well, which is no part of the entry and would be lost"
    with pytest.raises(ArtifactFormatError, match=told), replaced_folder(entry_copy):
        (entry_copy / "notes.txt").write_text("theirs")
    assert content(entry_copy) == content(tiny.folder) | {"notes.txt": b"theirs"}
