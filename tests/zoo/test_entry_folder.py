"""Tests of entry folders: the supernet comes back in half precision, and indicators that do not fit are refused."""

import copy
import dataclasses
import json
import re
import zlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from limpq_hub.errors import ArtifactError, ArtifactFormatError, ArtifactIntegrityError, UnsupportedLayerError
from limpq_hub.plan.indicators import Indicators
from limpq_hub.quant.convert import select_policy, set_policy_
from limpq_hub.quant.learned_indicators import read_indicators
from limpq_hub.zoo.anchors import save_anchors
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.checkpoint import save_checkpoint
from limpq_hub.zoo.entry_folder import (
    check_costs,
    load_float_network,
    load_supernet,
    save_entry,
    save_float_network,
    seal_entry,
)
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.loading import load
from limpq_hub.zoo.network import NetworkSpec

LAYER = "layer2.0.conv1"
CLASSES = [{"id": f"n{index}", "name": "noise"} for index in range(10)]


def read_supernet(folder):
    sealed = open_local_folder(folder, "entry")
    return load_supernet(sealed, Indicators.from_json(sealed.read_json("indicators.json")))


def stored_halves(path) -> dict[str, torch.Tensor]:
    """Return what a file holds in half precision, its planes put together with zlib and arithmetic alone."""
    tensors, halves = load_file(path), {}
    for name in [key.removesuffix(".high_coded") for key in tensors if key.endswith(".high_coded")]:
        high = torch.tensor(list(zlib.decompress(tensors.pop(f"{name}.high_coded").numpy().tobytes())))
        low = tensors.pop(f"{name}.low")
        bits = (256 * high.reshape(low.shape) + low.long() + 2**15) % 2**16 - 2**15
        halves[name] = bits.to(torch.int16).view(torch.float16)
    return halves | {name: value for name, value in tensors.items() if value.dtype is torch.float16}


@pytest.fixture
def edit_indicators(entry_copy, reseal):
    """A function that changes the keys of indicators.json, or of one layer in it, and lists the file anew."""

    def edit(layer: str | None = None, **changes) -> None:
        path = entry_copy / "indicators.json"
        content = json.loads(path.read_text())
        (content["layers"][layer] if layer else content).update(changes)
        path.write_text(json.dumps(content))
        reseal(entry_copy)

    return edit


def test_a_supernet_comes_back_as_half_precision_leaves_it(tiny):
    loaded = read_supernet(tiny.folder)
    assert not any(module.training for module in loaded.modules())
    original, found = tiny.supernet.state_dict(), loaded.state_dict()
    assert list(found) == list(original)
    for name, value in original.items():
        expected = value.to(torch.float16).to(torch.float32) if value.ndim > 1 else value
        assert torch.equal(found[name], expected), name
        assert found[name].dtype == value.dtype, name


def test_only_weights_are_stored_in_half_precision(tiny):
    stored = load_file(tiny.folder / "supernet.safetensors")
    halved = stored_halves(tiny.folder / "supernet.safetensors")
    assert halved.keys() == {f"{name}.weight" for name in tiny.costs}
    for name, value in halved.items():
        assert torch.equal(value, tiny.supernet.state_dict()[name].half()), name
    assert all(stored[name].dtype is torch.float32 for name in stored if name.endswith((".step", ".running_var")))
    weights = sum(cost.weights for cost in tiny.costs.values())
    assert (tiny.folder / "supernet.safetensors").stat().st_size < 1.75 * weights + 200_000


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("bn1.copies.3.running_mean", torch.nan),
        ("bn1.copies.3.running_var", -0.5),
        (f"{LAYER}.activation_quantizer.step", torch.nan),
        (f"{LAYER}.weight", torch.inf),
        ("fc.bias", -torch.inf),
    ],
)
def test_what_could_not_be_loaded_again_leaves_the_entry_that_is_there(tiny, entry_copy, place, value):
    before = {path: path.read_bytes() for path in entry_copy.rglob("*") if path.is_file()}
    spoilt = copy.deepcopy(tiny.supernet)
    with torch.no_grad():
        spoilt.state_dict()[place].flatten()[0] = value
    told = rf"^tensor {re.escape(place)} has a value that is not finite \(nan or inf\), or a variance below 0, "
    with pytest.raises(UnsupportedLayerError, match=told):
        save_entry(entry_copy, spoilt, tiny.indicators, [])
    assert {path: path.read_bytes() for path in entry_copy.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("place", "value"), [("bn1.running_mean", torch.nan), (f"{LAYER}.weight", torch.inf)])
def test_a_float_network_that_could_not_be_loaded_again_leaves_the_one_that_is_there(
    with_float, float_network, place, value
):
    before = (with_float / "float.safetensors").read_bytes()
    with torch.no_grad():
        float_network.state_dict()[place].flatten()[0] = value
    with pytest.raises(UnsupportedLayerError, match=rf"^tensor {re.escape(place)} has a value that is not finite "):
        save_float_network(with_float, float_network)
    assert (with_float / "float.safetensors").read_bytes() == before


def test_large_weights_are_stored_in_planes_and_small_ones_as_they_are(tiny):
    stored, state = load_file(tiny.folder / "supernet.safetensors"), tiny.supernet.state_dict()
    for name in (f"{name}.weight" for name in tiny.costs):
        assert (f"{name}.low" in stored) == (f"{name}.high_coded" in stored) == (2 * state[name].numel() >= 4096), name
        assert (name in stored) == (2 * state[name].numel() < 4096), name
    assert {"fc.weight", "layer1.0.conv1.weight.low"} <= stored.keys()


@pytest.mark.parametrize("which", ["small", "large", "joint"])
def test_a_loaded_supernet_switches_and_computes_like_the_trained_one(tiny, which):
    policy = tiny.joint if which == "joint" else tiny.policies[which]
    halved = select_policy(tiny.supernet, policy)
    with torch.no_grad():
        for parameter in halved.parameters():
            parameter.copy_(parameter.half().float() if parameter.ndim > 1 else parameter)
        loaded = set_policy_(read_supernet(tiny.folder), policy)
        assert torch.equal(loaded(tiny.images), halved.eval()(tiny.images))


def test_the_indicators_of_a_loaded_supernet_are_those_of_its_entry(tiny):
    again = read_indicators(
        read_supernet(tiny.folder),
        tiny.costs,
        input_size=32,
        num_classes=10,
        provenance=tiny.indicators.provenance,
    )
    assert again.to_json() == tiny.indicators.to_json()
    assert Indicators.load(tiny.folder / "indicators.json").to_json() == tiny.indicators.to_json()


def test_saving_an_entry_writes_no_policies_and_no_metrics(tiny, tmp_path):
    save_entry(tmp_path, tiny.supernet, tiny.indicators, CLASSES)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "classes.json",
        "indicators.json",
        "supernet.safetensors",
    }
    entry = find_entry(f"local-dir:{tmp_path}")
    assert entry.published == ()
    assert entry.metrics == {}
    assert (tmp_path / "supernet.safetensors").read_bytes() == (tiny.folder / "supernet.safetensors").read_bytes()


@pytest.mark.parametrize(
    "changes",
    [{"macs": 1}, {"macs_limpq": 1}, {"weights": 1}, {"inputs": 1}],
    ids=str,
)
def test_indicators_that_count_another_cost_are_refused_by_layer(tiny, entry_copy, edit_indicators, changes):
    edit_indicators(LAYER, **changes)
    message = (
        rf"indicators\.json does not fit test_resnet at 32 pixels: layer {re.escape(LAYER)} is LayerCost\(.*=1[,)]"
    )
    with pytest.raises(ArtifactIntegrityError, match=message):
        read_supernet(entry_copy)
    with pytest.raises(ArtifactIntegrityError, match=re.escape(LAYER)):
        load(f"local-dir:{entry_copy}", bitops="w3a3", weights="joint")


def test_indicators_that_count_another_cost_do_not_pass_with_a_fine_tuned_checkpoint(tiny, entry_copy, edit_indicators):
    edit_indicators(LAYER, macs=1)
    with pytest.raises(ArtifactIntegrityError, match=r"indicators\.json|policies/small"):
        load(f"local-dir:{entry_copy}", policy=tiny.policies["small"], weights="finetuned")


def test_indicators_that_count_what_a_convolution_pads_for_itself_are_read_as_versions_before_wrote_them():
    entry, layer = find_entry("mobilenetv2_100"), "blocks.1.0.conv_dw"
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    network = spec.build()

    def check(inputs: int) -> None:
        costs = dict(entry.indicators.costs)
        costs[layer] = dataclasses.replace(costs[layer], inputs=inputs)
        check_costs(dataclasses.replace(entry.indicators, costs=costs), spec, network, entry.name)

    assert entry.indicators.costs[layer].inputs == 96 * 112 * 112
    check(96 * 112 * 112)
    check(96 * 113 * 113)
    for inputs in (96 * 112 * 113, 96 * 113 * 113 + 1):
        with pytest.raises(ArtifactIntegrityError, match=re.escape(layer)):
            check(inputs)


def test_indicators_with_a_layer_too_few_or_too_many_are_refused_by_layer(entry_copy, reseal):
    path = entry_copy / "indicators.json"
    original = json.loads(path.read_text())
    fewer, more = json.loads(path.read_text()), json.loads(path.read_text())
    del fewer["layers"][LAYER]
    more["layers"]["layer9"] = original["layers"][LAYER]
    for content, layer, found in ((fewer, re.escape(LAYER), "None there"), (more, "layer9", r"gives None")):
        path.write_text(json.dumps(content))
        reseal(entry_copy)
        with pytest.raises(ArtifactIntegrityError, match=rf"does not fit test_resnet .* layer {layer} is .*{found}"):
            read_supernet(entry_copy)


def test_indicators_that_free_a_fixed_layer_are_refused_by_layer(entry_copy, edit_indicators, tiny):
    steps = {"4": 0.1, "3": 0.2, "2": 0.3}
    edit_indicators("fc", fixed=None, weight_steps=steps, activation_steps=steps)
    with pytest.raises(ArtifactIntegrityError, match="does not fit test_resnet at 32 pixels: layer fc is LayerCost"):
        read_supernet(entry_copy)


def test_indicators_with_other_candidates_than_the_supernet_are_refused(entry_copy, edit_indicators, tiny):
    content = tiny.indicators.to_json()
    for layer in content["layers"].values():
        for kind in ("weight_steps", "activation_steps"):
            if kind in layer:
                del layer[kind]["4"]
    edit_indicators(candidates=[3, 2], layers=content["layers"])
    with pytest.raises(
        ArtifactFormatError, match=r"supernet\.safetensors: tensor .*\.copies\.4\..* is not part of the"
    ):
        read_supernet(entry_copy)


@pytest.mark.parametrize("changes", [{"model": "resnet18"}, {"input_size": 224}, {"num_classes": 1000}], ids=str)
def test_indicators_for_another_network_are_refused(entry_copy, edit_indicators, changes):
    edit_indicators(**changes)
    with pytest.raises(ArtifactIntegrityError, match=r"indicators\.json"):
        read_supernet(entry_copy)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fc.bias", None, "tensor fc.bias is missing"),
        ("extra", torch.ones(1), "tensor extra is not part of the network"),
        ("fc.bias", torch.ones(11), "tensor fc.bias is torch.float32 [11], the network needs [10]"),
        (f"{LAYER}.weight_quantizer.step", torch.ones(2), f"tensor {LAYER}.weight_quantizer.step is torch.float32 [2]"),
    ],
)
def test_tensors_that_do_not_fit_the_supernet_are_named(entry_copy, reseal, key, value, message):
    path = entry_copy / "supernet.safetensors"
    tensors = load_file(path) | {key: value}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    reseal(entry_copy)
    with pytest.raises(ArtifactFormatError, match=rf"supernet\.safetensors: {re.escape(message)}"):
        read_supernet(entry_copy)


@pytest.mark.parametrize("step", [0.0, -0.1, float("nan"), float("inf")])
def test_a_step_of_the_supernet_that_is_no_number_above_zero_is_refused(entry_copy, reseal, step):
    path = entry_copy / "supernet.safetensors"
    tensors = load_file(path)
    tensors[f"{LAYER}.activation_quantizer.step"] = torch.full((3,), step)
    save_file(tensors, path)
    reseal(entry_copy)
    with pytest.raises(ArtifactError, match=rf"supernet\.safetensors: .*{re.escape(LAYER)}"):
        read_supernet(entry_copy)


@pytest.mark.parametrize(
    "changes", [{"num_classes": 11}, {"input_size": 64}, {"architecture": "test_byobnet"}], ids=str
)
def test_a_config_for_another_network_is_refused(entry_copy, reseal, changes):
    reseal(entry_copy, **changes)
    with pytest.raises(
        ArtifactIntegrityError, match=r"indicators\.json is for test_resnet at 32 pixels with 10 classes"
    ):
        read_supernet(entry_copy)


def test_an_input_size_that_the_network_does_not_take_is_refused(entry_copy, reseal):
    reseal(entry_copy, architecture="test_vit", input_size=64)
    with pytest.raises(ArtifactError, match=r"test_vit.* 64 pixels"):
        read_supernet(entry_copy)


# The float network


def test_a_float_network_comes_back_as_half_precision_leaves_it(with_float, float_network, tiny):
    original = float_network.state_dict()
    found = load_float_network(open_local_folder(with_float, "entry"))
    assert not any(module.training for module in found.modules())
    assert list(found.state_dict()) == list(original)
    for name, value in found.state_dict().items():
        halved = original[name].to(torch.float16).to(torch.float32) if value.ndim > 1 else original[name]
        assert torch.equal(value, halved), name
        assert value.dtype == original[name].dtype, name
    halves = stored_halves(with_float / "float.safetensors")
    assert halves.keys() == {f"{name}.weight" for name in tiny.costs}
    float_network.eval()
    with torch.no_grad():
        for parameter in float_network.parameters():
            parameter.copy_(parameter.half().float() if parameter.ndim > 1 else parameter)
        assert torch.equal(found(tiny.images), float_network(tiny.images))


def test_an_entry_with_a_float_network_still_gives_its_supernet_and_policies(with_float, tiny):
    assert "float.safetensors" in open_local_folder(with_float, "entry").files
    assert torch.equal(read_supernet(with_float).fc.weight, read_supernet(tiny.folder).fc.weight)
    assert load(f"local-dir:{with_float}", bitops="w3a3").limpq.weights == "finetuned"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fc.bias", None, "tensor fc.bias is missing"),
        ("extra", torch.ones(1), "tensor extra is not part of the network"),
        ("fc.bias", torch.ones(7), "tensor fc.bias is torch.float32 [7], the network needs [10]"),
        ("fc.bias", torch.full((10,), float("nan")), "tensor fc.bias has a value that is not finite"),
    ],
)
def test_a_float_network_of_other_tensors_is_refused_by_tensor(with_float, reseal, key, value, message):
    path = with_float / "float.safetensors"
    tensors = load_file(path) | {key: value}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    reseal(with_float)
    with pytest.raises(ArtifactFormatError, match=rf"/float\.safetensors: {re.escape(message)}"):
        load_float_network(open_local_folder(with_float, "entry"))


def test_figures_and_anchors_of_the_entry_that_was_there_are_not_told_of_the_new_one(tiny, entry_copy, reseal):
    save_anchors(entry_copy, tiny.supernet, [tiny.joint], [tiny.images])
    reseal(entry_copy)
    assert {"metrics.json", "anchors.json", "anchors.safetensors"} <= set(
        find_entry(f"local-dir:{entry_copy}").folder.files
    )
    save_entry(entry_copy, tiny.supernet, tiny.indicators, CLASSES)
    entry = find_entry(f"local-dir:{entry_copy}")
    assert not [file for file in entry.folder.files if file.startswith(("metrics", "anchors"))]
    assert (entry.metrics, {policy.name for policy in entry.published}) == ({}, {"small", "large"})


@pytest.mark.parametrize(
    ("changes", "classes", "message"),
    [
        ({"model": "test_vit"}, CLASSES, "the indicators are of test_vit at 32 pixels with 10 classes, the network is"),
        ({"input_size": 64}, CLASSES, "the indicators are of test_resnet at 64 pixels with 10 classes, the network is"),
        ({"num_classes": 9}, CLASSES, "the indicators are of test_resnet at 32 pixels with 9 classes, the network is"),
        ({}, CLASSES[:3], "classes: 3 classes for a network of 10 outputs; there must be one for each output$"),
        ({}, [], "classes: 0 classes for a network of 10 outputs"),
        ({}, [*CLASSES[:9], CLASSES[0]], "classes: the id 'n0' stands twice; give each class an id of its own$"),
        ({}, [{"id": "n"}] * 10, "classes: name is missing"),
    ],
)
def test_what_is_not_of_the_network_is_refused_before_anything_is_written(tiny, entry_copy, changes, classes, message):
    before = {path: path.read_bytes() for path in entry_copy.rglob("*") if path.is_file()}
    with pytest.raises(ArtifactFormatError, match=f"^{message}"):
        save_entry(entry_copy, tiny.supernet, dataclasses.replace(tiny.indicators, **changes), classes)
    assert {path: path.read_bytes() for path in entry_copy.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"interpolation": "area"}, "mean, std, interpolation or crop_mode is not how pictures can be prepared; they"),
        ({"crop_mode": "fit"}, "mean, std, interpolation or crop_mode is not how pictures can be prepared; they"),
        ({"std": (1e-4,) * 3}, "mean, std, interpolation or crop_mode is not how pictures can be prepared; they"),
        ({"mean": (0.5,)}, "mean, std, interpolation or crop_mode is not how pictures can be prepared; they"),
        ({"mean": (1e4,) * 3}, r"mean of \[10000.0, 10000.0, 10000.0\] is not how pictures can be prepared; they"),
        ({"crop_pct": 3.0}, r"crop_pct of 3\.0 cannot be, only 0\.01 to 2; they"),
    ],
)
def test_a_network_that_no_file_can_describe_is_refused_before_anything_is_written(tiny, tmp_path, changes, told):
    told = f"^no entry or checkpoint can hold test_resnet at 32 pixels with 10 classes: {told}"
    supernet, checkpoint = (copy.deepcopy(network) for network in (tiny.supernet, tiny.checkpoints["small"]))
    in_float = NetworkSpec.of(supernet).build()
    for network in (supernet, checkpoint, in_float):
        network.pretrained_cfg = dict(network.pretrained_cfg) | changes
    for save in (
        lambda: save_entry(tmp_path, supernet, tiny.indicators, CLASSES),
        lambda: save_float_network(tmp_path, in_float),
        lambda: save_checkpoint(tmp_path, checkpoint, tiny.costs),
    ):
        with pytest.raises(UnsupportedLayerError, match=told):
            save()
    assert not list(tmp_path.iterdir())


def test_an_architecture_that_nobody_can_build_is_refused(tiny, tmp_path):
    supernet = copy.deepcopy(tiny.supernet)
    supernet.pretrained_cfg = dict(supernet.pretrained_cfg) | {"architecture": "mine"}
    with pytest.raises(UnsupportedLayerError, match=r"^'mine' is not an architecture of timm, and no .*own_network$"):
        save_entry(tmp_path, supernet, tiny.indicators, CLASSES)


@pytest.mark.parametrize("there", ["another", "none"])
def test_a_supernet_without_the_float_network_that_it_moved_from_is_not_sealed(tiny, tmp_path, there):
    spec = NetworkSpec.of(tiny.supernet)
    in_float = spec.build()
    start = {name: value for name, value in tiny.supernet.state_dict().items() if name in in_float.state_dict()}
    in_float.load_state_dict(start, strict=False)
    save_float_network(tmp_path, in_float)
    save_entry(tmp_path, tiny.supernet, tiny.indicators, CLASSES)
    before = (tmp_path / "config.json").read_bytes()
    if there == "another":
        with torch.no_grad():
            in_float.fc.weight += 1
        save_float_network(tmp_path, in_float)
    else:
        (tmp_path / "float.safetensors").unlink()
    told = r"supernet\.safetensors cannot be read without the float\.safetensors that it was written beside; "
    told += {"another": "another one lies there now", "none": "which is gone"}[there]
    with pytest.raises(ArtifactIntegrityError, match=told):
        seal_entry(tmp_path, spec)
    assert (tmp_path / "config.json").read_bytes() == before
    save_float_network(tmp_path, in_float)
    save_entry(tmp_path, tiny.supernet, tiny.indicators, CLASSES)
    read_supernet(tmp_path)
