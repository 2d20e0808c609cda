"""Tar shards: every picture at its index, and every shard that is not whole refused."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import random
import tarfile
from pathlib import Path

import pytest
from drawn_pictures import (
    AUGMENTATION,
    SPEC,
    TRAIN,
    VAL,
    data_settings,
    encoded,
    reds_and_labels,
)

from limpq_hub.errors import ArtifactFormatError, DataError
from limpq_hub.train.data.description import class_records, data_record
from limpq_hub.train.data.identity import difference, identity_of
from limpq_hub.train.data.loaders import training_loader, validation_loader
from limpq_hub.train.data.splits import check_apart, open_split, training_split


def write_shard(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as shard:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path) -> Path:
    """Return the pictures of `folders` in two training shards and one for validation, with an info file."""
    for number in (0, 1):
        members = {}
        for label in range(3):
            red, ending = 10 * label + number, ("png", "jpg", "webp")[label]
            kind = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[ending]
            picture, text = {f"dir.a/s{red}.{ending}": encoded(red, kind)}, {f"dir.a/s{red}.cls": b" %d\n" % label}
            members |= (text | picture) if label == 1 else (picture | text)
            members[f"dir.a/s{red}.json"] = b"{}"
        write_shard(tmp_path / f"x-train-{number}.tar", members)
    members = {f"{label}.PNG": encoded(10 * label + 5) for label in range(3)}
    members |= {f"{label}.cls": str(label).encode() for label in range(3)}
    write_shard(tmp_path / "x-val-0.tar", members)
    return tmp_path


def write_info(root: Path, **changes: object) -> None:
    splits = {
        "train": {"filenames": ["x-train-0.tar", "x-train-1.tar"], "num_samples": 6, "shard_lengths": [3, 3]},
        "val": {"filenames": ["x-val-0.tar"], "num_samples": 3, "shard_lengths": [3]},
    }
    (root / "info.json").write_text(json.dumps({"splits": splits} | changes))


@pytest.mark.parametrize("info", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_shards_give_every_picture_with_its_class(shards, info, workers):
    settings = data_settings("wds/x", data_root=str(shards), workers=workers)
    if info:
        write_info(shards, classes=["cat", "dog", "bird"])
    assert training_split(settings) is not None
    # JPEG and WebP change a color a little.
    found = reds_and_labels(settings, training=True)
    assert [label for _, label in found] == [label for _, label in TRAIN]
    assert all(abs(red - true) <= 3 for (red, _), (true, _) in zip(found, TRAIN, strict=True))
    assert reds_and_labels(settings, training=False) == VAL
    ids = [record["id"] for record in class_records(settings)]
    assert ids == (["cat", "dog", "bird"] if info else ["class 0", "class 1", "class 2"])


def test_a_shard_is_read_at_any_index_in_any_order_and_in_another_process(shards):
    rng, expected, members = random.Random(0), {}, {}
    for index in range(40):
        expected[f"k{index}.png"] = (index, index % 3)
        members |= {f"k{index}.cls": str(index % 3).encode(), f"k{index}.png": encoded(index)}
        members[f"k{index}.txt"] = b"x" * rng.randrange(3000)
    write_shard(shards / "more-train.tar", members)
    source = open_split(data_settings("wds/x", data_root=str(shards)), training=True)
    source = pickle.loads(pickle.dumps(source))  # as worker processes that are not forked get it
    names = {source.name(index): index for index in range(len(source))}
    order = list(expected)
    rng.shuffle(order)
    for name in order:
        index = names[f"more-train.tar/{name}"]
        with source.picture(index) as picture:
            assert (picture.getpixel((0, 0))[0], source.labels[index]) == expected[name]


def test_a_truncated_picture_in_a_shard_is_named(shards, capsys):
    members = {"a.png": encoded(0), "a.cls": b"0", "b.png": encoded(1)[:45], "b.cls": b"1"}
    write_shard(shards / "x-val-0.tar", members)
    settings = data_settings("wds/x", data_root=str(shards))
    assert [label for _, label in reds_and_labels(settings, training=False)] == [-1, 0]
    assert f"left out: {shards}/val/x-val-0.tar/b.png (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"a.png": b"", "b.cls": b"0"},
            "sample 'a' lacks its picture (.jpg, .jpeg, .png, .webp) or its .cls, 2 in all",
        ),
        ({"a.png": b"", "a.cls": b"cat"}, "'a.cls' holds b'cat', not a class index from 0"),
        ({"a.png": b"", "a.cls": b"-1"}, "'a.cls' holds b'-1', not a class index from 0"),
        ({"a.png": b"", "a.cls": b""}, "'a.cls' holds b'', not a class index from 0"),
        ({"a.png": b"", "a.cls": b"0", "a.PNG": b""}, "'a.PNG' stands twice; write each sample once"),
    ],
)
def test_a_sample_without_picture_and_class_is_refused(shards, members, message):
    write_shard(shards / "x-val-0.tar", members)
    with pytest.raises(DataError) as caught:
        validation_loader(data_settings("wds/x", data_root=str(shards)), SPEC)
    assert str(caught.value).startswith(f"{shards}/x-val-0.tar: {message}")


def test_a_shard_that_ends_anywhere_before_its_last_class_is_refused(shards):
    path = shards / "x-train-1.tar"
    write_info(shards)
    whole = path.read_bytes()
    last_class = whole.rindex(b"2\n")
    for length in [*range(0, last_class, 97), last_class]:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"damaged|lacks its picture|holds b''|shards of train hold . pictures"):
            training_loader(data_settings("wds/x", data_root=str(shards)), AUGMENTATION, SPEC)


def test_a_compressed_shard_is_refused(shards):
    with tarfile.open(shards / "x-val-0.tar", "w:gz") as shard:
        shard.add(shards / "x-train-0.tar", "a.png")
    with pytest.raises(DataError, match=r"x-val-0\.tar is no plain tar file, or damaged .*; fetch it again"):
        validation_loader(data_settings("wds/x", data_root=str(shards)), SPEC)


def test_a_changed_shard_is_indexed_again(shards):
    settings = data_settings("wds/x", data_root=str(shards))
    assert reds_and_labels(settings, training=False) == VAL
    write_shard(shards / "x-val-0.tar", {"long-name.png": encoded(7), "long-name.cls": b"0"})
    assert reds_and_labels(settings, training=False) == [(7, 0)]


INFO_FAULTS = [
    ({"splits": {"test": {}}}, DataError, "has no split 'val', only test; name one of these"),
    ({"splits": []}, DataError, 'info.json has no "splits"; write'),
    ({"splits": {"val": {"filenames": []}}}, DataError, "must be lists of names"),
    ({"splits": {"val": {"filenames": [3]}}}, DataError, "must be lists of names"),
    ({"splits": {"val": 3}}, DataError, "must be lists of names"),
    ({"classes": [1, 2, 3]}, DataError, "must be lists of names"),
    ({"splits": {"val": {"filenames": ["gone-7.tar"]}}}, DataError, "lacks the shard gone-7.tar; download it first"),
    (
        {"splits": {"val": {"filenames": ["x-val-0.tar"], "num_samples": 4}}},
        DataError,
        "the shards of val hold 3 pictures, its info file says 4; fetch them again",
    ),
    (
        {"splits": {"val": {"filenames": ["https://host/x.tar"]}}},
        DataError,
        "'https://host/x.tar' is not a local shard, and a stream cannot be continued exactly; download it",
    ),
    (
        {"splits": {"val": {"filenames": ["pipe:cat x.tar"]}}},
        DataError,
        "'pipe:cat x.tar' is not a local shard, and a stream cannot be continued exactly; download it",
    ),
    ({"classes": ["cat", "dog"]}, DataError, "x-val-0.tar/2.PNG has the class index 2, outside 0..1; use a split with"),
    ({"classes": ["a", "b", "c", "d"]}, DataError, "val: no image in class d; remove the class or fill it"),
]


@pytest.mark.parametrize(("changes", "error", "message"), INFO_FAULTS)
def test_an_info_file_that_does_not_fit_is_refused(shards, changes, error, message):
    write_info(shards, **changes)
    with pytest.raises(error) as caught:
        validation_loader(data_settings("wds/x", data_root=str(shards)), SPEC)
    assert message in str(caught.value)


def test_an_info_file_that_is_not_json_is_refused(shards):
    (shards / "_info.json").write_text("splits: none")
    with pytest.raises(ArtifactFormatError, match="_info.json is not JSON"):
        validation_loader(data_settings("wds/x", data_root=str(shards)), SPEC)


def test_a_folder_without_shards_and_one_elsewhere_are_refused(tmp_path):
    message = (
        f"^--data-root '{tmp_path}' has no .tar with the word 'val' in its name, and no info.json that lists shards; "
        r"name the split as they do \(--train-split, --val-split\)$"
    )
    with pytest.raises(DataError, match=message):
        validation_loader(data_settings("wds/x", data_root=str(tmp_path)), SPEC)
    with pytest.raises(DataError, match="'https://host' is not a local shard"):
        validation_loader(data_settings("wds/x", data_root="https://host"), SPEC)


def test_a_split_is_a_word_of_the_name_of_a_shard_and_not_a_part_of_another(shards):
    for number in (0, 1):
        (shards / f"x-train-{number}.tar").rename(shards / f"carnival_train{number}.tar")
    (shards / "x-val-0.tar").rename(shards / "carnival.val.tar")
    for name in ("trainval-0", "retrain-0", "validation-0"):  # no shards at all
        (shards / f"{name}.tar").touch()
    settings = data_settings("wds/x", data_root=str(shards))
    assert [len(open_split(settings, training=training)) for training in (True, False)] == [6, 3]
    (shards / "carnival.val.tar").unlink()
    with pytest.raises(DataError, match="has no .tar with the word 'val' in its name"):
        open_split(settings, training=False)


@pytest.mark.parametrize("training", [True, False])
def test_a_shard_that_is_of_both_splits_by_its_name_is_named_unless_a_list_tells(shards, training):
    (shards / "x-val-0.tar").rename(shards / "train-val-0.tar")
    settings = data_settings("wds/x", data_root=str(shards))
    split, beside = ("train", "val") if training else ("val", "train")
    with pytest.raises(DataError) as caught:
        open_split(settings, training=training)
    assert str(caught.value) == (
        f"{shards}/train-val-0.tar is of '{split}' and of '{beside}' by its name; rename it, or list the shards of "
        "each in info.json"
    )
    listed = {"train": {"filenames": ["x-train-0.tar", "x-train-1.tar"]}, "val": {"filenames": ["train-val-0.tar"]}}
    write_info(shards, splits=listed)
    assert len(open_split(settings, training=training)) == (6 if training else 3)


def test_a_shard_that_an_info_file_lists_for_both_splits_is_named(shards):
    listed = {"train": {"filenames": ["x-train-0.tar", "x-val-0.tar"]}, "val": {"filenames": ["./x-val-0.tar"]}}
    write_info(shards, splits=listed)
    settings = data_settings("wds/x", data_root=str(shards))
    with pytest.raises(DataError) as caught:
        check_apart(settings)
    told = f"--data-root '{shards}': x-val-0.tar is of 'train' and of 'val' in its info file; list it in one of them"
    assert str(caught.value) == told
    assert len(open_split(settings, training=False)) == 3, "what measures alone reads one of them"
    write_info(shards, splits=listed | {"val": {"filenames": ["x-train-1.tar"]}})
    check_apart(settings)


@pytest.mark.parametrize(("split", "other"), [("fold1", "fold10"), ("1", "10"), ("1", "21"), ("1fold", "21fold")])
def test_a_split_that_begins_or_ends_with_a_digit_is_no_part_of_a_longer_number(shards, split, other):
    (shards / "x-val-0.tar").rename(shards / f"x-{split}-0.tar")
    (shards / f"x-{other}-0.tar").touch()  # no shard at all
    (shards / "x-train-1.tar").unlink()
    settings = data_settings("wds/x", data_root=str(shards), val_split=split)
    assert reds_and_labels(settings, training=False) == VAL


def test_a_class_that_only_training_shards_have_is_named(shards):
    write_shard(shards / "x-val-0.tar", {"a.png": encoded(1), "a.cls": b"0", "b.png": encoded(2), "b.cls": b"1"})
    with pytest.raises(DataError, match="wds/x: train/ and val/ differ in class class 2; use the same"):
        class_records(data_settings("wds/x", data_root=str(shards)))


def test_a_class_without_a_picture_in_the_shards_is_named(shards):
    write_shard(shards / "x-val-0.tar", {"a.png": encoded(1), "a.cls": b"0", "b.png": encoded(2), "b.cls": b"2"})
    with pytest.raises(DataError, match="val: no image in class class 1; remove the class or fill it"):
        class_records(data_settings("wds/x", data_root=str(shards)))


def test_the_record_of_shards_is_the_hash_of_shard_and_member_names(shards):
    names = "\n".join(f"x-val-0.tar/{label}.PNG" for label in range(3))
    assert data_record(data_settings("wds/x", data_root=str(shards)), AUGMENTATION) == {
        "name": "x",
        "split": "val",
        "validation_images": 3,
        "validation_names_sha256": hashlib.sha256(names.encode()).hexdigest(),
        "training_images": 6,
    }


def test_shards_of_other_pictures_under_the_same_names_are_other_data(shards):
    settings = data_settings("wds/x", data_root=str(shards))
    before = identity_of(open_split(settings, training=False))
    members = {f"{label}.PNG": encoded(10 * label + 6) for label in range(3)}
    members |= {f"{label}.cls": str(label).encode() for label in range(3)}
    write_shard(shards / "x-val-0.tar", members)
    words = difference(before, identity_of(open_split(settings, training=False)))
    assert words == "with other pictures in class class 0, class 1, class 2 (3 then, 3 now)"
