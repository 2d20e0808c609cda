"""The divergence of single layers at each pair of bits, beside the whole network run for every pair."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from taken_weight import TakesAWeight
from torch import Tensor, nn

from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import set_policy_, to_supernet
from limpq_hub.quant.kl_divergence import kl_divergence
from limpq_hub.quant.matched_batch_norm import MatchedBatchNorm
from limpq_hub.quant.pair_divergence import pair_divergences
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.quant.switchable_batch_norm import SwitchableBatchNorm2d

CANDIDATES = (4, 2)
PAIRS = [LayerBits(weight, activation) for weight in CANDIDATES for activation in CANDIDATES]


class SharedRelu(nn.Module):
    """Convolutions and a head; one ReLU in place serves two, and the input of one of these is added to its output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.second, self.third = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.first(x)))
        x = x + self.relu(self.second(x))
        return self.head(self.third(x).mean((2, 3)))


class WrittenShortcut(SharedRelu):
    """The shortcut is what a ReLU in place wrote over."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))
        y = self.second(self.relu(x))
        return self.head((self.third(y) + x).mean((2, 3)))


class Tied(nn.Module):
    """Two layers of one weight with another one between them; the first to run is the second by name."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.named_first, self.tied = (nn.Conv2d(count, 6, 3, padding=1) for count in (3, 6, 6))
        self.tied.weight = self.named_first.weight
        self.between, self.head = nn.Conv2d(6, 6, 1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tied(self.first(x).relu()).relu()
        return self.head(self.named_first(self.between(x).relu()).relu().mean((2, 3)))


class AddsInList(nn.Module):
    def forward(self, branches: list[Tensor]) -> Tensor:
        branches[0].mul_(2.0)
        return branches[0] + branches[1]


class AppendsToList(nn.Module):
    def forward(self, branches: list[Tensor]) -> Tensor:
        branches.append(branches[0] * branches[1])
        return branches[-1].relu()


class Keeps(nn.Module):
    def forward(self, branches: tuple[Tensor, ...]) -> Tensor:
        self.kept = branches[0] * 1.5
        return branches[0] + branches[1]


class Branches(nn.Module):
    """What a module in front of a layer does beside its output is felt behind that layer."""

    def __init__(self, joins: nn.Module) -> None:
        super().__init__()
        self.first, self.branch, self.joins = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 1), joins
        self.second, self.third, self.head = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        branches = (x, self.branch(x)) if isinstance(self.joins, Keeps) else [x, self.branch(x)]
        y = self.second(self.joins(branches)).relu()
        left = self.joins.kept if isinstance(self.joins, Keeps) else branches[-1] + branches[0]
        left += self.third(y)
        return self.head(left.mean((2, 3)))


class SharedNorm(nn.Module):
    """A BatchNorm in front of a layer and behind it, each time inside of a block that runs once."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(6)
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.front, self.back = (nn.Sequential(nn.Conv2d(6, 6, 1), norm, nn.ReLU()) for _ in range(2))
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.back(self.front(self.first(x))).mean((2, 3)))


NETWORKS = {
    "tied": (Tied, 8),
    "list written over": (lambda: Branches(AddsInList()), 8),
    "list grown": (lambda: Branches(AppendsToList()), 8),
    "tensor kept": (lambda: Branches(Keeps()), 8),
    "written shortcut": (WrittenShortcut, 8),
    "shared relu": (SharedRelu, 8),
    "taken weight": (TakesAWeight, 8),
    "shortcut added in place": (lambda: timm.create_model("test_resnet", num_classes=5), 32),
    "mobilenetv2": (lambda: timm.create_model("mobilenetv2_035", num_classes=5), 32),
    "vit": (lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=5, depth=2), 32),
}


def made(name: str) -> tuple[nn.Module, nn.Module, list[Tensor], list[Tensor]]:
    """Return a float network, its supernet, images of two unequal batches, and the float log-probabilities."""
    torch.manual_seed(0)
    make, size = NETWORKS[name]
    network = make().double().eval()
    batches = [torch.randn(count, 3, size, size, dtype=torch.float64) for count in (3, 2)]
    supernet = to_supernet(network, CANDIDATES, example_input=batches[0]).double()
    with torch.no_grad():
        references = [network(images).log_softmax(-1) for images in batches]
    return network, supernet, batches, references


@torch.no_grad()
def run_whole(supernet: nn.Module, name: str, pair: LayerBits, batches, references, background: Policy | None) -> float:
    twin = copy.deepcopy(supernet).eval()
    layers = dict(quantized_layers(twin))
    if background is None:
        for layer in layers.values():
            layer.set_bits_(None)
    else:
        set_policy_(twin, background)
    layers[name].set_bits_(pair)
    for norm in twin.modules():
        if isinstance(norm, SwitchableBatchNorm2d) and norm.layer == name:
            norm.bits = pair.weight
    logits = torch.cat([twin(images) for images in batches])
    return float(kl_divergence(logits, torch.cat(references)))


@pytest.mark.parametrize("in_float", [True, False])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "mobilenetv2" else ()) for name in NETWORKS]
)
def test_every_pair_of_every_layer_diverges_as_the_whole_network_does(name, in_float):
    _, supernet, batches, references = made(name)
    searched = [layer for layer, module in quantized_layers(supernet) if len(module.weight_quantizer.candidates) > 1]
    background = None if in_float else Policy("net", dict.fromkeys(searched, LayerBits(4, 4)))
    measured = dict(pair_divergences(supernet, batches, references, background=background))
    assert list(measured) == searched
    for layer in searched[:: max(1, len(searched) // 5)]:
        assert list(measured[layer]) == PAIRS
        for pair, divergence in measured[layer].items():
            expected = run_whole(supernet, layer, pair, batches, references, background)
            assert divergence == pytest.approx(expected, rel=1e-9, abs=1e-15), (layer, pair)
    assert len({round(divergence, 12) for divergence in measured[searched[0]].values()}) > 1


def test_the_network_is_as_it_was_between_two_layers_and_after_an_error():
    _, supernet, batches, references = made("shared relu")
    set_policy_(supernet.train(), Policy("net", {"second": LayerBits(2, 4), "third": LayerBits(4, 2)}))

    def state() -> list:
        bits = [(name, layer.bits, vars(layer).get("forward")) for name, layer in quantized_layers(supernet)]
        norms = [module.bits for module in supernet.modules() if isinstance(module, SwitchableBatchNorm2d)]
        return [bits, norms, supernet.relu.inplace, [module.training for module in supernet.modules()]]

    before = state()
    for _ in pair_divergences(supernet, batches, references):
        assert state() == before
    with pytest.raises(ValueError, match="shorter"):
        list(pair_divergences(supernet, batches, references[:1]))
    assert state() == before


class InFloatBeside(nn.Module):
    """Products of its own behind an attention whose products stay in float."""

    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x @ x.transpose(1, 2)).softmax(-1) @ x

    def __init__(self) -> None:
        super().__init__()
        self.first, self.attention = nn.Conv2d(3, 8, 4, 4), self.Attention()
        self.middle, self.head = nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).flatten(2).transpose(1, 2)
        x = self.middle(x + self.attention(x))
        return self.head((x @ x.transpose(1, 2) @ x).mean(1))


def test_products_behind_a_module_in_float_are_measured_at_their_own_bits():
    torch.manual_seed(0)
    network, images = InFloatBeside().double().eval(), torch.randn(3, 3, 12, 12, dtype=torch.float64)
    supernet = to_supernet(network, CANDIDATES, example_input=images, exclude=["attention"]).double()
    with torch.no_grad():
        references = [network(images).log_softmax(-1)]
    measured = dict(pair_divergences(supernet, [images], references))
    assert {"product0", "product1"} <= set(measured)
    for name, divergences in measured.items():
        for pair, divergence in divergences.items():
            whole = run_whole(supernet, name, pair, [images], references, None)
            assert divergence == pytest.approx(whole, rel=1e-9, abs=1e-15)
    assert measured["product1"][LayerBits(2, 2)] > measured["product1"][LayerBits(4, 4)] > 0


def test_single_layers_can_be_measured_alone():
    _, supernet, batches, references = made("shared relu")
    whole = dict(pair_divergences(supernet, batches, references))
    assert dict(pair_divergences(supernet, batches, references, layers=["third"])) == {"third": whole["third"]}


def test_a_norm_that_is_shared_across_the_layer_is_matched_in_every_pass():
    torch.manual_seed(0)
    network = SharedNorm().double()
    images = torch.randn(6, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        network.train()(images * 1.5)
        reference = network.eval()(images).log_softmax(-1)
    supernet = to_supernet(network, CANDIDATES, example_input=images).double()
    measured = dict(pair_divergences(supernet, [images], [reference], layers=["back.0"], matched_to=network))["back.0"]
    layers = dict(quantized_layers(supernet.eval()))
    for layer in layers.values():
        layer.set_bits_(None)
    for pair, divergence in measured.items():
        layers["back.0"].set_bits_(pair)
        with torch.no_grad(), MatchedBatchNorm(network, images).matching(supernet):
            expected = float(kl_divergence(supernet(images), reference))
        assert divergence == pytest.approx(expected, rel=1e-9, abs=1e-15), pair
