"""Tests of what can be the classes of a network: one of each id, as many as outputs, wherever they are read."""

import json
from importlib.util import find_spec

import pytest

import limpq_hub
from limpq_hub.errors import ArtifactFormatError
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.checkpoint import read_checkpoint_classes
from limpq_hub.zoo.class_names import check_classes, names_told_apart

CAT, DOG = {"id": "a", "name": "cat"}, {"id": "b", "name": "dog"}


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ([CAT], "there: 1 classes for a network of 2 outputs; there must be one for each output"),
        ([CAT, DOG | {"id": "a"}], "there: the id 'a' stands twice; give each class an id of its own"),
        ([CAT | {"id": ""}, DOG | {"id": ""}], "there: the id '' stands twice; give each class an id of its own"),
        ([CAT, {"id": "b"}], "there: name is missing"),
        ([CAT, {"id": "b", "name": 3}], "there: name must be text, found 3"),
        ({"a": "cat"}, "there must be a list, found {'a': 'cat'}"),
    ],
)
def test_a_list_that_cannot_be_the_classes_of_a_network_is_refused(classes, told):
    with pytest.raises(ArtifactFormatError) as caught:
        check_classes(classes, 2, "there")
    assert str(caught.value) == told


def test_classes_of_one_name_are_as_many_as_there_are_ids():
    alike = [CAT, DOG | {"name": "cat"}]
    check_classes(alike, 2, "there")
    assert names_told_apart(alike) == {"a": "cat (a)", "b": "cat (b)"}


def test_an_entry_and_a_checkpoint_with_one_id_twice_are_refused(entry_copy, reseal):
    classes = json.loads((entry_copy / "classes.json").read_text())
    (entry_copy / "classes.json").write_text(json.dumps([*classes[:9], classes[0]]))
    reseal(entry_copy / "policies/small", classes=[label["id"] for label in [*classes[:9], classes[0]]])
    entry = find_entry(f"local-dir:{entry_copy}")
    with pytest.raises(ArtifactFormatError, match=r"/classes\.json: the id 'n0000' stands twice; give each class an"):
        _ = entry.classes
    with pytest.raises(ArtifactFormatError, match=r"/policies/small/config\.json: the id 'n0000' stands twice; give"):
        read_checkpoint_classes(entry.checkpoint("small"))


@pytest.mark.skipif(find_spec("openvino") is None, reason='needs the extra "export"')
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"label_names": ["n0000"] * 10}, "label_names: the id 'n0000' stands twice; give each class an id of its own"),
        ({"label_names": ["n0000"]}, "label_names: 1 classes for a network of 10 outputs; there must be one for each"),
        ({"label_descriptions": ["noise"]}, "label_descriptions must be an object, found"),
    ],
)
def test_an_export_with_other_classes_than_its_network_has_is_refused(tiny, tmp_path, monkeypatch, changes, told):
    from limpq_hub import export
    from limpq_hub.deploy.exported_network import open_exported
    from limpq_hub.deploy.self_description import SelfDescription

    whole = SelfDescription.config
    monkeypatch.setattr(SelfDescription, "config", lambda self: whole(self) | changes)
    export(limpq_hub.load(tiny.name, bitops="w3a3"), tmp_path / "out", images=[tiny.images])
    with pytest.raises(ArtifactFormatError, match=f"/config.json: {told}"):
        open_exported(tmp_path / "out")
