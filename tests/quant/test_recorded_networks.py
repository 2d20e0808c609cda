"""Tests of quantized networks that torch records: exported, traced, compiled, and mapped over images."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import to_quantized
from limpq_hub.quant.frozen_layers import freeze_
from limpq_hub.quant.integer_layers import run_in_integers_

# What torch says of its own functions.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in ("`torch.jit.*is deprecated", "There is a performance drop because", "Converting a tensor to a Python")
]


def network_of_layers() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    policy = Policy("Sequential", {"0": LayerBits(4, 4), "4": LayerBits(4, 4)})
    return to_quantized(network, policy, example_input=images()).eval().requires_grad_(False)


def images() -> Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("called", [False, True])
@pytest.mark.parametrize("arithmetic", ["plain", "frozen", "integer"])
@torch.no_grad()
def test_what_torch_exports_or_traces_is_the_network_whether_it_was_called_before_or_not(arithmetic, called):
    expected, network = network_of_layers()(images()), network_of_layers()
    if arithmetic == "frozen":
        freeze_(network, (3, 8, 8))
        network = copy.deepcopy(network)
    elif arithmetic == "integer":
        run_in_integers_(network)
    if called:
        network(images())
    exported = torch.export.export(network, (images(),)).module()
    torch.testing.assert_close(exported(images()), expected)
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(network, images()[:1]), file)
    file.seek(0)
    torch.testing.assert_close(torch.jit.load(file)(images()), expected)
    torch.testing.assert_close(network(images()), expected)


@torch.no_grad()
def test_a_quantized_network_in_eval_mode_is_one_graph_and_runs_on_single_images():
    network = network_of_layers()
    expected = network(images())
    assert torch._dynamo.explain(network)(images()).graph_count == 1
    single = torch.vmap(lambda image: network(image[None])[0])(images())
    torch.testing.assert_close(single, expected)
