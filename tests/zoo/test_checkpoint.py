"""Tests of checkpoint folders: what was trained is what is read, and whatever does not fit the network is refused."""

import copy
import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import prune

from limpq_hub.errors import (
    ArtifactError,
    ArtifactFormatError,
    ArtifactIntegrityError,
    ArtifactVersionError,
    PolicyError,
    UnsupportedLayerError,
    quoted,
)
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import read_policy, select_policy, set_policy_, to_supernet
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.zoo.checkpoint import load_checkpoint, save_checkpoint
from limpq_hub.zoo.entry_folder import save_entry, save_float_network
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.network import NetworkSpec

LAYER = "layer1.0.conv1"
PACKED = "conv1.0"  # so small that a code would not pay
NAMES = ["small", "large"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_of_another_precision_is_stored_as_that_of_its_float32(tiny, tmp_path, dtype):
    network = select_policy(tiny.supernet, tiny.policies["small"]).to(dtype)
    save_checkpoint(tmp_path, network, tiny.costs)
    loaded, _ = load_checkpoint(open_local_folder(tmp_path, "checkpoint"))
    assert next(network.parameters()).dtype == dtype
    expected = {name: layer.quantized_weight() for name, layer in quantized_layers(network.float())}
    for name, layer in quantized_layers(loaded):
        assert torch.equal(layer.quantized_weight(), expected[name])


def test_what_cannot_be_stored_leaves_the_checkpoint_that_is_there(tiny, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    spoilt = select_policy(tiny.supernet, tiny.policies["large"])
    with torch.no_grad():
        spoilt.get_submodule(LAYER).weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(UnsupportedLayerError, match=f"^layer '{LAYER}' has a weight that is not finite "):
        save_checkpoint(folder, spoilt, tiny.costs, unfinished=True)
    in_float = select_policy(tiny.supernet, tiny.policies["large"])
    in_float.get_submodule(LAYER).set_bits_(None)
    with pytest.raises(PolicyError, match=f"^layer '{LAYER}' runs in float"):
        save_checkpoint(folder, in_float, tiny.costs)
    tuned = select_policy(tiny.supernet, tiny.policies["large"])
    with pytest.raises(ArtifactFormatError, match="^classes: 2 classes for a network of 10 outputs; "):
        save_checkpoint(folder, tuned, tiny.costs, classes=("a", "b"))
    with pytest.raises(ArtifactFormatError, match="^classes: the id 'a' stands twice; "):
        save_checkpoint(folder, tuned, tiny.costs, classes=("a",) * 10)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def spoil_bias(network) -> None:
    network.fc.bias[0] = torch.inf


def spoil_mean(network) -> None:
    network.bn1.running_mean[0] = torch.nan


def spoil_variance(network) -> None:
    network.bn1.running_var[0] = -1.0


def spoil_input_step(network) -> None:
    network.get_submodule(LAYER).activation_quantizer.step.fill_(torch.nan)


def spoil_weight_step(network) -> None:
    network.get_submodule(LAYER).weight_quantizer.step.fill_(torch.inf)


def add_complex_buffer(network) -> None:
    network.register_buffer("turns", torch.ones(2, dtype=torch.complex64))


NOT_FINITE = r"has a value that is not finite \(nan or inf\), or a variance below 0, with which it could not be loaded "


@pytest.mark.parametrize("unfinished", [False, True])
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoil_bias, rf"^tensor fc\.bias {NOT_FINITE}again: look at how the network was trained, and at its images$"),
        (spoil_mean, rf"^tensor bn1\.running_mean {NOT_FINITE}"),
        (spoil_variance, rf"^tensor bn1\.running_var {NOT_FINITE}"),
        (spoil_input_step, f"^layer '{LAYER}' has a step that is not finite .* look at how the network was trained$"),
        (spoil_weight_step, f"^layer '{LAYER}' has a step that is not finite "),
        (
            add_complex_buffer,
            r"^tensor turns is torch\.complex64, which no artifact has: keep real numbers in its place",
        ),
    ],
)
def test_what_could_not_be_loaded_again_leaves_the_checkpoint_that_is_there(tiny, folder, spoil, told, unfinished):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    spoilt = select_policy(tiny.supernet, tiny.policies["large"])
    with torch.no_grad():
        spoil(spoilt)
    with pytest.raises(UnsupportedLayerError, match=told):
        save_checkpoint(folder, spoilt, tiny.costs, unfinished=unfinished)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("key", ["metrics", "provenance"])
def test_a_figure_that_json_has_not_leaves_the_checkpoint_that_is_there(tiny, folder, key):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    network = select_policy(tiny.supernet, tiny.policies["large"])
    with pytest.raises(ValueError, match="JSON compliant"):
        save_checkpoint(folder, network, tiny.costs, **{key: {"loss": float("nan")}})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_supernet_is_refused_with_how_to_choose_a_policy_of_it(tiny, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    set_to_one = set_policy_(copy.deepcopy(tiny.supernet), tiny.policies["large"])
    told = "is of a supernet, which has more than one policy needs, and a checkpoint holds one policy: give "
    told += r"limpq_hub\.quant\.convert\.select_policy\(supernet, policy\)$"
    with pytest.raises(PolicyError, match=rf"^'conv1\.3' {told}"):
        save_checkpoint(folder, set_to_one, tiny.costs)
    # One with a single bit-width has one step for each layer, and batch normalizations in a copy for it.
    network, images = NetworkSpec.of(tiny.supernet).build(), tiny.images
    single = set_policy_(to_supernet(network, (4,), example_input=images), tiny.policies["large"])
    with pytest.raises(PolicyError, match=rf"^'conv1\.\d' {told}"):
        save_checkpoint(folder, single, tiny.costs)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("compute", "told"),
    [
        (
            lambda layer: nn.utils.parametrizations.weight_norm(layer),
            rf'anew at every call; keep it with torch.*\.remove_parametrizations\(network\.{LAYER}, "weight"\)$',
        ),
        (
            lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
            r"or bias in a hook; keep it with .*prune\.remove$",
        ),
    ],
)
def test_a_layer_that_was_made_to_compute_its_weight_is_refused_with_how_to_keep_it(tiny, folder, compute, told):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    network = select_policy(tiny.supernet, tiny.policies["large"])
    compute(network.get_submodule(LAYER))
    told = rf"^{re.escape(LAYER)} \(\w*QuantConv2d\) cannot be stored: it computes its weight {told}"
    with pytest.raises(UnsupportedLayerError, match=told):
        save_checkpoint(folder, network, tiny.costs)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_layer_whose_bias_is_pruned_is_refused(tiny, folder):
    network = select_policy(tiny.supernet, tiny.policies["large"])
    prune.random_unstructured(network.fc, "bias", 0.5)
    with pytest.raises(
        UnsupportedLayerError, match=r"^fc \(QuantLinear\) cannot be stored: it computes its weight or b"
    ):
        save_checkpoint(folder, network, tiny.costs)
    prune.remove(network.fc, "bias")
    save_checkpoint(folder, network, tiny.costs)
    assert torch.equal(load_checkpoint(open_local_folder(folder, "checkpoint"))[0].fc.bias, network.fc.bias)


class Doubled(nn.Module):
    """A parametrization that says nothing of its own."""

    def forward(self, value):
        return 2 * value


@pytest.mark.parametrize(
    ("compute", "told"),
    [
        (lambda norm: prune.random_unstructured(norm, "weight", 0.5), "its weight or bias in a hook; .*"),
        (lambda norm: prune.random_unstructured(norm, "bias", 0.5), "its weight or bias in a hook; .*"),
        (
            lambda norm: nn.utils.parametrize.register_parametrization(norm, "bias", Doubled()),
            r'its bias anew at every call; .*remove_parametrizations\(network\.layer1\.0\.bn1, "bias"\)',
        ),
    ],
)
@pytest.mark.parametrize("stored", ["checkpoint", "supernet", "float"])
def test_a_norm_that_was_made_to_compute_what_it_has_is_refused(tiny, folder, compute, told, stored):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    network = {
        "checkpoint": lambda: select_policy(tiny.supernet, tiny.policies["large"]),
        "supernet": lambda: copy.deepcopy(tiny.supernet),
        "float": lambda: NetworkSpec.of(tiny.supernet).build(),
    }[stored]()
    save = {
        "checkpoint": lambda: save_checkpoint(folder, network, tiny.costs),
        "supernet": lambda: save_entry(folder, network, tiny.indicators, []),
        "float": lambda: save_float_network(folder, network),
    }[stored]
    norm = "layer1.0.bn1.copies.3" if stored == "supernet" else "layer1.0.bn1"
    compute(network.get_submodule(norm))
    told = told.replace(r"layer1\.0\.bn1", re.escape(norm))
    with pytest.raises(
        UnsupportedLayerError, match=rf"^{re.escape(norm)} \(\w+\) cannot be stored: it computes {told}$"
    ):
        save()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.fixture
def folder(entry_copy):
    """A copy of the checkpoint "small" that a test may forge."""
    return entry_copy / "policies" / "small"


@pytest.fixture
def check_refused(folder, reseal):
    """A function that lists the forged files with their right hashes, loads them, and returns the refusal."""

    def attempt(expected: type[ArtifactError] = ArtifactError, match: str = "", **changes) -> None:
        reseal(folder, **changes)
        with pytest.raises(expected, match=match):
            load_checkpoint(open_local_folder(folder, "checkpoint"))

    return attempt


@pytest.fixture
def edit_tensors(folder):
    """A function that changes the tensors of the checkpoint: a value of None takes one out."""

    def edit(**tensors) -> None:
        found = load_file(folder / "model.safetensors") | tensors
        save_file({name: value for name, value in found.items() if value is not None}, folder / "model.safetensors")

    return edit


@pytest.fixture
def edit_policy(folder):
    """A function that changes the bits of single layers in policy.json; returns the policy that it then holds."""

    def edit(model: str | None = None, **layers: LayerBits | None) -> Policy:
        path = folder / "policy.json"
        old = Policy.from_json(json.loads(path.read_text()))
        merged = {name: bits for name, bits in {**old.layers, **layers}.items() if bits is not None}
        policy = Policy(model or old.model, merged, old.input_size)
        path.write_text(json.dumps(policy.to_json()))
        return policy

    return edit


def read_checkpoint(tiny, name: str):
    return load_checkpoint(open_local_folder(tiny.folder / "policies" / name, "checkpoint"))


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_computes_what_the_trained_network_computed(tiny, name):
    loaded, policy = read_checkpoint(tiny, name)
    assert policy == tiny.policies[name]
    assert read_policy(loaded).layers == tiny.policies[name].layers
    assert not any(module.training for module in loaded.modules())
    with torch.inference_mode():
        assert torch.equal(loaded(tiny.images), tiny.checkpoints[name](tiny.images))


@pytest.mark.parametrize("name", NAMES)
def test_dequantized_weights_are_bit_equal_to_the_fake_quantized_ones_of_training(tiny, name):
    trained = dict(quantized_layers(tiny.checkpoints[name]))
    for layer_name, layer in quantized_layers(read_checkpoint(tiny, name)[0]):
        original = trained[layer_name]
        in_training = original.weight_quantizer(original.weight).detach()
        assert in_training.requires_grad is False
        assert torch.equal(layer.weight, in_training), layer_name
        # The formula of LSQ by hand: clamp to the grid, round, scale.
        step, bits = original.weight_quantizer.step.detach(), tiny.policies[name].layers[layer_name].weight
        by_hand = (original.weight.detach() / step).clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).round() * step
        assert torch.equal(layer.weight, by_hand), layer_name


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_of_b_bits_takes_at_most_two_to_the_b_levels(tiny, name):
    loaded, policy = read_checkpoint(tiny, name)
    levels = {layer_name: len(layer.weight.unique()) for layer_name, layer in quantized_layers(loaded)}
    assert all(2 <= count <= 2 ** policy.layers[layer_name].weight for layer_name, count in levels.items()), levels
    assert levels["fc"] > 16
    assert set(levels) == set(tiny.costs)


@pytest.mark.parametrize("name", NAMES)
def test_no_weight_takes_more_bytes_than_its_bits_and_the_config_claims_those(tiny, name):
    tensors = load_file(tiny.folder / "policies" / name / "model.safetensors")
    config = json.loads((tiny.folder / "policies" / name / "config.json").read_text())
    layers, stored = tiny.policies[name].layers, {}
    for key in ("weight_packed", "weight_coded"):
        stored |= {f.removesuffix(f".{key}"): (key, value) for f, value in tensors.items() if f.endswith(f".{key}")}
    assert stored.keys() == layers.keys()
    assert {key for key, _ in stored.values()} == {"weight_packed", "weight_coded"}
    for layer, (key, value) in stored.items():
        packed_bytes = tiny.costs[layer].weights * layers[layer].weight / 8
        assert value.dtype is torch.uint8
        assert len(value) == packed_bytes if key == "weight_packed" else len(value) < packed_bytes
    assert config["size_bytes"] * 8 == sum(tiny.costs[layer].weights * bits.weight for layer, bits in layers.items())
    assert config["bitops"] == sum(
        tiny.costs[layer].macs * bits.weight * bits.activation for layer, bits in layers.items()
    )


def test_saving_what_was_loaded_writes_the_same_tensors(tiny, tmp_path):
    loaded, _ = read_checkpoint(tiny, "small")
    save_checkpoint(tmp_path, loaded, tiny.costs, metrics={"top1": 61.5, "top5": 99.0, "images": 400})
    for file in ("model.safetensors", "policy.json", "metrics.json"):
        assert (tmp_path / file).read_bytes() == (tiny.folder / "policies/small" / file).read_bytes(), file


def test_a_checkpoint_without_metrics_has_no_metrics_file(tiny, tmp_path):
    save_checkpoint(tmp_path, tiny.checkpoints["small"], tiny.costs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors", "policy.json"]


@pytest.mark.parametrize(
    "key",
    ["fc.bias", "bn1.running_var", *(f"{LAYER}.{part}" for part in ("weight_coded", "weight_scale"))]
    + [f"{LAYER}.{part}" for part in ("weight_shape", "input_scale")],
)
def test_a_missing_tensor_is_named(check_refused, edit_tensors, key):
    edit_tensors(**{key: None})
    check_refused(ArtifactFormatError, rf"model\.safetensors: tensor {re.escape(key)} is missing")


@pytest.mark.parametrize("key", ["extra", f"{LAYER}.weight_packed.more", f"{PACKED}.weight_coded", "fc.weight_offset"])
def test_a_foreign_tensor_is_named(check_refused, edit_tensors, key):
    edit_tensors(**{key: torch.ones(1)})
    check_refused(ArtifactFormatError, rf"model\.safetensors: tensor {re.escape(key)} is not part of the network")


@pytest.mark.parametrize("value", [torch.zeros(9), torch.zeros(10, 1), torch.zeros(()), torch.zeros(10).long()])
def test_a_tensor_of_another_shape_or_kind_is_named(check_refused, edit_tensors, value):
    edit_tensors(**{"fc.bias": value})
    found = f"{value.dtype} {list(value.shape)}"
    check_refused(ArtifactFormatError, rf"tensor fc\.bias is {re.escape(found)}, the network needs \[10\]")


def test_another_weight_shape_is_refused(check_refused, edit_tensors, tiny):
    shape = list(tiny.checkpoints["small"].get_submodule(LAYER).weight.shape)
    swapped = [shape[1], shape[0] * 9, 1, 1]
    edit_tensors(**{f"{LAYER}.weight_shape": torch.tensor(swapped)})
    message = f"layer {LAYER} has weights of shape {swapped}, the network needs {shape}"
    check_refused(ArtifactFormatError, re.escape(message))
    edit_tensors(**{f"{LAYER}.weight_shape": torch.tensor(shape[0])})
    message = f"layer {LAYER} has weights of shape {shape[0]}, the network needs {shape}"
    check_refused(ArtifactFormatError, re.escape(message))


@pytest.mark.parametrize(
    "change",
    [
        lambda packed: packed[:-1],
        lambda packed: torch.cat([packed, packed[:1]]),
        lambda packed: packed[None],
        lambda packed: packed.to(torch.int8),
        lambda packed: packed.float(),
    ],
    ids=["shorter", "longer", "two-dimensional", "int8", "float"],
)
def test_packed_weights_of_another_size_or_kind_are_refused(check_refused, edit_tensors, tiny, change):
    packed = load_file(tiny.folder / "policies/small/model.safetensors")[f"{PACKED}.weight_packed"]
    edit_tensors(**{f"{PACKED}.weight_packed": change(packed).contiguous()})
    size = rf": \d+ integers of \d bits take {len(packed)} bytes, found \w+ \["
    message = rf"tensor {re.escape(PACKED)}\.weight_packed({size}| is torch\.\w+, it must be torch\.uint8)"
    check_refused(ArtifactFormatError, message)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda coded: coded[:-1], r": its stream ends before it has given \d+ integers of \d bits"),
        (lambda coded: torch.cat([coded, coded[:1]]), ": 1 bytes follow the end of its stream"),
        (lambda coded: coded.flip(0), ": its bytes are no zlib stream, or a damaged one"),
        (lambda coded: coded[None], r": a stream is of uint8 in one dimension, found uint8 \[1, \d+\]"),
        (lambda coded: coded.to(torch.int8), r" is torch\.int8, it must be torch\.uint8"),
        (lambda coded: coded.float(), r" is torch\.float32, it must be torch\.uint8"),
    ],
    ids=["shorter", "longer", "reversed", "two-dimensional", "int8", "float"],
)
def test_coded_weights_of_another_size_or_kind_are_refused(check_refused, edit_tensors, tiny, change, told):
    coded = load_file(tiny.folder / "policies/small/model.safetensors")[f"{LAYER}.weight_coded"]
    edit_tensors(**{f"{LAYER}.weight_coded": change(coded).contiguous()})
    check_refused(ArtifactFormatError, rf"tensor {re.escape(LAYER)}\.weight_coded{told}")


@pytest.mark.parametrize("coding", ["zstd", "", 3, ["deflate"], {}, True], ids=str)
def test_a_coding_that_this_version_does_not_know_is_refused(check_refused, coding):
    message = rf"config\.json: weight_coding {re.escape(quoted(coding))} is not 'deflate', the one that this version "
    check_refused(
        ArtifactVersionError, message + "reads; upgrade limpq-hub, or fetch the artifact again", weight_coding=coding
    )


@pytest.mark.parametrize("key", ["weight_scale", "input_scale"])
@pytest.mark.parametrize("scale", [[0.0], [-0.1], [float("nan")], [float("inf")], [0.1, 0.1], [], [[0.1]]], ids=str)
def test_a_scale_that_is_not_one_number_above_zero_is_refused(check_refused, edit_tensors, key, scale):
    edit_tensors(**{f"{LAYER}.{key}": torch.tensor(scale)})
    check_refused(ArtifactFormatError, rf"tensor {re.escape(LAYER)}\.{key} must be one number above 0")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bn1.running_var", -1.0),
        ("bn1.running_var", float("nan")),
        ("fc.bias", float("nan")),
        ("bn1.weight", torch.inf),
    ],
)
def test_values_that_no_training_leaves_behind_are_refused(check_refused, edit_tensors, tiny, key, value):
    edit_tensors(**{key: torch.full_like(tiny.checkpoints["small"].state_dict()[key], value)})
    check_refused(ArtifactFormatError, re.escape(key))


def test_a_weights_file_that_is_no_safetensors_is_refused(check_refused, folder):
    (folder / "model.safetensors").write_bytes(b"these are no weights, whatever the manifest says")
    check_refused(ArtifactFormatError, r"small/model\.safetensors is not a safetensors file: ")


def test_a_policy_that_lacks_a_layer_is_refused(check_refused, edit_policy):
    edit_policy(**{LAYER: None})
    check_refused(
        ArtifactFormatError, rf"policy\.json: the policy is for other layers: it lacks {re.escape(LAYER)}; give bits"
    )


def test_a_policy_with_a_foreign_layer_is_refused(check_refused, edit_policy):
    edit_policy(**{"layer9": LayerBits(2, 2)})
    check_refused(
        ArtifactFormatError, r"policy\.json: the policy is for other layers: it has foreign layer9; give bits"
    )


def test_a_policy_with_a_malformed_layer_is_refused(check_refused, folder):
    content = json.loads((folder / "policy.json").read_text())
    content["layers"][LAYER] = {"weight": 9, "activation": 2}
    (folder / "policy.json").write_text(json.dumps(content))
    check_refused(
        ArtifactFormatError, rf"policy\.json: layer '{re.escape(LAYER)}': weight bits of 9 cannot be: use a whole"
    )


def test_a_policy_of_another_format_is_told_with_its_file_and_what_to_do(check_refused, folder):
    content = json.loads((folder / "policy.json").read_text())
    (folder / "policy.json").write_text(json.dumps(content | {"format": 2}))
    check_refused(
        ArtifactVersionError, r"small/policy\.json: not a policy of format 1: found format 2; upgrade limpq-hub$"
    )


def test_a_policy_with_other_bits_fails_the_recount_however_much_is_forged(check_refused, edit_policy, tiny, folder):
    bits = tiny.policies["small"].layers[LAYER]
    config = json.loads((folder / "config.json").read_text())
    policy = edit_policy(**{LAYER: LayerBits(8, bits.activation)})
    says = rf"config\.json says {{}} '?{config['policy_sha256']}'?, a recount gives '?{policy.digest()}'?"
    check_refused(ArtifactIntegrityError, says.format("policy_sha256"))
    cost, more = tiny.costs[LAYER], 8 - bits.weight
    bitops = config["bitops"] + cost.macs * more * bits.activation
    says = f"config.json says bitops {config['bitops']}, a recount gives {bitops}"
    check_refused(ArtifactIntegrityError, re.escape(says), policy_sha256=policy.digest())
    size = config["size_bytes"] + cost.weights * more // 8
    says = f"config.json says size_bytes {config['size_bytes']}, a recount gives {size}"
    check_refused(ArtifactIntegrityError, re.escape(says), bitops=bitops)
    fewer = rf"{re.escape(LAYER)}\.weight_coded: its stream holds fewer than \d+ integers of 8 bits"
    check_refused(ArtifactFormatError, fewer, size_bytes=size)


@pytest.mark.parametrize("key", ["policy_sha256", "bitops", "size_bytes"])
def test_a_claim_that_is_wrong_or_missing_is_refused(check_refused, folder, key):
    says = rf"config\.json says {key} {{}}, a recount gives "
    check_refused(ArtifactIntegrityError, says.format("'?0'?"), **{key: 0})
    check_refused(ArtifactIntegrityError, says.format("None"), **{key: None})


def test_a_policy_for_another_architecture_is_refused(check_refused, edit_policy):
    policy = edit_policy(model="resnet50")
    check_refused(ArtifactError, "resnet50", policy_sha256=policy.digest())


def test_a_policy_for_another_input_size_is_refused(check_refused, folder):
    content = json.loads((folder / "policy.json").read_text())
    (folder / "policy.json").write_text(json.dumps(content | {"input_size": 224}))
    check_refused(ArtifactError, "224")


def test_an_architecture_that_timm_does_not_have_is_refused(check_refused):
    message = r"config\.json: 'no_such_net' is not an architecture of timm"
    check_refused(ArtifactFormatError, message, architecture="no_such_net")


@pytest.mark.parametrize("architecture", [3, ["test_resnet"], "", "../resnet18", "hf-hub:a/b", "local-dir:/tmp"])
def test_an_architecture_that_is_no_name_is_refused(check_refused, architecture):
    message = r"config\.json: (.* is not an architecture of timm|architecture must be text)"
    check_refused(ArtifactFormatError, message, architecture=architecture)


def test_an_architecture_with_a_tag_that_timm_does_not_have_is_refused(check_refused):
    check_refused(ArtifactFormatError, "test_resnet.nonsense", architecture="test_resnet.nonsense")


def test_another_architecture_of_timm_is_refused(check_refused):
    check_refused(
        ArtifactFormatError, "signed_inputs names layers that the network has not", architecture="test_byobnet"
    )


@pytest.mark.parametrize(
    "key", ["architecture", "num_classes", "input_size", "mean", "std", "interpolation", "crop_pct"]
)
def test_a_config_without_a_key_is_refused(check_refused, key):
    check_refused(ArtifactFormatError, rf"config\.json: {key} is missing", **{key: None})


@pytest.mark.parametrize("value", [0, -1, 1.5, "64", True, 100_000])
@pytest.mark.parametrize("key", ["num_classes", "input_size"])
def test_a_size_that_cannot_be_is_refused(check_refused, key, value):
    message = rf"config\.json: {key} (of {value} cannot be|must be a whole number, found {value!r})"
    check_refused(ArtifactFormatError, message, **{key: value})


def test_another_input_size_or_class_count_fails_the_recount(check_refused):
    check_refused(ArtifactFormatError, r"policy\.json: the policy is for 'test_resnet' at 32 pixels", input_size=48)
    check_refused(
        ArtifactIntegrityError, r"config\.json says bitops \d+, a recount gives \d+", num_classes=11, input_size=32
    )


@pytest.mark.parametrize(
    "changes", [{"mean": 0.5}, {"std": [0, 0, 0]}, {"mean": ["a", "b", "c"]}, {"crop_pct": "all"}], ids=str
)
def test_a_preparation_of_pictures_that_cannot_be_is_refused(check_refused, changes):
    check_refused(ArtifactFormatError, r"config\.json", **changes)


@pytest.mark.parametrize("signed", [3, ["no_such_layer"], [["fc"]]], ids=str)
def test_signed_inputs_that_are_no_layers_are_refused(check_refused, signed):
    check_refused(ArtifactError, "signed_inputs|no_such_layer", signed_inputs=signed)
