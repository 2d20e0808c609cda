"""Tests of `NetworkSpec`: what a network was built with and how its pictures are cropped comes back from a file."""

import json
import re
from functools import partial

import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform
from timm.layers import GroupNormAct
from torch import nn

import limpq_hub
from limpq_hub.errors import ArtifactFormatError, ArtifactVersionError, UnsupportedLayerError
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import select_policy, to_supernet
from limpq_hub.quant.learned_indicators import read_indicators
from limpq_hub.quant.profile import profile_module
from limpq_hub.zoo import seal
from limpq_hub.zoo.assembly import assemble_entry
from limpq_hub.zoo.checkpoint import save_checkpoint
from limpq_hub.zoo.entry_folder import load_float_network, save_entry, save_float_network, seal_entry
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.timm_network import timm_network

ARGUMENTS = {"pad_type": "same", "channel_multiplier": 1.4}
CONFIG = {
    "architecture": "test_efficientnet",
    "num_classes": 3,
    "input_size": 32,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "crop_pct": 0.875,
}


def network_of(**options: object) -> nn.Module:
    torch.manual_seed(0)
    overlay = {"input_size": (3, 32, 32), **options.pop("overlay", {})}
    return timm.create_model("test_efficientnet", num_classes=3, pretrained_cfg_overlay=overlay, **options).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def saved(images, tmp_path_factory):
    """The folders of an entry and of a checkpoint of a network with arguments; the network, and a supernet of it."""
    folder = tmp_path_factory.mktemp("arguments")
    network = network_of(**ARGUMENTS, overlay={"crop_mode": "squash"})
    costs = profile_module(network, images)
    supernet = to_supernet(network, (8, 3), example_input=images)
    indicators = read_indicators(supernet, costs, input_size=32, num_classes=3)
    save_float_network(folder / "entry", network)
    save_entry(folder / "entry", supernet, indicators, [{"id": str(index), "name": str(index)} for index in range(3)])
    (folder / "entry/metrics.json").write_text("{}")
    seal_entry(folder / "entry", NetworkSpec.of(supernet))
    tuned = select_policy(supernet, Policy.uniform("test_efficientnet", costs, 3, input_size=32)).eval()
    save_checkpoint(folder / "checkpoint", tuned, costs)
    assemble_entry(
        open_local_folder(folder / "entry", "entry"),
        {"w3a3": open_local_folder(folder / "checkpoint", "checkpoint")},
        folder / "published",
    )
    return folder, network, tuned


def test_a_network_is_known_by_what_timm_was_asked_for(images):
    network = network_of(**ARGUMENTS, drop_rate=0.2)
    spec = NetworkSpec.of(network)
    assert spec.model_args == ARGUMENTS
    again = NetworkSpec.from_config(json.loads(json.dumps(spec.to_config())), "x")
    assert (again, hash(again)) == (spec, hash(spec))
    built = again.build()
    built.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(built(images), network(images))
    assert NetworkSpec.of(built) == spec
    # The same tensors fit with another padding, and mean another function: the arguments must not get lost.
    other = NetworkSpec.from_config(spec.to_config() | {"model_args": {"channel_multiplier": 1.4}}, "x").build()
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert not torch.allclose(other(images), network(images))


def test_a_timm_that_keeps_no_record_of_the_arguments_is_helped_by_ours(monkeypatch):
    create_model = timm.create_model

    def without_record(*arguments: object, **options: object) -> nn.Module:
        network = create_model(*arguments, **options)
        del network._model_args
        return network

    monkeypatch.setattr(timm, "create_model", without_record)
    built = timm_network("test_efficientnet", input_size=32, num_classes=3, pretrained=False, pad_type="same")
    assert NetworkSpec.of(built).model_args == {"pad_type": "same"}


def test_an_entry_and_its_checkpoint_come_back_as_the_network_with_its_arguments(saved, images):
    folder, network, tuned = saved
    shipped = load_float_network(open_local_folder(folder / "entry", "entry"))
    loaded = limpq_hub.load(f"local-dir:{folder}/published", bitops="w3a3", weights="finetuned")
    assert NetworkSpec.of(shipped) == NetworkSpec.of(network) == loaded.limpq.network
    assert (loaded.limpq.network.model_args, loaded.limpq.network.crop_mode) == (ARGUMENTS, "squash")
    with torch.no_grad():
        torch.testing.assert_close(shipped(images), network(images), rtol=0, atol=2e-2)
        torch.testing.assert_close(loaded(images), tuned(images))


@pytest.mark.parametrize("kind", ["entry", "checkpoint"])
def test_a_version_that_knows_no_arguments_refuses_the_folder(saved, kind, monkeypatch):
    path = saved[0] / kind
    config = json.loads((path / "config.json").read_text())
    number = {"entry": 6, "checkpoint": 4}[kind]
    assert (config["format"], config["model_args"], config["crop_mode"]) == (number, ARGUMENTS, "squash")
    monkeypatch.setattr(seal, "_READ_FORMATS", (1, 2))
    with pytest.raises(ArtifactVersionError, match=rf"format {number} is not one of .*; upgrade limpq-hub"):
        open_local_folder(path, kind)


def test_a_folder_without_arguments_names_none(tiny):
    for path, number in ((tiny.folder, 5), (tiny.folder / "policies/small", 4)):
        config = json.loads((path / "config.json").read_text())
        assert config["format"] == number
        assert not {"model_args", "crop_mode"} & config.keys()
    spec = NetworkSpec.from_config(CONFIG, "x")
    assert (spec.model_args, spec.crop_mode) == ({}, "center")
    assert spec.to_config() == CONFIG


def test_either_of_both_makes_the_folder_one_of_format_3(tmp_path):
    for change in ({"crop_mode": "border"}, {"model_args": {"pad_type": "same"}}):
        assert seal.format_of(NetworkSpec.from_config(CONFIG | change, "x").to_config()) == 3
    assert (
        seal.format_of(NetworkSpec.from_config(CONFIG | {"crop_mode": "center", "model_args": {}}, "x").to_config())
        == 2
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_args": None}, "x/config.json: model_args must be an object, found None"),
        ({"model_args": {"exec": "1"}}, "x/config.json: model_args: 'exec' is not an argument that can be kept"),
        ({"model_args": {"pad_type": 3}}, "x/config.json: model_args: pad_type must be one of "),
        ({"crop_mode": "fit"}, "x/config.json: mean, std, interpolation or crop_mode is not how pictures can be"),
        ({"crop_mode": 3}, "x/config.json: crop_mode must be text, found 3"),
    ],
)
def test_arguments_and_crops_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ArtifactFormatError, match=f"^{re.escape(message)}"):
        NetworkSpec.from_config(CONFIG | changes, "x")


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("test_resnet", {"pad_type": "same"}),
        ("mobilenetv2_100", {"channel_multiplier": 1.4}),
        ("test_vit", {"num_heads": 7}),
    ],
)
def test_an_argument_that_the_network_does_not_take_is_an_error_and_no_traceback(architecture, arguments):
    spec = NetworkSpec.from_config(CONFIG | {"architecture": architecture, "model_args": arguments}, "x")
    ((name, value),) = arguments.items()
    with pytest.raises(
        ArtifactFormatError, match=f"^timm cannot build {architecture} {name}={value} at 32 pixels with 3"
    ):
        spec.build()


def test_a_network_with_an_argument_that_no_file_can_hold_is_refused_by_name():
    network = network_of(norm_layer=partial(GroupNormAct, group_size=8))
    message = (
        "^test_efficientnet was built by timm with an argument that no entry or checkpoint can hold: 'norm_layer' is "
        "not an argument that can be kept"
    )
    with pytest.raises(UnsupportedLayerError, match=message):
        NetworkSpec.of(network)


@pytest.mark.parametrize("arguments", [{}, {"pad_type": "same"}])
def test_a_checkpoint_of_the_network_with_other_arguments_is_not_published_with_the_entry(
    saved, images, tmp_path, arguments
):
    network = network_of(**arguments)
    costs = profile_module(network, images)
    supernet = to_supernet(network, (8, 3), example_input=images)
    tuned = select_policy(supernet, Policy.uniform("test_efficientnet", costs, 3, input_size=32)).eval()
    save_checkpoint(tmp_path / "checkpoint", tuned, costs)
    with pytest.raises(
        ArtifactFormatError, match=r"entry of test_efficientnet channel_multiplier=1.4 pad_type=same at"
    ):
        assemble_entry(
            open_local_folder(saved[0] / "entry", "entry"),
            {"w3a3": open_local_folder(tmp_path / "checkpoint", "checkpoint")},
            tmp_path / "published",
        )
    assert not (tmp_path / "published").exists()


def test_a_checkpoint_for_other_pictures_is_not_published_with_the_entry(saved, images, tmp_path):
    tuned = saved[2]
    before = tuned.pretrained_cfg
    tuned.pretrained_cfg = before | {"crop_mode": "center"}
    save_checkpoint(tmp_path / "checkpoint", tuned, profile_module(saved[1], images))
    tuned.pretrained_cfg = before
    with pytest.raises(ArtifactFormatError, match=r"is for pictures prepared with .*\(center\).*, the entry for"):
        assemble_entry(
            open_local_folder(saved[0] / "entry", "entry"),
            {"w3a3": open_local_folder(tmp_path / "checkpoint", "checkpoint")},
            tmp_path / "published",
        )


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(90, 40), (40, 90), (64, 64), (20, 30)])
def test_a_picture_becomes_the_pixels_that_timm_makes_of_it(crop_mode, size):
    network = network_of(overlay={"crop_mode": crop_mode, "crop_pct": 0.9})
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    picture = Image.fromarray(pixels.numpy())
    settings = timm.data.resolve_model_data_config(network)
    expected = create_transform(**settings, is_training=False)(picture)
    assert torch.equal(NetworkSpec.of(network).transform()(picture), expected)


def test_networks_that_timm_measured_on_squashed_pictures_are_known_as_such():
    assert NetworkSpec.of(timm.create_model("convnext_atto.d2_in1k")).crop_mode == "center"
    modes = {timm.get_pretrained_cfg(name).crop_mode for name in timm.list_models()}
    assert modes == {"center", "squash", "border"}
