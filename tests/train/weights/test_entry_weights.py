"""An entry as weights: its float network, with the pictures, size and arguments of the entry; what is none is told."""

import json
import shlex
from dataclasses import replace

import pytest
import torch
from torch import nn

from limpq_hub.errors import ArtifactError, TrainingError, UnknownModelError
from limpq_hub.train import indicators
from limpq_hub.train.loop.provenance import weights_record
from limpq_hub.train.settings import Invocation, NetworkSettings
from limpq_hub.train.weights import networks as _networks
from limpq_hub.train.weights.networks import classifier_for, float_network, float_network_of
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_folder import load_float_network, save_float_network, seal_entry
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.tensors import tensors_to_bytes

OWN = {
    "mean": [0.1, 0.2, 0.3],
    "std": [0.5, 0.6, 0.7],
    "crop_pct": 0.9,
    "crop_mode": "squash",
    "interpolation": "bicubic",
}


@pytest.fixture
def entry(with_float, reseal):
    """A copy of the tiny entry, with its float network and pictures prepared in a way of its own."""
    reseal(with_float, **OWN)
    return find_entry(f"local-dir:{with_float}")


@pytest.fixture
def start(entry):
    return NetworkSettings(entry.folder.config["architecture"], None, None)


@torch.no_grad()
def agree(one: nn.Module, other: nn.Module, size: int) -> bool:
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    return torch.equal(one(images), other(images))


@pytest.mark.parametrize("name", ["local-dir:{}", "{}/float.safetensors"])
def test_the_float_network_of_an_entry_comes_with_its_classes_size_and_pictures(entry, start, with_float, name):
    loaded = float_network(start, name.format(with_float), None)
    spec = NetworkSpec.of(loaded)
    assert spec == NetworkSpec.from_config(entry.folder.config, "it")
    assert (spec.mean, spec.crop_mode, spec.interpolation) == ((0.1, 0.2, 0.3), "squash", "bicubic")
    assert agree(loaded, load_float_network(entry.folder), spec.input_size)


def test_arguments_of_the_network_come_with_the_entry(entry_copy, tiny):
    spec = NetworkSpec.of(tiny.supernet)
    with_arguments = NetworkSpec(**{**vars(spec), "model_args": {"output_stride": 16}})
    save_float_network(entry_copy, with_arguments.build())
    seal_entry(entry_copy, with_arguments)
    loaded = float_network(NetworkSettings(spec.architecture, None, None), f"local-dir:{entry_copy}", None)
    assert NetworkSpec.of(loaded).model_args["output_stride"] == 16


def test_a_repository_of_an_entry_gives_the_same(entry, start, with_float, online):
    files = {path.relative_to(with_float).as_posix(): path for path in with_float.rglob("*") if path.is_file()}
    sha = online.hub.commit("you/mine", {name: path.read_bytes() for name, path in files.items()})
    for name in ("hf-hub:you/mine", f"hf-hub:you/mine@{sha}"):
        loaded = float_network(start, name, None)
        assert agree(loaded, load_float_network(entry.folder), NetworkSpec.of(loaded).input_size)


@pytest.mark.parametrize(
    ("provenance", "tag"),
    [
        ({"model": "test_resnet.mine", "command": "limpq indicators --recipe paper"}, "mine"),
        ({"command": "python training/indicators.py --model test_resnet.mine --data tiny"}, "mine"),
        ({"command": "python training/indicators.py --model=test_resnet.mine"}, "mine"),
        ({"model": "resnet18.mine"}, None),
        ({"command": "python training/indicators.py --recipe paper --data tiny"}, None),
        ({}, None),
    ],
)
def test_timms_own_weights_of_an_entry_are_of_the_tag_that_it_was_trained_from(
    entry, with_float, reseal, monkeypatch, provenance, tag
):
    asked = []

    def noted(start, weights, num_classes, option):
        asked.append((start.model, weights, option))

    monkeypatch.setattr(_networks, "float_network", noted)
    replace(entry.indicators, provenance=provenance).save(with_float / "indicators.json")
    reseal(with_float)
    recorded = find_entry(entry.name)
    float_network_of(recorded, "pretrained", "--teacher")
    float_network_of(recorded, "mine.safetensors")
    name = "test_resnet" if tag is None else f"test_resnet.{tag}"
    assert asked == [(name, "pretrained", "--teacher"), ("test_resnet", "mine.safetensors", "--weights")]


def test_another_training_and_a_new_head_start_from_it_too(entry, start, with_float):
    name = f"local-dir:{with_float}"
    assert agree(float_network_of(entry, name), load_float_network(entry.folder), 32)
    classes = entry.folder.config["num_classes"]
    settings = NetworkSettings(start.model, None, name)
    assert classifier_for(settings, classes)[1] is False
    network, new_head = classifier_for(settings, classes + 1)
    assert (network.num_classes, new_head) == (classes + 1, True)


def test_the_file_of_the_entry_is_what_is_noted(with_float):
    listed = json.loads((with_float / "config.json").read_text())["files"]["float.safetensors"]["sha256"]
    for name in (f"local-dir:{with_float}", f"{with_float}/float.safetensors"):
        assert weights_record(Invocation("", {"weights": name, "seed": 0})) == {"weights_sha256": listed}


def test_how_the_float_network_was_trained_is_what_the_entry_says(with_float):
    record = {"command": "accelerate launch training/pretrain.py", "seed": 3}
    (with_float / "metrics.json").write_text(json.dumps({"float": {"top1": 80.0, "provenance": record}, "joint": []}))
    for name in (f"local-dir:{with_float}", f"{with_float}/float.safetensors"):
        assert indicators._how_trained(name) == record
    (with_float / "metrics.json").write_text(json.dumps({"float": {"top1": 80.0}, "joint": []}))
    assert indicators._how_trained(f"local-dir:{with_float}") == {"weights": f"local-dir:{with_float.name}"}


@pytest.mark.parametrize(
    "record",
    [
        [{"epoch": 1}],
        {"command": ["python", "train.py"]},
        {"command": "python train.py", "data": "imagenet at /home/ada/private"},
        {"command": "python train.py", "versions": ["limpq-hub"]},
        "text",
    ],
)
def test_what_another_tool_wrote_beside_weights_is_no_record_of_their_training(tmp_path, record):
    (tmp_path / "metrics.json").write_text(json.dumps(record))
    weights = tmp_path / "model.safetensors"
    weights.touch()
    assert indicators._how_trained(str(weights)) == {"weights": "model.safetensors"}
    (tmp_path / "metrics.json").write_text("epoch,top1\n1,50.0\n")
    assert indicators._how_trained(str(weights)) == {"weights": "model.safetensors"}
    ours = {"command": f"pretrain --output {tmp_path}/out", "seed": 1, "versions": {"limpq-hub": "0"}, "top1": 50.0}
    (tmp_path / "metrics.json").write_text(json.dumps(ours))
    assert indicators._how_trained(str(weights)) == ours | {"command": "pretrain --output out"}


def test_a_damaged_entry_and_one_without_a_float_network_are_refused(start, with_float, entry_copy, reseal):
    (with_float / "float.safetensors").write_bytes(b"other")
    with pytest.raises(ArtifactError, match="float.safetensors"):
        float_network(start, f"local-dir:{with_float}", None)
    (with_float / "float.safetensors").unlink()
    reseal(with_float)
    with pytest.raises(
        UnknownModelError, match="holds no float.safetensors; give an entry that holds its float network$"
    ):
        float_network(start, f"local-dir:{with_float}", None)


def test_a_fine_tuned_policy_and_joint_weights_are_refused_with_what_to_give(start, with_float):
    with pytest.raises(TrainingError, match="a fine-tuned policy, whose weights are integers; give the entry"):
        float_network(start, f"local-dir:{with_float}/policies/large", None)
    with pytest.raises(TrainingError, match="these are the joint weights of an entry") as caught:
        float_network(start, f"{with_float}/supernet.safetensors", None)
    option, name = shlex.split(str(caught.value).rpartition("give ")[2])
    assert option == "--weights"
    float_network(start, name, None)  # the advice is true


def test_files_of_this_library_that_are_no_float_network_are_told_by_what_is_in_them(start, with_float, tmp_path):
    """Wherever they lie, and whatever they are called."""
    policy = with_float / "policies/large"
    state = {"model.fc.weight": torch.zeros(1), "optimizer.0.0.momentum_buffer": torch.zeros(1)}
    (tmp_path / "state").write_bytes(tensors_to_bytes(state))
    (tmp_path / "anchors").write_bytes(tensors_to_bytes({"12.bn1.running_mean": torch.zeros(1)}))
    tuned = "this is a fine-tuned policy, whose weights are integers, with its step sizes; give the entry that it was"
    steps = "these are weights of a quantized network, with the steps of its quantizers; give the entry, as local-dir:"
    for file, message in [
        (policy / "model.safetensors", tuned),
        (with_float / "supernet.safetensors", steps),
        (tmp_path / "state", "this is the saved state of a training; give what the training left in its --output when"),
        (tmp_path / "anchors", "these are the BatchNorm statistics of the policies of an entry; give the entry, as lo"),
        (policy / "policy.json", "this is a policy (the bits of each layer), and the safetensors file of a float netw"),
        (with_float / "indicators.json", "this is indicators (the importance of each layer), and the safetensors fil"),
    ]:
        copied = tmp_path / f"{file.name}-copy.safetensors"
        copied.write_bytes(file.read_bytes())
        for place in [copied] if "supernet" in file.name else [copied, file]:
            with pytest.raises(TrainingError) as caught:
                float_network(start, str(place), None)
            assert str(caught.value).startswith("--weights '/")
            assert f": {message}" in str(caught.value)


def test_a_folder_and_a_bundled_name_are_told_with_what_to_type(start, with_float, limpq, tmp_path, monkeypatch):
    with pytest.raises(TrainingError, match=" is a folder: write --weights ") as caught:
        float_network(start, str(with_float), None)
    float_network(start, shlex.split(str(caught.value))[-1], None)
    bundled = NetworkSettings("resnet18", None, None)
    with pytest.raises(
        TrainingError, match="there is no such file; it names a bundled entry: run limpq pull"
    ) as caught:
        float_network(bundled, "resnet18.tiny_imagenet", None)
    monkeypatch.chdir(tmp_path)
    pull, _, weights = str(caught.value).rpartition(": run limpq ")[2].partition(" and give --weights ")
    assert limpq(*shlex.split(pull))[0] == 0
    assert float_network(bundled, weights, None).num_classes == 200
