"""Tests of sealed folders: what is damaged, swapped, forged or unsafe is refused by the name of the file."""

import io
import json
import pickle
import random
import re

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save

from limpq_hub.errors import (
    ArtifactError,
    ArtifactFormatError,
    ArtifactIntegrityError,
    ArtifactVersionError,
    UnsafeFileError,
    quoted,
)
from limpq_hub.zoo import folder as folder_module
from limpq_hub.zoo.catalog import BUNDLED
from limpq_hub.zoo.entry_folder import seal_entry
from limpq_hub.zoo.folder import open_local_folder, seal_folder
from limpq_hub.zoo.loading import load
from limpq_hub.zoo.network import NetworkSpec

CHECKPOINT_FILES = ["config.json", "metrics.json", "model.safetensors", "policy.json"]
ENTRY_FILES = [
    "config.json",
    "indicators.json",
    "classes.json",
    "metrics.json",
    "supernet.safetensors",
    *(f"policies/small/{file}" for file in CHECKPOINT_FILES),
]
FOLDERS = [("entry", file) for file in ENTRY_FILES] + [("checkpoint", file) for file in CHECKPOINT_FILES]


def read_all(path, kind: str) -> dict[str, bytes]:
    """Every file of a sealed folder, and of the checkpoints in it, read as `load` reads them."""
    folder = open_local_folder(path, kind)
    content = {file: folder.read(file) for file in folder.files}
    for name in {file.split("/")[1] for file in folder.files if file.startswith("policies/")}:
        inner = folder.inner(f"policies/{name}", "checkpoint")
        content |= {f"policies/{name}/{file}": inner.read(file) for file in inner.files}
    return content


@pytest.fixture
def folder_of(entry_copy):
    """A function from "entry" or "checkpoint" to the path of a copy that may be damaged."""
    return {"entry": entry_copy, "checkpoint": entry_copy / "policies" / "small"}.__getitem__


def test_a_sealed_folder_gives_back_every_byte(tmp_path):
    (tmp_path / "inside" / "deeper").mkdir(parents=True)
    for name in ("one.json", "inside/two.bin", "inside/deeper/three.txt"):
        (tmp_path / name).write_bytes(name.encode() * 3)
    seal_folder(tmp_path, "entry", {"answer": 42}, ["*.*", "*/*.*", "*/*/*.*"])
    folder = open_local_folder(tmp_path, "entry")
    assert set(folder.files) == {"one.json", "inside/two.bin", "inside/deeper/three.txt"}
    assert all(folder.read(name) == name.encode() * 3 for name in folder.files)
    assert folder.config["answer"] == 42


def test_sealing_twice_writes_the_same_bytes_and_leaves_out_the_files_of_a_run(tmp_path):
    (tmp_path / "data.bin").write_bytes(b"data")
    seal_folder(tmp_path, "entry", {}, ["*.bin"])
    first = (tmp_path / "config.json").read_bytes()
    for name in ("options.json", "state.safetensors", ".data.bin.partial"):
        (tmp_path / name).write_bytes(b"of the run")
    seal_folder(tmp_path, "entry", {}, ["*.bin"])
    assert (tmp_path / "config.json").read_bytes() == first


@pytest.mark.parametrize("name", ["w4 a4", "4,4", ".w4a4", "w4..a4", "w4a4~", "\u0664"])
def test_a_policy_that_would_not_be_read_for_its_name_is_not_sealed(tiny, entry_copy, name):
    before = (entry_copy / "config.json").read_bytes()
    (entry_copy / "policies" / "large").rename(entry_copy / "policies" / name)
    told = (
        rf"^{re.escape(str(entry_copy))} cannot be sealed with {re.escape(quoted(f'policies/{name}'))} in it: rename "
        "that with letters, digits, underscores, single dots and dashes, a letter or digit first, or take it away$"
    )
    for unfinished in (False, True):
        with pytest.raises(ArtifactFormatError, match=told):
            seal_entry(entry_copy, NetworkSpec.of(tiny.supernet), unfinished=unfinished)
        assert (entry_copy / "config.json").read_bytes() == before


def test_a_stray_file_beside_the_anchors_is_no_part_of_an_entry(tiny, entry_copy):
    for name in ("anchors.json~", "anchors.old.json", "#anchors.json#", "policies/small/metrics.json~"):
        (entry_copy / name).write_text("{}")
    seal_entry(entry_copy, NetworkSpec.of(tiny.supernet))
    folder = open_local_folder(entry_copy, "entry")
    assert sorted(folder.files) == sorted(open_local_folder(tiny.folder, "entry").files)


def test_a_text_that_would_not_be_read_for_its_length_is_not_sealed(tmp_path, monkeypatch):
    (tmp_path / "metrics.json").write_text("[" + 9 * "1, " + "1]")
    monkeypatch.setattr(folder_module, "TEXT_BYTES", 28)
    message = r"metrics\.json has 30 bytes, and of such a file at most 28 are read: shorten it, or take it away$"
    with pytest.raises(ArtifactFormatError, match=message):
        seal_folder(tmp_path, "checkpoint", {}, ["*.json"])
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]
    monkeypatch.setattr(folder_module, "TEXT_BYTES", 30)
    seal_folder(tmp_path, "checkpoint", {}, ["*.json"])
    assert open_local_folder(tmp_path, "checkpoint").read_json("metrics.json") == [1] * 10


def test_the_tiny_entry_is_whole(tiny):
    content = read_all(tiny.folder, "entry")
    files = {path.relative_to(tiny.folder).as_posix() for path in tiny.folder.rglob("*") if path.is_file()}
    assert set(content) == files - {"config.json"}
    assert all(content[name] == (tiny.folder / name).read_bytes() for name in content)


@pytest.mark.parametrize(("kind", "file"), FOLDERS)
def test_a_file_truncated_anywhere_is_refused_by_name(folder_of, kind, file):
    path = folder_of(kind) / file
    data = path.read_bytes()
    for length in [*(len(data) * tenth // 10 for tenth in range(10)), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ArtifactError, match=re.escape(file)):
            read_all(folder_of(kind), kind)
    path.write_bytes(data)
    read_all(folder_of(kind), kind)


@pytest.mark.parametrize(("kind", "file"), FOLDERS)
def test_a_file_with_one_flipped_bit_is_refused_by_name(folder_of, kind, file):
    path, rng = folder_of(kind) / file, random.Random(f"{kind} {file}")
    data = path.read_bytes()
    for _ in range(200):
        position, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
        path.write_bytes(data[:position] + bytes([data[position] ^ bit]) + data[position + 1 :])
        with pytest.raises(ArtifactError, match=re.escape(file)):
            read_all(folder_of(kind), kind)


@pytest.mark.parametrize(("kind", "file"), FOLDERS)
def test_a_file_with_bytes_added_is_refused_by_name(folder_of, kind, file):
    path = folder_of(kind) / file
    data = path.read_bytes()
    for longer in (data + b"\n", data + b"\0", b" " + data, data * 2):
        path.write_bytes(longer)
        with pytest.raises(ArtifactError, match=re.escape(file)):
            read_all(folder_of(kind), kind)


@pytest.mark.parametrize(("kind", "file"), FOLDERS)
def test_a_missing_file_is_named(folder_of, kind, file):
    (folder_of(kind) / file).unlink()
    with pytest.raises(ArtifactIntegrityError, match=rf"{re.escape(file)} is missing; fetch the artifact again"):
        read_all(folder_of(kind), kind)


@pytest.mark.parametrize("file", ["supernet.safetensors", "policies/small/policy.json"])
def test_a_folder_in_the_place_of_a_file_is_refused_by_name(entry_copy, file):
    (entry_copy / file).unlink()
    (entry_copy / file).mkdir()
    with pytest.raises(ArtifactError, match=re.escape(file)):
        read_all(entry_copy, "entry")


@pytest.mark.parametrize("file", CHECKPOINT_FILES)
def test_files_swapped_between_two_checkpoints_are_refused_by_name(entry_copy, file):
    first, second = (entry_copy / "policies" / name / file for name in ("small", "large"))
    one, other = first.read_bytes(), second.read_bytes()
    assert one != other
    first.write_bytes(other)
    second.write_bytes(one)
    with pytest.raises(ArtifactIntegrityError, match=rf"policies/(small|large)/{file} is damaged: its \d+ bytes are"):
        read_all(entry_copy, "entry")
    if file != "config.json":
        with pytest.raises(ArtifactIntegrityError, match=f"small/{file} is damaged"):
            read_all(entry_copy / "policies" / "small", "checkpoint")


def test_two_checkpoints_swapped_as_a_whole_are_refused(entry_copy):
    policies = entry_copy / "policies"
    (policies / "small").rename(policies / "other")
    (policies / "large").rename(policies / "small")
    (policies / "other").rename(policies / "large")
    with pytest.raises(ArtifactIntegrityError, match=r"policies/(small|large)/config\.json is damaged"):
        read_all(entry_copy, "entry")


@pytest.mark.parametrize("file", [file for file in ENTRY_FILES if "metrics" not in file])
def test_load_serves_nothing_from_a_damaged_entry(tiny, entry_copy, file):
    data = bytearray((entry_copy / file).read_bytes())
    data[len(data) // 2] ^= 1
    (entry_copy / file).write_bytes(data)
    weights = "joint" if file == "supernet.safetensors" else "finetuned"
    with pytest.raises(ArtifactError, match=re.escape(file)):
        load(f"local-dir:{entry_copy}", policy=tiny.policies["small"], weights=weights)


def test_a_file_that_is_not_listed_is_refused(tiny):
    folder = open_local_folder(tiny.folder, "entry")
    with pytest.raises(ArtifactIntegrityError, match=r"config\.json does not list 'other\.json'; fetch the artifact"):
        folder.read("other.json")


@pytest.mark.parametrize(
    "unsafe",
    [
        *("../x", "/etc/passwd", "a//b", "..", ".", "a/../b", "a/./b", "./a", "a/", ".hidden", "a\\b", "C:x", "a\nb"),
        *("", "a/b/c/d/e", "é.json", "~/x", "-rf", "a b"),
    ],
)
def test_an_unsafe_path_is_refused_before_any_file_is_read(tiny, entry_copy, seal, unsafe):
    config = json.loads((entry_copy / "config.json").read_text())
    config["files"][unsafe] = config["files"]["classes.json"]
    seal(entry_copy, config)
    (entry_copy / "classes.json").unlink()
    with pytest.raises(UnsafeFileError, match=r"config\.json: '.*' is not a plain file name inside the folder"):
        open_local_folder(entry_copy, "entry")


@pytest.mark.parametrize("format_number", [0, 7, "1", 1.0, True, None, [1]])
@pytest.mark.parametrize("kind", ["entry", "checkpoint"])
def test_another_format_number_is_refused(folder_of, seal, kind, format_number):
    config = json.loads((folder_of(kind) / "config.json").read_text())
    seal(folder_of(kind), config | {"format": format_number})
    number = re.escape(repr(format_number))
    message = rf"config\.json: format {number} is not one of the formats 1 to 6 that this version reads"
    with pytest.raises(ArtifactFormatError, match=message) as caught:
        open_local_folder(folder_of(kind), kind)
    is_number = type(format_number) is int
    assert (caught.type is ArtifactVersionError) == is_number
    advice = "upgrade limpq-hub, or fetch the artifact again" if is_number else "is it an artifact of limpq-hub?"
    assert str(caught.value).endswith(f"reads; {advice}")


@pytest.mark.parametrize("content", ["[]", "3", "null", '"text"'])
def test_a_config_that_is_no_object_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ArtifactFormatError, match=r"config\.json: format .* is not one of the formats 1 to 6"):
        open_local_folder(tmp_path, "entry")


def test_a_file_of_a_folder_is_told_with_its_folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactFormatError) as caught:
        open_local_folder(tmp_path / "model.safetensors", "checkpoint")
    assert str(caught.value) == (
        f"'{tmp_path}/model.safetensors' is a file, where a folder of kind 'checkpoint' belongs; give its folder, "
        f"'{tmp_path}'"
    )


@pytest.mark.parametrize(("kind", "other"), [("entry", "checkpoint"), ("checkpoint", "entry")])
def test_a_folder_of_the_other_kind_is_refused(folder_of, kind, other):
    with pytest.raises(
        ArtifactFormatError,
        match=rf"config\.json: this is the folder of a '{kind}', where one of kind '{other}' belongs",
    ):
        open_local_folder(folder_of(kind), other)


def test_a_config_edited_by_hand_is_refused(entry_copy):
    text = (entry_copy / "config.json").read_text()
    for edited in (
        text.replace('"num_classes": 10', '"num_classes": 11'),
        text.replace('"num_classes": 10', '"num_classes":  10'),
        text.replace('"num_classes": 10', '"num_classes": 1.0e1'),
        re.sub(r'"config_sha256": ".*"', '"config_sha256": null', text),
    ):
        assert edited != text
        (entry_copy / "config.json").write_text(edited)
        with pytest.raises(ArtifactIntegrityError, match=r"config\.json was changed after it was written"):
            open_local_folder(entry_copy, "entry")


def test_a_config_with_a_key_twice_is_refused(entry_copy):
    text = (entry_copy / "config.json").read_text()
    (entry_copy / "config.json").write_text(text.replace('"kind": "entry"', '"kind": "checkpoint",\n "kind": "entry"'))
    message = r"config\.json: the key 'kind' stands twice; keep one; fetch the artifact again$"
    with pytest.raises(ArtifactIntegrityError, match=message):
        open_local_folder(entry_copy, "entry")


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(None, id="no files"),
        pytest.param([], id="a list"),
        pytest.param({"classes.json": 3}, id="a number for a file"),
        pytest.param({"classes.json": {"sha256": "0" * 64}}, id="no bytes"),
        pytest.param({"classes.json": {"sha256": 3, "bytes": 3}}, id="sha256 a number"),
    ],
)
def test_a_sealed_config_with_malformed_files_is_refused(entry_copy, seal, files):
    config = json.loads((entry_copy / "config.json").read_text())
    del config["files"]
    seal(entry_copy, config if files is None else config | {"files": files})
    with pytest.raises(ArtifactError, match=r"config\.json|classes\.json"):
        open_local_folder(entry_copy, "entry").read("classes.json")


def disguises(malicious):
    """Bytes that execute code when they are unpickled, in every wrapping that PyTorch and pickle write."""
    for protocol in range(2, 6):
        yield f"pickle {protocol}", pickle.dumps(malicious, protocol)
        yield f"pickle {protocol} in a dictionary", pickle.dumps({"fc.weight": malicious}, protocol)
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save({"fc.weight": malicious}, buffer, _use_new_zipfile_serialization=zipped)
        yield f"torch.save, zipped {zipped}", buffer.getvalue()


@pytest.mark.parametrize(
    ("place", "file"),
    [("policies/small", "model.safetensors"), ("policies/small", "policy.json"), (".", "supernet.safetensors")],
)
def test_a_pickle_in_disguise_is_refused_and_not_executed(tiny, entry_copy, reseal, malicious, tmp_path, place, file):
    for what, data in disguises(malicious):
        (entry_copy / place / file).write_bytes(data)
        reseal(entry_copy / place)
        weights = "joint" if file.startswith("supernet") else "finetuned"
        with pytest.raises(UnsafeFileError, match=f"{file} is a pickle, which can execute code: it is not read"):
            load(f"local-dir:{entry_copy}", policy=tiny.policies["small"], weights=weights)
        assert not (tmp_path / "executed.txt").exists(), what
    pickle.loads(pickle.dumps(malicious))
    assert (tmp_path / "executed.txt").exists(), "the payload is harmless, so this test shows nothing"


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_pickle_of_the_text_age_is_refused_and_not_executed(tiny, entry_copy, reseal, malicious, tmp_path, protocol):
    (entry_copy / "policies/small/model.safetensors").write_bytes(pickle.dumps(malicious, protocol))
    reseal(entry_copy / "policies/small")
    with pytest.raises(ArtifactError, match=r"policies/small/model\.safetensors is not a safetensors file"):
        load(f"local-dir:{entry_copy}", policy=tiny.policies["small"], weights="finetuned")
    assert not (tmp_path / "executed.txt").exists()


@pytest.mark.parametrize("header", [640, 896, 1152, 1408, 65536 + 640])
def test_a_safetensors_file_whose_header_length_looks_like_a_pickle_is_read(tmp_path, header):
    # The first 8 bytes are the length of the header, in multiples of 8: 640 is b"\x80\x02", as a pickle begins.
    short = int.from_bytes(save({"x": torch.ones(2)}, {"pad": ""})[:8], "little")
    data = save({"x": torch.ones(2)}, {"pad": "p" * (header - short)})
    assert int.from_bytes(data[:8], "little") == header
    assert load_tensors(data)["x"].tolist() == [1, 1]
    (tmp_path / "model.safetensors").write_bytes(data)
    seal_folder(tmp_path, "checkpoint", {}, ["*.safetensors"])
    assert open_local_folder(tmp_path, "checkpoint").read("model.safetensors") == data


def test_a_folder_is_verified_at_every_read(entry_copy):
    folder = open_local_folder(entry_copy, "entry")
    folder.read("classes.json")
    (entry_copy / "classes.json").write_text("[]")
    with pytest.raises(ArtifactIntegrityError, match=r"classes\.json is damaged: its 2 bytes are not the \d+ with sha"):
        folder.read_json("classes.json")


@pytest.mark.parametrize("change", ["not listed", "of another size"])
def test_a_file_of_a_policy_that_the_entry_does_not_list_just_so_is_refused(entry_copy, reseal, seal, change):
    """Or the size that an entry lists would say nothing of what is fetched."""
    config = json.loads((entry_copy / "policies/small/config.json").read_text())
    listed = config["files"]["model.safetensors"]
    added = {"more.json": listed} if change == "not listed" else {"model.safetensors": listed | {"bytes": 2**30}}
    seal(entry_copy / "policies/small", config | {"files": config["files"] | added})
    reseal(entry_copy)
    file = re.escape(f"policies/small/{next(iter(added))}")
    told = rf"config\.json does not list '{file}' as .*/policies/small/config\.json does; fetch the artifact again$"
    with pytest.raises(ArtifactIntegrityError, match=told):
        open_local_folder(entry_copy, "entry").inner("policies/small", "checkpoint")


@pytest.mark.parametrize("entry", sorted(BUNDLED.glob("*/config.json")), ids=lambda path: path.parent.name)
def test_what_ships_lists_every_file_of_its_policies(entry):
    folder = open_local_folder(entry.parent, "entry")
    names = {file.split("/")[1] for file in folder.files if file.startswith("policies/")}
    assert names
    for name in names:
        folder.inner(f"policies/{name}", "checkpoint")
