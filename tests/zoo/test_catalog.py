"""Tests of the catalog: which name means which entry, what an entry says of itself, and which names are refused."""

import json
import re
import shutil

import pytest
import timm

import limpq_hub
from limpq_hub import list_models
from limpq_hub.errors import (
    ArtifactError,
    ArtifactFormatError,
    ArtifactIntegrityError,
    HubNotFoundError,
    NotQuantizedError,
    UnknownModelError,
)
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.zoo import catalog
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_folder import seal_entry
from limpq_hub.zoo.measurement import Measurement, float_measurement, top1_text
from limpq_hub.zoo.network import NetworkSpec


@pytest.fixture
def bundle(tiny, tmp_path, monkeypatch):
    """The tiny entry bundled under three names, beside things that are no entries."""
    for name in ("test_resnet.noise", "test_resnet.birds", "other_net.noise"):
        shutil.copytree(tiny.folder, tmp_path / name)
    (tmp_path / "unfinished.noise").mkdir()
    (tmp_path / "README.md").write_text("no entry")
    monkeypatch.setattr(catalog, "BUNDLED", tmp_path)
    return tmp_path


def test_models_are_listed_by_name_and_only_finished_ones(bundle):
    assert list_models() == ["other_net.noise", "test_resnet.birds", "test_resnet.noise"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["other_net.noise", "test_resnet.birds", "test_resnet.noise"]),
        ("test_*", ["test_resnet.birds", "test_resnet.noise"]),
        ("test_resnet", ["test_resnet.birds", "test_resnet.noise"]),
        ("*.noise", ["other_net.noise", "test_resnet.noise"]),
        ("other_net.noise", ["other_net.noise"]),
        ("[ot]*.birds", ["test_resnet.birds"]),
        ("TEST_*", []),
        ("", []),
    ],
)
def test_a_shell_pattern_lists_the_names_that_match(bundle, pattern, found):
    assert list_models(pattern) == found


def test_a_full_name_means_its_entry_and_a_bare_one_the_default_tag(bundle):
    for name in ("test_resnet.noise", "test_resnet.birds", "other_net.noise"):
        entry = find_entry(name)
        assert (entry.name, entry.source, entry.revision) == (name, "bundled", None)
    assert find_entry("test_resnet").name == "test_resnet.birds"
    assert find_entry("other_net").name == "other_net.noise"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("test_resnet.nose", r"did you mean test_resnet\.noise( or|\?)"),
        ("test_resnt", r"did you mean test_resnet( or|\?)"),
        ("other_net.birds", r"did you mean (other_net\.noise|test_resnet\.birds) or "),
        ("zzzzzz", r"known: other_net\.noise, test_resnet\.birds, test_resnet\.noise; any timm network can be trained"),
        ("", r"known: "),
        ("TEST_RESNET", r"known: |did you mean test_resnet"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_ones(bundle, name, advice):
    with pytest.raises(UnknownModelError, match=rf"no model is named {re.escape(repr(name))}; {advice}"):
        find_entry(name)


def test_a_network_of_timm_that_is_not_bundled_is_answered_with_how_it_is_made(bundle):
    with pytest.raises(UnknownModelError) as caught:
        find_entry("test_vit")
    assert str(caught.value) == (
        "no model is named 'test_vit'; it is a network of timm that is not bundled (other_net.noise, "
        "test_resnet.birds, test_resnet.noise is): train it with accelerate launch -m limpq_hub.train.indicators "
        "--model test_vit --data FOLDER --output out/test_vit and give local-dir:out/test_vit; or turn indicators of "
        "the LIMPQ authors into a file with limpq import PICKLE --model test_vit --output test_vit.json"
    )


def test_a_float_network_of_timm_is_told_from_an_entry_in_a_folder_and_on_the_hub(on_hub, tmp_path):
    config = b'{"architecture": "resnet18", "num_classes": 1000}'
    (tmp_path / "config.json").write_bytes(config)
    on_hub.hub.commit("timm/resnet18.a1", {"config.json": config, "pytorch_model.bin": b"\x80\x02."})
    for name in (f"local-dir:{tmp_path}", "hf-hub:timm/resnet18.a1"):
        with pytest.raises(NotQuantizedError) as caught:
            find_entry(name, cache_dir=on_hub.cache)
        assert str(caught.value).endswith(
            "/config.json: this is timm's, of a float network 'resnet18' and no entry: learn its importance with "
            "accelerate launch -m limpq_hub.train.indicators --model ARCHITECTURE --weights THIS --data FOLDER"
        )


def test_the_networks_of_timm_are_known_without_importing_it():
    assert catalog._networks_of_timm() == set(timm.list_models())


@pytest.mark.parametrize("name", ["photo.jpg", "folder/photo.jpg"])
def test_a_file_in_the_place_of_a_model_is_told_as_one(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / name).write_bytes(b"")
    message = f"^'{name}' is a file, and a model is expected: resnet18, local-dir:FOLDER or hf-hub:owner/name$"
    with pytest.raises(UnknownModelError, match=message):
        find_entry(name)


@pytest.mark.parametrize("name", ["owner/name", "./out/entry", "/tmp/entry", "..\\entry", "out\\entry"])
def test_an_unprefixed_path_is_answered_with_both_fixes_filled_in(name):
    fixes = f"write {'local-dir:' + name!r} or {'hf-hub:' + name!r}"
    with pytest.raises(UnknownModelError, match=re.escape(f"{name!r} could be a folder or a Hub repository: {fixes}")):
        find_entry(name)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("https://huggingface.co/you/x", "hf-hub:you/x"),
        ("https://huggingface.co/you/x/", "hf-hub:you/x"),
        ("https://huggingface.co/you/x/tree/main", "hf-hub:you/x"),
        ("https://huggingface.co/you/x/blob/v1/config.json", "hf-hub:you/x@v1"),
        ("http://127.0.0.1:8000/you/x/resolve/main/config.json?download=true", "hf-hub:you/x"),
        ("huggingface.co/you/x", "hf-hub:you/x"),
        ("hf-hub:https://huggingface.co/you/x", "hf-hub:you/x"),
        ("hf-hub:https://huggingface.co/you/x@v1", "hf-hub:you/x@v1"),
        ("hf-hub:https://huggingface.co/you/x/tree/v1", "hf-hub:you/x@v1"),
        ("https://huggingface.co/you/x@feature/y", "hf-hub:you/x@feature/y"),
        ("https://huggingface.co/you/x@v1/", "hf-hub:you/x@v1"),
        ("https://huggingface.co/you/x@main", "hf-hub:you/x"),
        ("https://huggingface.co/you/x/tree/refs%2Fpr%2F3", "hf-hub:you/x@refs/pr/3"),
        ("https://huggingface.co/you/x/blob/refs%2Fpr%2F3/config.json", "hf-hub:you/x@refs/pr/3"),
        ("hf_hub:you/x", "hf-hub:you/x"),
        ("hf:you/x@v1", "hf-hub:you/x@v1"),
        ("hf://you/x", "hf-hub:you/x"),
        ("HF-HUB:you/x", "hf-hub:you/x"),
        ("local_dir:out/entry", "local-dir:out/entry"),
    ],
)
def test_an_address_or_another_prefix_is_answered_with_the_name_that_is_meant(online, name, instead):
    message = f"^{re.escape(repr(name))} is not how a model is named: write {re.escape(repr(instead))}$"
    with pytest.raises(UnknownModelError, match=message):
        find_entry(name)
    assert online.hub.requests == []


def test_a_hub_name_without_an_owner_is_refused_without_a_request(online):
    message = r"^'bert' is not the name of a Hub repository: write hf-hub:owner/name$"
    for name in ("hf-hub:bert", "hf-hub:bert@v1"):
        with pytest.raises(HubNotFoundError, match=message):
            find_entry(name)
    assert online.hub.requests == []


def test_a_path_of_a_folder_is_answered_with_its_name(entry_copy):
    with pytest.raises(UnknownModelError, match=f"^'{entry_copy}' is a folder: write local-dir:{entry_copy}$"):
        find_entry(entry_copy)


def test_an_entry_is_found_and_listed_by_its_name_without_the_prefix_of_timm():
    for name in ("efficientnet_lite0", "efficientnet_lite0.in1k", "tf_efficientnet_lite0.in1k"):
        assert find_entry(name).name == "tf_efficientnet_lite0.in1k"
        assert list_models(name) == ["tf_efficientnet_lite0.in1k"]
    assert list_models("efficientnet*") == ["tf_efficientnet_lite0.in1k"]


def test_an_entry_of_a_revision_is_named_with_it_however_it_was_given(on_hub):
    on_hub.hub.tag("you/tiny", "v1")
    commit = on_hub.hub.references("you/tiny")["refs/heads/main"]
    for name, revision, named in (
        ("hf-hub:you/tiny", "v1", "hf-hub:you/tiny@v1"),
        ("hf-hub:you/tiny@v1", None, "hf-hub:you/tiny@v1"),
        ("hf-hub:you/tiny@v1", "v1", "hf-hub:you/tiny@v1"),
        ("hf-hub:you/tiny", commit, f"hf-hub:you/tiny@{commit}"),
        ("hf-hub:you/tiny", None, "hf-hub:you/tiny"),
    ):
        assert find_entry(name, revision=revision, cache_dir=on_hub.cache).name == named


@pytest.mark.parametrize("revision", [1, 0, True, "", b"v1", ["v1"]])
def test_a_revision_that_is_no_name_is_refused(online, revision):
    message = f"^you/tiny: {re.escape(repr(revision))} is not a branch, tag or commit; write for example main or v1$"
    with pytest.raises(HubNotFoundError, match=message):
        find_entry("hf-hub:you/tiny", revision=revision)
    assert online.hub.requests == []


@pytest.mark.parametrize("name", ["out/entry", "entry", "./out"])
def test_a_folder_without_its_prefix_is_answered_with_that_alone(entry_copy, tmp_path, monkeypatch, name):
    (tmp_path / "work" / "out").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    for place in ("out/entry", "entry"):
        (tmp_path / "work" / place).symlink_to(entry_copy)
    with pytest.raises(UnknownModelError, match=f"^{re.escape(repr(name))} is a folder: write local-dir:{name}$"):
        find_entry(name)


def test_a_folder_of_the_name_of_a_bundled_entry_does_not_hide_it(bundle, tiny, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work" / "test_resnet").symlink_to(tiny.folder)
    assert find_entry("test_resnet").source == "bundled"


@pytest.mark.parametrize("prefix", ["local-dir:", ""])
def test_an_exported_network_is_told_with_what_runs_it(tmp_path, prefix):
    (tmp_path / "config.json").write_text('{"architecture": "resnet18", "num_classes": 1000}')
    for file in ("model.onnx", "verify.json"):
        (tmp_path / file).write_text("{}")
    with pytest.raises(ArtifactFormatError) as caught:
        find_entry(f"{prefix}{tmp_path}")
    assert (
        f": this is an exported network, and no entry: limpq predict PICTURE --exported {tmp_path} runs it, as "
        in str(caught.value)
    )


@pytest.mark.parametrize("name", [None, 3, ["resnet18"], b"resnet18"])
def test_a_name_that_is_no_text_is_refused(name):
    with pytest.raises(UnknownModelError, match=rf"a model is named by text, found {re.escape(repr(name))}; known: "):
        find_entry(name)


def test_a_revision_of_a_bundled_model_is_refused(bundle):
    with pytest.raises(UnknownModelError, match="revision='v1' is for models on the Hub: write hf-hub:owner/name"):
        find_entry("test_resnet", revision="v1")


def test_a_revision_of_a_local_folder_is_refused_with_advice_that_can_be_followed(tiny):
    with pytest.raises(UnknownModelError, match="revision='v1' is for models on the Hub") as caught:
        find_entry(tiny.name, revision="v1")
    assert "owner/local-dir:" not in str(caught.value)


def test_a_bare_name_that_is_not_bundled_is_served_by_the_owner_of_the_environment(bundle, on_hub, monkeypatch):
    on_hub.hub.commit("you/some_net-limpq", on_hub.hub.files("you/tiny"))
    monkeypatch.setenv("LIMPQ_HUB_OWNER", "you")
    entry = find_entry("some_net", cache_dir=on_hub.cache)
    assert (entry.name, entry.source) == ("hf-hub:you/some_net-limpq", "hub")
    assert entry.revision == on_hub.hub.references("you/some_net-limpq")["refs/heads/main"]
    came = len(on_hub.hub.requests)
    for bundled in ("test_resnet", "other_net.noise"):
        assert find_entry(bundled).source == "bundled"
    assert len(on_hub.hub.requests) == came
    on_hub.hub.tag("you/some_net-limpq", "v1")
    assert find_entry("some_net", revision="v1", cache_dir=on_hub.cache).revision == entry.revision
    tagged = find_entry("some_net@v1", cache_dir=on_hub.cache)
    assert (tagged.name, tagged.revision) == ("hf-hub:you/some_net-limpq@v1", entry.revision)
    with pytest.raises(HubNotFoundError, match="^you/other-limpq@main: the Hub shows no such repository"):
        find_entry("other", cache_dir=on_hub.cache)
    monkeypatch.setenv("LIMPQ_HUB_OWNER", "")
    with pytest.raises(UnknownModelError, match="no model is named 'some_net'"):
        find_entry("some_net", cache_dir=on_hub.cache)


def test_a_data_set_that_the_indicators_name_stands_in_the_config(tiny, entry_copy):
    path = entry_copy / "indicators.json"
    for data, expected in (({"name": "noise-10", "images": 3}, "noise-10"), ({"images": 3}, None), ("noise", None)):
        indicators = json.loads(path.read_text()) | {"provenance": {"data": data}}
        path.write_text(json.dumps(indicators))
        seal_entry(entry_copy, NetworkSpec.of(tiny.supernet))
        config = find_entry(f"local-dir:{entry_copy}").folder.config
        assert config.get("dataset") == expected


def test_a_local_folder_is_found_by_its_path(tiny):
    entry = find_entry(tiny.name)
    assert (entry.name, entry.source, entry.revision) == (tiny.name, "local", None)
    assert entry.indicators.to_json() == tiny.indicators.to_json()


def test_a_local_folder_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(
        UnknownModelError, match="nowhere': there is no such folder; give the output folder of a training"
    ):
        find_entry(f"local-dir:{tmp_path}/nowhere")


def test_a_file_or_a_tilde_in_the_place_of_a_local_folder_is_answered_with_what_to_write(tiny, monkeypatch):
    monkeypatch.setenv("HOME", str(tiny.folder.parent))
    written = repr(f"local-dir:{tiny.folder}")
    for name in (f"local-dir:~/{tiny.folder.name}", f"~/{tiny.folder.name}"):
        with pytest.raises(UnknownModelError, match=rf"^{name!r}: .*: write {re.escape(written)}$"):
            find_entry(name)
    with pytest.raises(UnknownModelError, match=rf"it is a file: give its folder, {re.escape(written)}$"):
        find_entry(f"{tiny.name}/config.json")
    with pytest.raises(UnknownModelError, match=rf"it is a file: '{tiny.folder}/indicators.json' alone is for what"):
        limpq_hub.search(f"{tiny.name}/indicators.json", bitops="w3a3")


def test_an_entry_whose_folder_ends_like_a_file_is_searched_as_it_is_loaded(entry_copy):
    folder = entry_copy.rename(entry_copy.with_name("net.json"))
    found = limpq_hub.search(f"local-dir:{folder}", bitops="w3a3")
    assert found.policy == limpq_hub.search(folder / "indicators.json", bitops="w3a3").policy
    assert limpq_hub.baselines(f"local-dir:{folder}", bitops="w3a3")


@pytest.mark.parametrize("name", ["RESNET18", "ResNet18", " resnet18\n"])
def test_a_name_in_another_case_is_answered_with_the_right_one(name):
    with pytest.raises(UnknownModelError, match="did you mean resnet18"):
        find_entry(name)


@pytest.mark.parametrize("inside", ["", "policies"])
def test_a_local_folder_without_a_config_is_refused(tiny, tmp_path, inside):
    path = tiny.folder / inside if inside == "policies" else tmp_path / inside
    message = re.escape(": no config.json there; give the output folder of limpq_hub.train.indicators or .publish")
    with pytest.raises(UnknownModelError, match=message):
        find_entry(f"local-dir:{path}")


def test_a_checkpoint_is_not_taken_for_an_entry(tiny):
    with pytest.raises(
        ArtifactFormatError, match=r"the folder of a 'checkpoint', .*: python -m limpq_hub\.train\.publish"
    ):
        find_entry(f"{tiny.name}/policies/small")


def test_published_policies_come_fewest_bitops_first_with_their_figures(tiny):
    published = find_entry(tiny.name).published
    assert [(found.name, found.top1) for found in published] == [("small", 61.5), ("large", 72.25)]
    for found in published:
        layers = tiny.policies[found.name].layers
        costs = {name: (tiny.costs[name], bits) for name, bits in layers.items()}
        assert found.policy_sha256 == tiny.policies[found.name].digest()
        assert found.bitops == sum(cost.macs * bits.weight * bits.activation for cost, bits in costs.values())
        assert found.size_bytes == sum(cost.weights * bits.weight for cost, bits in costs.values()) // 8


def test_measured_gives_the_figure_of_exactly_one_policy(tiny):
    entry = find_entry(tiny.name)
    assert entry.joint_top1(tiny.joint.digest()) == 33.5
    assert entry.joint_top1(tiny.policies["small"].digest()) is None


def test_the_measured_top1_of_a_policy_is_that_of_its_own_fine_tuning_or_of_the_joint_weights(tiny):
    entry = find_entry(tiny.name)
    assert entry.measured_top1(tiny.policies["small"]) == (61.5, "fine-tuned")
    assert entry.measured_top1(tiny.joint) == (33.5, "joint")
    assert entry.measured_top1(Policy("test_resnet", {"conv1": LayerBits(2, 2)})) is None


def test_a_figure_measured_after_calibration_is_not_one_of_the_shipped_weights(tiny, entry_copy, reseal):
    metrics = json.loads((entry_copy / "metrics.json").read_text())
    metrics["joint"][0]["calibration_images"] = 64
    (entry_copy / "metrics.json").write_text(json.dumps(metrics))
    reseal(entry_copy)
    assert find_entry(f"local-dir:{entry_copy}").joint_top1(tiny.joint.digest()) is None


def test_a_summary_can_be_written_as_json_and_counts_what_there_is(tiny):
    summary = find_entry(tiny.name).summary()
    assert json.loads(json.dumps(summary)) == summary
    bitops = {
        bits: sum(cost.macs * (64 if cost.fixed else bits * bits) for cost in tiny.costs.values()) for bits in (2, 4)
    }
    weights = sum(cost.weights for cost in tiny.costs.values())
    expected = {
        "architecture": "test_resnet",
        "num_classes": 10,
        "input_size": 32,
        "searched_layers": 14,
        "fixed_layers": 2,
        "minimum_bitops": bitops[2],
        "maximum_bitops": bitops[4],
        "float_bytes": 4 * weights,
        "float_top1": 80.0,
        "source": "local",
        "revision": None,
    }
    assert {key: summary[key] for key in expected} == expected
    assert [policy["name"] for policy in summary["policies"]] == ["small", "large"]
    assert summary["files"] == {
        path.relative_to(tiny.folder).as_posix(): path.stat().st_size
        for path in tiny.folder.rglob("*")
        if path.is_file() and path != tiny.folder / "config.json"
    }


def test_classes_that_do_not_fit_the_network_are_refused(entry_copy, reseal):
    classes = json.loads((entry_copy / "classes.json").read_text())
    for wrong in (classes[:9], [*classes, classes[0]]):
        (entry_copy / "classes.json").write_text(json.dumps(wrong))
        reseal(entry_copy)
        message = (
            rf"classes\.json: {len(wrong)} classes for a network of 10 outputs; there must be one for each output$"
        )
        with pytest.raises(ArtifactFormatError, match=message):
            _ = find_entry(f"local-dir:{entry_copy}").classes


@pytest.mark.parametrize("content", [3, None, ["a"] * 10, [{"id": "n"}] * 10, [{"id": 1, "name": 2}] * 10], ids=str)
def test_malformed_classes_are_refused(entry_copy, reseal, content):
    (entry_copy / "classes.json").write_text(json.dumps(content))
    reseal(entry_copy)
    with pytest.raises(ArtifactFormatError, match=r"classes\.json"):
        _ = find_entry(f"local-dir:{entry_copy}").classes


@pytest.mark.parametrize(
    "content",
    [3, [], {"float": 3}, {"float": {"top1": "best"}}, {"joint": 3}, {"joint": [3]}, {"joint": [{"top1": 3.0}]}],
    ids=str,
)
def test_malformed_metrics_are_refused(entry_copy, reseal, content):
    (entry_copy / "metrics.json").write_text(json.dumps(content))
    reseal(entry_copy)
    with pytest.raises(ArtifactFormatError, match=r"metrics\.json"):
        find_entry(f"local-dir:{entry_copy}").joint_top1(find_entry(f"local-dir:{entry_copy}").summary()["name"])


@pytest.mark.parametrize("provenance", ["a text", 3, ["a", "list"], {"data": "a text"}, {"command": 5, "seed": "0"}])
def test_how_a_figure_was_measured_is_not_said_where_it_is_said_otherwise(entry_copy, reseal, limpq, provenance):
    measured = {"top1": 50, "data": {"name": "noise", "validation_names_sha256": 3}, "provenance": provenance}
    metrics = json.loads((entry_copy / "metrics.json").read_text()) | {"joint_provenance": provenance}
    (entry_copy / "metrics.json").write_text(json.dumps(metrics | {"float": measured}))
    of_policy = provenance if isinstance(provenance, dict) else {"command": provenance}
    reseal(entry_copy / "policies" / "small", provenance=of_policy)
    entry = find_entry(f"local-dir:{entry_copy}")
    assert float_measurement(entry) == Measurement("noise", None, "validation", None, None)
    assert entry.published[0].command == (provenance if isinstance(provenance, str) else None)
    code, said, _ = limpq("info", f"local-dir:{entry_copy}")
    assert code == 0
    assert "policy small from" in said


@pytest.mark.parametrize("key", ["policy_sha256", "bitops", "size_bytes"])
def test_a_published_policy_that_does_not_say_what_it_costs_is_refused(entry_copy, reseal, key):
    for value in (None, ["much"]):
        reseal(entry_copy / "policies" / "small", **{key: value})
        with pytest.raises(ArtifactFormatError, match=rf"policies/small/config\.json.*{key}"):
            _ = find_entry(f"local-dir:{entry_copy}").published


def test_a_damaged_bundled_entry_is_refused_by_name(bundle):
    path = bundle / "test_resnet.noise" / "indicators.json"
    path.write_text(path.read_text().replace('"alpha": 2.0', '"alpha": 3.0'))
    with pytest.raises(ArtifactIntegrityError, match=r"test_resnet\.noise/indicators\.json is damaged: its \d+ bytes"):
        _ = find_entry("test_resnet.noise").indicators


def test_every_bundled_entry_reads_and_keeps_what_it_promises():
    names = list_models()
    assert "resnet18.tiny_imagenet" in names
    for name in names:
        entry = find_entry(name)
        summary = entry.summary()
        assert summary["architecture"] == name.split(".")[0]
        assert summary["minimum_bitops"] < summary["maximum_bitops"]
        assert len(entry.classes) == summary["num_classes"]
        assert len({found["id"] for found in entry.classes}) == summary["num_classes"]
        assert 0 < summary["float_top1"] <= 100
        for published in entry.published:
            policy = Policy.from_json(entry.checkpoint(published.name).read_json("policy.json"))
            assert policy.digest() == published.policy_sha256
            assert summary["minimum_bitops"] <= published.bitops <= summary["maximum_bitops"]
            assert 0 < published.top1 <= 100
            assert policy.model == summary["architecture"]


def test_the_bundled_resnet18_has_a_fine_tuned_policy_within_three_giga_bitops():
    entry = find_entry("resnet18")
    assert entry.name == "resnet18.tiny_imagenet"
    found = {published.name: published for published in entry.published}["3G"]
    assert found.bitops <= 3_000_000_000
    assert len(entry.indicators.costs) == 21
    assert sum(cost.fixed is not None for cost in entry.indicators.costs.values()) == 2
    with pytest.raises(ArtifactError, match=r"config\.json does not list 'policies/4G/config\.json'"):
        entry.checkpoint("4G")


# The measured front

FRONT = [(200, 40.0), (100, 20.0), (400, 50.0), (150, 99.0, 64), (50, 10.0, 64)]


def test_the_front_holds_what_was_measured_as_shipped_or_recalibrated_most_bitops_first(with_front):
    entry = find_entry(with_front(*FRONT))
    shipped, recalibrated = (entry.front(calibrated=calibrated) for calibrated in (False, True))
    assert [(record["bitops"], record["top1"]) for record in shipped] == [(400, 50.0), (200, 40.0), (100, 20.0)]
    assert [(record["bitops"], record["top1"]) for record in recalibrated] == [(150, 99.0), (50, 10.0)]
    assert shipped[0] == {"policy_sha256": "policy 2", "bitops": 400, "top1": 50.0, "calibration_images": 0}


@pytest.mark.parametrize(
    ("bitops", "top1"),
    [
        (100, 20.0),
        (101, 20.2),
        (150, 30.0),  # not the 99.0 that recalibrated weights had there
        (199, 39.8),
        (200, 40.0),
        (220, 41.0),
        (300, 45.0),
        (400, 50.0),
        (99, None),
        (50, None),  # only recalibrated weights were measured there
        (401, None),
        (0, None),
    ],
)
def test_the_expected_top1_lies_on_a_line_between_measured_budgets_and_is_unknown_outside(with_front, bitops, top1):
    found = find_entry(with_front(*FRONT)).expected_top1(bitops)
    assert found is None if top1 is None else found == pytest.approx(top1, rel=1e-12)


def test_two_figures_at_one_budget_divide_by_nothing(with_front):
    entry = find_entry(with_front((100, 20.0), (100, 30.0), (200, 40.0)))
    assert entry.expected_top1(100) in (20.0, 30.0)
    assert entry.expected_top1(150) == pytest.approx(35.0)


@pytest.mark.parametrize("points", [[], [(100, 20.0, 64), (200, 30.0, 64)], [(150, 20.0)]], ids=str)
def test_without_two_measured_budgets_nothing_is_expected(with_front, points):
    assert find_entry(with_front(*points)).expected_top1(151) is None


def test_without_metrics_the_front_is_empty(entry_copy, reseal):
    (entry_copy / "metrics.json").unlink()
    reseal(entry_copy)
    entry = find_entry(f"local-dir:{entry_copy}")
    assert (entry.front(calibrated=False), entry.front(calibrated=True), entry.expected_top1(1)) == ([], [], None)


def test_the_size_on_disk_is_that_of_all_files_of_the_policy(tiny):
    entry = find_entry(tiny.name)
    for published in entry.published:
        files = (tiny.folder / "policies" / published.name).iterdir()
        assert published.disk_bytes == sum(path.stat().st_size for path in files) > published.size_bytes
    assert [policy["disk_bytes"] for policy in entry.summary()["policies"]] == [
        published.disk_bytes for published in entry.published
    ]


@pytest.mark.parametrize("images", [0, -3, 10**400, None])
def test_a_number_of_images_that_cannot_be_gives_no_standard_error(images):
    measured = Measurement("photos", images, "validation", None, None)
    assert measured.standard_error(50.0) is None
    assert top1_text(50.0, measured) == top1_text(50.0, None) == "50.00 %"
