"""Tests of the assembly of entries: what verifies is copied and sealed, a target replaced whole or not at all."""

import json
import re
import shutil

import pytest

from limpq_hub.errors import ArtifactError, ArtifactFormatError, ArtifactIntegrityError, OutputError
from limpq_hub.zoo.assembly import assemble_entry
from limpq_hub.zoo.card import render_card
from limpq_hub.zoo.catalog import BUNDLED, find_entry
from limpq_hub.zoo.checkpoint import load_checkpoint
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.folder_copy import copy_verified, replaced_folder

RECORD = {"policy_sha256": "0f", "bitops": 3, "top1": 1.5, "calibration_images": 0}


def content(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def content_of_json(folder) -> dict[str, str]:
    return {name: data.decode() for name, data in content(folder).items() if name.endswith(".json")}


@pytest.fixture
def joint(tiny):
    return open_local_folder(tiny.folder, "entry")


@pytest.fixture
def bare(entry_copy, reseal):
    """The entry without its policies."""
    shutil.rmtree(entry_copy / "policies")
    reseal(entry_copy)
    return open_local_folder(entry_copy, "entry")


@pytest.fixture
def checkpoints(tiny):
    return {name: open_local_folder(tiny.folder / "policies" / name, "checkpoint") for name in ("small", "large")}


def front_of(entry, **changes):
    return {
        "joint": [RECORD],
        "supernet_sha256": entry.config["files"]["supernet.safetensors"]["sha256"],
        "command": "front.py",
    } | changes


def test_an_assembled_entry_holds_everything_under_the_names_that_were_given(tiny, bare, checkpoints, tmp_path):
    assemble_entry(bare, {"3G": checkpoints["small"], "a-b.c_1": checkpoints["large"]}, tmp_path / "entry")
    entry = find_entry(f"local-dir:{tmp_path}/entry")
    assert sorted(published.name for published in entry.published) == ["3G", "a-b.c_1"]
    made = content(tmp_path / "entry")
    for old, new in (("small", "3G"), ("large", "a-b.c_1")):
        assert {file: made[f"policies/{new}/{file}"] for file in content(tiny.folder / "policies" / old)} == content(
            tiny.folder / "policies" / old
        )
    assert made["supernet.safetensors"] == (tiny.folder / "supernet.safetensors").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != tiny.folder.name) == ["entry"]


def test_what_an_earlier_version_recorded_with_its_folders_is_published_with_names(entry_copy, reseal, tmp_path):
    typed = "training/x.py --data /home/ann/tiny --weights ../ann/f --model local-dir:ann/joint --output /tmp/o"
    named = "training/x.py --data tiny --weights f --model local-dir:joint --output o"
    for file, keys in (("indicators.json", ("provenance",)), ("metrics.json", ("float", "provenance"))):
        path = entry_copy / file
        record = inner = json.loads(path.read_text())
        for key in keys:
            inner = inner.setdefault(key, {})
        inner["command"] = typed
        path.write_text(json.dumps(record))
    reseal(entry_copy / "policies/small", provenance={"command": typed, "seed": 0})
    reseal(entry_copy)
    front = front_of(open_local_folder(entry_copy, "entry"), command=typed, model="local-dir:/home/ann/joint", seed=0)
    assemble_entry(open_local_folder(entry_copy, "entry"), {}, tmp_path / "entry", front)
    made = content_of_json(tmp_path / "entry")
    assert not [name for name, text in made.items() if "ann/" in text or "/tmp" in text]
    entry = find_entry(f"local-dir:{tmp_path}/entry")
    assert entry.indicators.provenance["command"] == named
    assert entry.metrics["float"]["provenance"]["command"] == named
    assert entry.metrics["joint_provenance"] | {"supernet_sha256": ""} == {
        "command": named,
        "model": "local-dir:joint",
        "seed": 0,
        "supernet_sha256": "",
    }
    assert entry.checkpoint("small").config["provenance"] == {"command": named, "seed": 0}
    load_checkpoint(entry.checkpoint("small"))


def test_a_checkpoint_takes_the_place_of_one_of_the_same_name(tiny, entry_copy, reseal, checkpoints, tmp_path):
    shutil.rmtree(entry_copy / "policies" / "large")
    reseal(entry_copy)
    assemble_entry(open_local_folder(entry_copy, "entry"), {"small": checkpoints["large"]}, tmp_path / "entry")
    made = content(tmp_path / "entry" / "policies" / "small")
    assert made == content(tiny.folder / "policies" / "large")


def test_one_policy_given_under_two_names_is_refused_and_beside_one_that_is_there_is_not(
    joint, bare, checkpoints, tmp_path
):
    small = checkpoints["small"]
    says = "'b' and 'a' are fine-tuned for the same policy, and an entry has one network for a policy"
    with pytest.raises(ArtifactFormatError, match=f"^{says}: give one of them, under the name 'b'$"):
        assemble_entry(bare, {"b": small, "a": small}, tmp_path / "entry")
    assert not (tmp_path / "entry").exists()
    assemble_entry(joint, {"small": checkpoints["large"], "large": small}, tmp_path / "entry")
    published = find_entry(f"local-dir:{tmp_path}/entry").published
    assert [(policy.name, policy.top1) for policy in published] == [("large", 61.5), ("small", 72.25)]
    assemble_entry(joint, {"3G": small}, tmp_path / "beside")
    beside = find_entry(f"local-dir:{tmp_path}/beside").published
    assert [policy.name for policy in beside] == ["3G", "small", "large"]  # by BitOps, then by name


def test_assembling_twice_makes_the_same_bytes(bare, checkpoints, tmp_path):
    for _ in range(2):
        assemble_entry(bare, {"3G": checkpoints["small"]}, tmp_path / "entry", front_of(bare))
        made = content(tmp_path / "entry")
        (tmp_path / "kept").mkdir(exist_ok=True)
        assert content(tmp_path / "kept") in ({}, made)
        shutil.copytree(tmp_path / "entry", tmp_path / "kept", dirs_exist_ok=True)


def test_a_front_becomes_the_figures_of_the_entry(joint, tmp_path):
    assemble_entry(joint, {}, tmp_path / "entry", front_of(joint))
    metrics = json.loads((tmp_path / "entry/metrics.json").read_text())
    assert metrics["joint"] == [RECORD]
    assert metrics["joint_provenance"] == {key: value for key, value in front_of(joint).items() if key != "joint"}
    assert metrics["float"] == {"top1": 80.0, "images": 400}


def test_a_front_is_all_that_was_measured_of_an_entry_without_figures(entry_copy, reseal, tmp_path):
    (entry_copy / "metrics.json").unlink()
    reseal(entry_copy)
    joint = open_local_folder(entry_copy, "entry")
    assemble_entry(joint, {}, tmp_path / "entry", front_of(joint))
    assert json.loads((tmp_path / "entry/metrics.json").read_text()).keys() == {"joint", "joint_provenance"}
    entry = find_entry(f"local-dir:{tmp_path}/entry")
    assert (entry.summary()["float_top1"], entry.metrics["joint"]) == (None, [RECORD])
    assert render_card(entry, "you/net").count("front.py") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joint": {}}, "front: joint must be a list, found {}"),
        ({"joint": [3]}, "front: joint must be an object, found 3"),
        ({"joint": [RECORD | {"bitops": 3.5}]}, "front: joint: bitops must be a whole number, found 3.5"),
        ({"supernet_sha256": None}, "front: supernet_sha256 must be text, found None"),
        ({"supernet_sha256": "0" * 64}, "the front was measured on another supernet than that of "),
        ({"anchors_sha256": "0" * 64}, "the front was measured with other BatchNorm statistics than those of "),
        ({"objective": "coupled"}, "the front lies along another search than that of the entry to be published; "),
        ({"apart": 1}, "the front lies along another search than that of the entry to be published; "),
    ],
)
def test_a_front_of_something_else_is_refused_and_nothing_written(joint, tmp_path, changes, message):
    with pytest.raises(ArtifactFormatError, match=f"^{re.escape(message)}"):
        assemble_entry(joint, {}, tmp_path / "entry", front_of(joint, **changes))
    assert list(tmp_path.iterdir()) == []


def test_a_front_of_an_earlier_version_is_along_the_search_of_the_entry_that_it_was_measured_of(joint, tmp_path):
    with pytest.raises(ArtifactFormatError, match="^the front lies along another search"):
        assemble_entry(joint, {}, tmp_path / "entry", front_of(joint), importance="coupled")
    stated = front_of(joint, objective="coupled", apart=None, anchors_sha256=None)
    assemble_entry(joint, {}, tmp_path / "entry", stated, importance="coupled")
    assert find_entry(f"local-dir:{tmp_path}/entry").metrics["joint"] == [RECORD]


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/x", "a/b", "a b", "-x", ".hidden", "é", "a\n"])
def test_a_name_that_could_be_a_path_cannot_name_a_policy(joint, checkpoints, tmp_path, name):
    with pytest.raises(ArtifactFormatError, match="cannot name a policy: use letters, digits, dots and dashes"):
        assemble_entry(joint, {name: checkpoints["small"]}, tmp_path / "entry")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_folder_may_list_cannot_name_a_policy(joint, checkpoints, tmp_path):
    with pytest.raises(ArtifactFormatError, match="cannot name a policy"):
        assemble_entry(joint, {"a..b": checkpoints["small"]}, tmp_path / "entry")


@pytest.mark.parametrize("file", ["classes.json", "supernet.safetensors", "policies/small/model.safetensors"])
def test_a_damaged_file_leaves_what_was_there(tiny, entry_copy, tmp_path, file):
    joint = open_local_folder(entry_copy, "entry")
    target = tmp_path / "target" / "entry"
    shutil.copytree(tiny.folder, target)
    (entry_copy / file).write_bytes(b"damaged")
    with pytest.raises(ArtifactIntegrityError, match=f"{re.escape(file)} is damaged"):
        assemble_entry(joint, {}, target)
    assert content(target) == content(tiny.folder)
    assert sorted(path.name for path in target.parent.iterdir()) == ["entry"]


def test_a_folder_that_is_no_entry_is_left_alone(joint, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(ArtifactError, match=r"photos holds 'cat\.jpg': it is no entry, and would be lost"):
        assemble_entry(joint, {}, tmp_path / "photos")
    assert content(tmp_path) == {"photos/cat.jpg": b"cat"}


def test_an_empty_folder_and_a_new_one_are_filled(joint, tmp_path):
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "empty", tmp_path / "a" / "b" / "new"):
        assemble_entry(joint, {}, target)
        assert find_entry(f"local-dir:{target}").folder.files


def test_the_entry_of_another_network_is_refused_and_kept(joint, tmp_path):
    shutil.copytree(BUNDLED / "resnet18.tiny_imagenet", tmp_path / "entry")
    before = content(tmp_path / "entry")
    refused = r"entry holds an entry of resnet18.*, this one is of .*; choose another"
    with pytest.raises(ArtifactFormatError, match=refused):
        assemble_entry(joint, {}, tmp_path / "entry")
    assert content(tmp_path / "entry") == before


def test_an_entry_is_replaced_whole(tiny, joint, tmp_path):
    shutil.copytree(tiny.folder, tmp_path / "entry")
    (tmp_path / "entry" / "README.md").write_text("of before")
    with replaced_folder(tmp_path / "entry") as folder:
        copy_verified(joint, folder)
        assert (tmp_path / "entry" / "README.md").exists()
    assert content(tmp_path / "entry") == content(tiny.folder)
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]


@pytest.mark.parametrize("file", ["notes.txt", "states/step-00000600/model.safetensors", "options.json"])
def test_a_folder_that_holds_more_than_an_entry_is_refused_and_kept(tiny, tmp_path, file):
    shutil.copytree(tiny.folder, tmp_path / "entry")
    (tmp_path / "entry" / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "entry" / file).write_text("of before")
    before = content(tmp_path / "entry")
    refused = rf"holds '{file}' as well, which .* would be lost; choose another"
    with pytest.raises(ArtifactFormatError, match=refused), replaced_folder(tmp_path / "entry"):
        raise AssertionError("nothing is begun")
    assert content(tmp_path / "entry") == before


def test_a_file_in_the_place_of_the_folder_is_refused_and_kept(joint, tmp_path):
    (tmp_path / "entry").write_text("a file")
    with pytest.raises(OutputError, match=r"entry is a file, and a folder is to be written; name another one$"):
        assemble_entry(joint, {}, tmp_path / "entry")
    assert (tmp_path / "entry").read_text() == "a file"


def test_only_what_the_manifest_lists_is_copied(entry_copy, tmp_path):
    (entry_copy / "secret.txt").write_text("token")
    (entry_copy / ".cache").mkdir()
    (entry_copy / ".cache" / "state").write_text("token")
    folder = open_local_folder(entry_copy, "entry")
    copy_verified(folder, tmp_path / "copy")
    assert set(content(tmp_path / "copy")) == {*folder.files, "config.json"}


def test_a_checkpoint_of_another_network_is_refused_and_nothing_written(joint, tmp_path):
    foreign = find_entry("resnet18").checkpoint("3G")
    with pytest.raises(
        ArtifactFormatError,
        match=r"is of resnet18 at 64 pixels with 200 classes, the entry of \w+ at 32 pixels with \d+ classes: give "
        r"checkpoints that were fine-tuned from this entry$",
    ):
        assemble_entry(joint, {"3G": foreign}, tmp_path / "entry")
    assert not (tmp_path / "entry").exists()
