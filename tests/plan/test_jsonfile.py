"""JSON files: strict when read, whole or absent when written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from limpq_hub.errors import ArtifactFormatError
from limpq_hub.plan.jsonfile import parse_json, read_json, write_json
from limpq_hub.plan.output_file import write_bytes


@pytest.mark.parametrize("data", ['{"a": [1, 2.5, null, true, "é"]}', '{"a": [1, 2.5, null, true, "é"]}'.encode()])
def test_strict_json_is_read_from_text_and_from_bytes(data):
    assert parse_json(data, "x.json") == {"a": [1, 2.5, None, True, "é"]}


@pytest.mark.parametrize(
    ("data", "because"),
    [
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "x.json: the key 'c' stands twice; keep one"),
        (b'{"a": NaN}', "x.json: NaN is not a number that can be used"),
        (b"[Infinity]", "x.json: Infinity is not a number that can be used"),
        (b"[-Infinity]", "x.json: -Infinity is not a number that can be used"),
        (b"", "x.json is not JSON: .*; is this the right file?"),
        (b"{", "x.json is not JSON"),
        (b"{} {}", "x.json is not JSON"),
        (b"{'a': 1}", "x.json is not JSON"),
        (b"\x80\x04}", "x.json is not JSON"),
        (b"\xff\xfe{", "x.json is not JSON.*; save it as UTF-8, without a byte order mark, if it is the right file"),
        ("\ufeff{}", "x.json is not JSON.*; save it as UTF-8, without a byte order mark, if it is the right file"),
        (b"\xef\xbb\xbf{}", "x.json is not JSON.*; save it as UTF-8, without a byte order mark, if it is the right"),
        pytest.param(b"[" * 100_000, "x.json is not JSON", id="deep"),
        pytest.param(b"[" + b"9" * 5000 + b"]", "x.json is not JSON", id="long number"),
    ],
)
def test_anything_but_strict_json_is_refused_with_the_name_of_the_file(data, because):
    with pytest.raises(ArtifactFormatError, match=because) as caught:
        parse_json(data, "x.json")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_a_number_too_large_for_a_float_is_refused_like_infinity(number):
    with pytest.raises(ArtifactFormatError, match=r"x.json: .* is not a number that can be used"):
        parse_json(f"[{number}]", "x.json")


def test_what_was_written_is_read_back_and_a_folder_is_made_for_it(tmp_path):
    path = tmp_path / "new" / "folder" / "x.json"
    write_json(path, {"layer1.0": [0.1, 1e-300, 2**70]})
    assert read_json(path) == {"layer1.0": [0.1, 1e-300, 2**70]}
    assert path.read_text().endswith("\n")


def test_a_missing_file_is_an_os_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent.json"):
        read_json(tmp_path / "absent.json")


def test_content_that_json_cannot_hold_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, 1)
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert (read_json(path), os.listdir(tmp_path)) == (1, ["x.json"])


@pytest.mark.parametrize("step", ["replace", "fsync", "chmod"])
def test_a_write_that_fails_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch, step):
    path = tmp_path / "x.bin"
    write_bytes(path, b"old")

    def disk_full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, step, disk_full)
    with pytest.raises(OSError, match="no space left on device"):
        write_bytes(path, b"new")
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"old", ["x.bin"])


def test_an_interrupt_leaves_no_temporary_file_either(tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "x.bin", b"new")
    assert os.listdir(tmp_path) == []


def test_the_file_has_its_new_content_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    path, events, fsync, replace = tmp_path / "x.bin", [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (events.append("fsync"), fsync(file)))

    def renamed(source: str, target: Path) -> None:
        events.append(("replace", Path(source).read_bytes(), Path(source).parent == tmp_path))
        replace(source, target)

    monkeypatch.setattr(os, "replace", renamed)
    write_bytes(path, b"new")
    assert events[:2] == ["fsync", ("replace", b"new", True)]
    assert path.read_bytes() == b"new"
