"""An entry of a vision transformer: products without weights, zero points, and a step for each channel, on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import limpq_hub
from limpq_hub.errors import ArtifactError, ArtifactFormatError
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import select_policy, to_supernet
from limpq_hub.quant.learned_indicators import read_indicators
from limpq_hub.quant.profile import profile_module
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.zoo.checkpoint import load_checkpoint, save_checkpoint
from limpq_hub.zoo.entry_folder import load_supernet, save_entry, save_float_network, seal_entry
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.tensors import tensors_from_bytes, tensors_to_bytes

CLASSES = [{"id": str(index), "name": f"class {index}"} for index in range(3)]


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=["test_vit", "test_efficientnet"])
def saved(request, images, tmp_path_factory) -> tuple[Path, nn.Module]:
    """The folder of an entry, and the supernet that it holds."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("entry")
    network = timm.create_model(
        request.param,
        num_classes=3,
        pretrained_cfg_overlay={"input_size": (3, 32, 32)},
        **({"img_size": 32} if request.param == "test_vit" else {}),
    )
    costs = profile_module(network, images)
    supernet = to_supernet(network, (8, 3), example_input=images, per_channel=True)
    indicators = read_indicators(supernet, costs, input_size=32, num_classes=3)
    save_float_network(folder, network)
    save_entry(folder, supernet, indicators, CLASSES)
    seal_entry(folder, NetworkSpec.of(supernet))
    return folder, supernet.eval()


def test_supernet_and_checkpoint_come_back(saved, images, tmp_path):
    folder, supernet = saved
    entry = open_local_folder(folder, "entry")
    indicators = limpq_hub.Indicators.load(folder / "indicators.json")
    loaded = load_supernet(entry, indicators)
    assert indicators.per_channel
    for (name, layer), (_, restored) in zip(quantized_layers(supernet), quantized_layers(loaded), strict=True):
        for quantizer, copy in zip(layer.children(), restored.children(), strict=False):
            assert copy.state_dict().keys() == quantizer.state_dict().keys(), name
    model = select_policy(loaded, limpq_hub.search(indicators, bitops="w3a3").policy).eval()
    save_checkpoint(tmp_path, model, indicators.costs)
    restored, policy = load_checkpoint(open_local_folder(tmp_path, "checkpoint"))
    assert policy.digest() == limpq_hub.search(indicators, bitops="w3a3").policy.digest()
    with torch.no_grad():
        assert torch.equal(restored(images), model(images))


def test_baselines_are_compared_without_the_rounding_errors_that_products_have_not(saved):
    policies = limpq_hub.baselines(f"local-dir:{saved[0]}", bitops="w3a3")
    products = any(cost.is_product for cost in limpq_hub.Indicators.load(saved[0] / "indicators.json").costs.values())
    assert ("sensitivity" in policies) == (not products)
    assert {"uniform", "random", "reversed"} <= set(policies)


@pytest.mark.parametrize("zero_point", [-1, 200])
def test_zero_point_out_of_range_is_refused_by_layer(saved, zero_point, tmp_path):
    folder, supernet = saved
    path = folder / "supernet.safetensors"
    content = path.read_bytes()
    tensors = tensors_from_bytes(content, "supernet")
    names = [name for name in tensors if name.endswith("zero_point")]
    if not names:
        pytest.skip("no input of this network is bounded below")
    tensors[names[0]][0] = zero_point
    path.write_bytes(tensors_to_bytes(tensors))
    seal_entry(folder, NetworkSpec.of(supernet))
    try:
        with pytest.raises(ArtifactFormatError, match=r"the zero point of layer .* at 8 bits must lie in 0\.\.128"):
            load_supernet(open_local_folder(folder, "entry"), limpq_hub.Indicators.load(folder / "indicators.json"))
    finally:
        path.write_bytes(content)
        seal_entry(folder, NetworkSpec.of(supernet))


def test_policy_that_leaves_an_unknown_layer_in_float_is_refused_with_its_file(saved, images, tmp_path, reseal):
    folder, supernet = saved
    indicators = limpq_hub.Indicators.load(folder / "indicators.json")
    policy = limpq_hub.search(indicators, bitops="w3a3").policy
    save_checkpoint(tmp_path, select_policy(supernet, policy), indicators.costs)
    layers = dict(policy.layers.items()) | {"nowhere": limpq_hub.LayerBits(32, 32)}
    write_json(tmp_path / "policy.json", Policy(policy.model, layers, policy.input_size).to_json())
    reseal(tmp_path)
    with pytest.raises(ArtifactError, match=r"policy\.json: the policy is for other layers: it has foreign nowhere"):
        load_checkpoint(open_local_folder(tmp_path, "checkpoint"))
