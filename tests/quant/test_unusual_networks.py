"""Tests of networks that share, wrap or borrow what they multiply by: quantized right, or refused with a way on."""

from __future__ import annotations

import threading
from typing import NamedTuple

import pytest
import timm
import torch
from timm.layers import ScaledStdConv2d, StdConv2d
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune

from limpq_hub.deploy.integer_layer import integer_layers
from limpq_hub.errors import PolicyError, UnsupportedLayerError
from limpq_hub.plan.costs import FIXED_BITS, FLOAT
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import (
    build_supernet,
    read_policy,
    select_policy,
    set_policy_,
    to_quantized,
    to_supernet,
)
from limpq_hub.quant.modes import in_eval_mode
from limpq_hub.quant.profile import measure_costs
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.quant.switchable_batch_norm import SwitchableBatchNorm2d
from limpq_hub.zoo.checkpoint import save_checkpoint
from limpq_hub.zoo.packed_tensors import packed_tensors, unpacked_tensors
from limpq_hub.zoo.tensors import load_strictly


def uniform(network: nn.Module, shape: tuple[int, ...], bits: int) -> Policy:
    return Policy(type(network).__name__, dict.fromkeys(measure_costs(network, shape), LayerBits(bits, bits)))


def test_another_thread_that_runs_a_network_changes_no_count():
    running, done = threading.Event(), threading.Event()
    foreign = nn.Sequential(*(nn.Linear(8, 8) for _ in range(20)))

    def run() -> None:
        while not done.is_set():
            foreign(torch.randn(2, 8))
            running.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        running.wait()
        network = nn.Sequential(*(nn.Linear(4, 4) for _ in range(50)))
        for _ in range(5):
            assert {cost.macs for cost in measure_costs(network, (4,)).values()} == {16}
    finally:
        done.set()
        thread.join()


class WithFactor(nn.Linear):
    """A linear layer that multiplies by a second parameter as well."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.factor = nn.Parameter(torch.eye(4) * 2)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(super().forward(x), self.factor)


def test_second_parameter_of_a_layer_stays_in_float():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), WithFactor())
    costs = measure_costs(network, (4,))
    assert costs["1.factor"].fixed == LayerBits(32, 32)
    policy = Policy("Sequential", {name: cost.fixed or LayerBits(8, 8) for name, cost in costs.items()})
    x = torch.randn(3, 4)
    model = to_quantized(network, policy, example_input=x).eval()
    torch.testing.assert_close(model(x), network(x), atol=0.1, rtol=0.1)


def test_layer_that_holds_layers_is_refused_with_a_way_on():
    class Adapted(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 4)
            self.adapter = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.adapter(x)

    network = nn.Sequential(nn.Linear(4, 4), Adapted())
    message = r"^1 \(Adapted\) cannot be quantized: it holds layers of its own, whose weights would be taken"
    with pytest.raises(UnsupportedLayerError, match=message):
        measure_costs(network, (4,))


class TiedStandardised(nn.Module):
    """Two convolutions that share a weight and standardise it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = StdConv2d(4, 4, 3), StdConv2d(4, 4, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def test_tied_layers_that_compute_their_weight_are_one_layer_and_pack_exactly():
    torch.manual_seed(0)
    network, x = TiedStandardised(), torch.randn(2, 4, 6, 6)
    policy = uniform(network, (4, 6, 6), 6)
    assert list(policy.layers) == ["first"]
    model = to_quantized(network, policy, example_input=x).eval()
    loaded = to_quantized(TiedStandardised(), policy, example_input=x).eval()
    load_strictly(loaded, unpacked_tensors(loaded, policy, packed_tensors(model, policy), "file"), "file")
    assert torch.equal(loaded(x), model(x))
    assert not loaded.second.computes_weight


class TiedScaled(nn.Module):
    """Two convolutions that share a weight, standardise it, and scale it, each by a factor of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = ScaledStdConv2d(4, 4, 3), ScaledStdConv2d(4, 4, 3)
        self.second.weight = self.first.weight
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)))


def test_tied_layers_that_make_other_weights_of_one_parameter_are_refused_or_left_in_float():
    torch.manual_seed(0)
    network, x = TiedScaled(), torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        network.second.gain.mul_(2)
    message = (
        r"^second \(ScaledStdConv2d\) makes another weight than a layer that it shares its parameter with; leave it in "
        r'float with exclude=\["second"\]$'
    )
    with pytest.raises(UnsupportedLayerError, match=message):
        through(network, x)
    assert distance(network, through(network, x, exclude=["second"]), x) < 0.02


def test_tied_layers_whose_weights_grew_apart_in_training_are_not_stored():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 6)
    model, policy = through(TiedScaled(), x), uniform(TiedScaled(), (4, 6, 6), 8)
    assert len(integer_layers(model)) == 2
    with torch.no_grad():
        model.second.gain.mul_(1.5)
    message = (
        r"^second \(QuantScaledStdConv2d\) makes another weight of its parameter than first, which shares it, and "
        r'integers are stored once for both: .* exclude=\["first"\] when the network is converted$'
    )
    for store in (lambda: packed_tensors(model, policy), lambda: integer_layers(model)):
        with pytest.raises(UnsupportedLayerError, match=message):
            store()


def test_weight_of_a_layer_outside_of_the_module_is_refused_with_a_way_on():
    class Borrower(nn.Module):
        def __init__(self, lender: nn.Linear) -> None:
            super().__init__()
            self.lenders = [lender]

        def forward(self, x: Tensor) -> Tensor:
            return functional.linear(x, self.lenders[0].weight)

    lender = nn.Linear(4, 4)
    network = nn.Sequential(lender, Borrower(lender))
    message = r"^1 takes the weight of 0, which is not below it, .*; leave it in float with exclude=\[\"0\"\]$"
    with pytest.raises(UnsupportedLayerError, match=message):
        measure_costs(network, (4,))
    assert measure_costs(network, (4,), exclude=["0"])["0"].macs == 32


def test_pattern_that_fixes_nothing_is_refused():
    with pytest.raises(UnsupportedLayerError, match=r"^fix: no layer, product or module is named '\*\.qq'$"):
        measure_costs(nn.Sequential(nn.Linear(4, 4)), (4,), fix=["*.qq"])


def test_bits_for_what_stays_in_float_are_refused():
    network = nn.Sequential(nn.Linear(4, 4), WithFactor())
    with pytest.raises(PolicyError, match="^'1.factor' stays in float and cannot be quantized: give it 32/32 bits$"):
        to_quantized(network, uniform(network, (4,), 8), example_input=torch.randn(2, 4))


def test_unknown_layer_in_float_is_refused_as_a_wrong_policy():
    policy = Policy("Sequential", {"0": LayerBits(8, 8), "head": LayerBits(32, 32)})
    with pytest.raises(PolicyError, match="^the policy is for other layers: it has foreign head; "):
        to_quantized(nn.Sequential(nn.Linear(4, 4)), policy, example_input=torch.randn(2, 4))


def test_shared_attention_is_one_attention():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = self.second = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x, x, x)[0], x, x)[0]

    costs = measure_costs(Shared(), (5, 8))
    assert list(costs) == [f"first.{name}" for name in ("query", "key", "value", "qk", "av", "out_proj")]
    assert costs["first.out_proj"].macs == 2 * 5 * 64


def test_attentions_that_share_a_weight_share_layers_and_steps():
    class Sharing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = (nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))
            self.second.in_proj_weight = self.first.in_proj_weight
            nn.init.uniform_(self.second.in_proj_bias)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x, x, x)[0]
            return self.second(x, x, x)[0]

    network, x = Sharing(), torch.randn(2, 5, 8)
    costs = measure_costs(network, (5, 8))
    assert [name for name in costs if name.endswith("query")] == ["first.query"]
    assert costs["first.query"].macs == 2 * 5 * 64
    quantized = through(network, x)
    assert quantized.second.query.weight is quantized.first.query.weight
    assert quantized.second.query.bias is not quantized.first.query.bias
    assert quantized.second.key.weight_quantizer is quantized.first.key.weight_quantizer
    assert distance(network, quantized, x) < 0.05


def test_norm_in_a_list_is_switched_as_well():
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)
            self.norm = nn.BatchNorm2d(4)
            self.parts = [self.stem, self.conv, self.norm, self.head]

        def forward(self, x: Tensor) -> Tensor:
            for part in self.parts:
                x = part(x)
            return x

    network, images = Listed(), torch.randn(2, 3, 4, 4)
    costs = measure_costs(network, (3, 4, 4))
    supernet = build_supernet(network, costs, (4, 2), (3, 4, 4))
    assert supernet.parts[2] is supernet.norm
    assert network.parts[2] is network.norm
    set_policy_(supernet, Policy("Listed", {"conv": LayerBits(2, 2)})).train()(images)
    assert supernet.norm.copies["2"].num_batches_tracked == 1
    assert supernet.norm.copies["4"].num_batches_tracked == 0


class ByName(nn.Module):
    """A normalization that is called by name, or as a method of it that the network keeps."""

    def __init__(self, *, method: bool) -> None:
        super().__init__()
        self.stem, self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 2, 1)
        self.run = self.norm.__call__ if method else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.stem(x))
        return self.head(self.run(x) if self.run else self.norm(input=x))


@pytest.mark.parametrize("method", [False, True])
def test_norm_that_is_called_by_name_or_as_a_method_is_switched_as_well(method):
    supernet = to_supernet(ByName(method=method), (4, 2), example_input=torch.randn(2, 3, 4, 4))
    set_policy_(supernet, Policy("ByName", {"conv": LayerBits(2, 2)})).train()(torch.randn(2, 3, 4, 4))
    assert {bits: int(norm.num_batches_tracked) for bits, norm in supernet.norm.copies.items()} == {"4": 0, "2": 1}


def test_search_of_a_network_of_products_alone_has_its_steps():
    class Products(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.layer(x)
            return (x @ x.transpose(1, 2)).softmax(-1) @ x

    supernet = to_supernet(Products(), (4, 2), example_input=torch.randn(2, 5, 4))
    steps = {name: layer.activation_quantizer.step for name, layer in quantized_layers(supernet)}
    assert set(steps) == {"layer", "qk", "av"}
    assert steps["av"][0].item() == pytest.approx(1 / 15, rel=0.5)  # a softmax on a grid of 4 bits


@pytest.mark.parametrize("option", ["exclude", "fix"])
def test_one_text_in_the_place_of_patterns_is_refused(option):
    message = rf"^{option}='up' is one text: give a list of patterns, {option}=\['up'\]$"
    with pytest.raises(UnsupportedLayerError, match=message):
        measure_costs(nn.Sequential(nn.Linear(4, 4)), (4,), **{option: "up"})


def test_fixing_what_is_excluded_is_refused():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    with pytest.raises(
        UnsupportedLayerError, match="^fix: '1' names only what stays in float: leave it out here, or in exclude$"
    ):
        measure_costs(network, (4,), exclude=["1"], fix=["1"])


def test_excluding_the_first_layer_fixes_no_other():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    costs = measure_costs(network, (4,), exclude=["0"])
    assert [cost.fixed for cost in costs.values()] == [LayerBits(32, 32), None, LayerBits(8, 8)]


def test_quantized_network_is_not_quantized_again():
    x = torch.randn(2, 4)
    supernet = to_supernet(nn.Sequential(nn.Linear(4, 4)), (4,), example_input=x)
    with pytest.raises(UnsupportedLayerError, match="^Sequential is quantized already: give the float network$"):
        to_supernet(supernet, (4,), example_input=x)


def test_what_is_no_policy_and_no_start_is_refused():
    network, x = nn.Sequential(nn.Linear(4, 4)), torch.randn(2, 4)
    with pytest.raises(PolicyError, match=r"^a policy is a limpq_hub\.Policy, such as plan\.policy, found dict$"):
        to_quantized(network, {"0": (8, 8)}, example_input=x)
    with pytest.raises(ValueError, match="^step_start='foo' is not known: use 'lsq' or 'least-error'$"):
        to_supernet(network, (4,), example_input=x, step_start="foo")


def test_layers_kept_in_a_list_alone_are_told_to_be_registered():
    class Unregistered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.others = nn.Linear(4, 4), [nn.Linear(4, 4)]

        def forward(self, x: Tensor) -> Tensor:
            return self.others[0](self.first(x))

    with pytest.raises(
        UnsupportedLayerError, match=r"register what it keeps in lists \(nn\.ModuleList, register_buffer\)$"
    ):
        measure_costs(Unregistered(), (4,))


class Centred(nn.Sequential):
    """A network that takes the mean of its images off in place."""

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        return super().forward(x)


@pytest.mark.parametrize(
    "network",
    [Centred(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4), nn.Linear(4, 4))],
    ids=["by hand", "activation in front"],
)
def test_network_that_writes_over_its_images_is_refused_with_a_way_on(network):
    with pytest.raises(UnsupportedLayerError, match=r"writes over the images .* compute new ones \(x = x - mean"):
        measure_costs(network, (4,))


@torch.inference_mode()
def test_costs_are_counted_in_inference_mode_too():
    assert [cost.macs for cost in measure_costs(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), (4,)).values()] == [
        12,
        6,
    ]


@pytest.mark.parametrize(
    "computing",
    [
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
        lambda layer: prune.l1_unstructured(layer, "bias", 0.5),
    ],
    ids=["weight_norm", "spectral_norm", "pruned weight", "pruned bias"],
)
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_layer_that_computes_its_weight_in_a_hook_is_refused_or_left_in_float(computing):
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(4, 4), computing(nn.Linear(4, 4)), nn.Linear(4, 4)), torch.randn(2, 4)
    message = (
        r"^1 \(Linear\) cannot be quantized: it computes its weight or bias in a hook; keep it with "
        r"torch\.nn\.utils\.remove_weight_norm, remove_spectral_norm or prune\.remove, or leave it in float with "
        r'exclude=\["1"\]$'
    )
    with pytest.raises(UnsupportedLayerError, match=message):
        to_supernet(network, (4,), example_input=x)
    supernet = to_supernet(network, (4,), example_input=x, exclude=["1"])
    policy = Policy("Sequential", {"0": LayerBits(8, 8), "1": LayerBits(32, 32), "2": LayerBits(8, 8)})
    supernet.eval()(x).sum().backward()
    selected = select_policy(supernet, policy)
    torch.testing.assert_close(selected(x), network.eval()(x), atol=0.1, rtol=0.1)


def test_layer_without_a_shape_is_refused_with_a_way_on():
    network = nn.Sequential(nn.LazyLinear(4))
    message = r"^0 \(LazyLinear\) has a parameter without a shape: run the network once$"
    with pytest.raises(UnsupportedLayerError, match=message):
        measure_costs(network, (4,))
    network(torch.randn(2, 4))
    assert measure_costs(network, (4,))["0"].macs == 16


def through(network: nn.Module, x: Tensor, bits: int = 8, **options: object) -> nn.Module:
    """`network` with all that it multiplies at the same bits, in eval mode."""
    costs = measure_costs(network, tuple(x.shape[1:]), **options)
    policy = Policy(type(network).__name__, {name: cost.fixed or LayerBits(bits, bits) for name, cost in costs.items()})
    return to_quantized(network, policy, example_input=x).eval()


def distance(network: nn.Module, quantized: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        reference = network.eval()(x)
        return float((quantized(x) - reference).norm() / reference.norm())


class TwoWays(nn.Conv2d):
    """A convolution by its weight and by its weight turned around."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + functional.conv2d(x, self.weight.flip(-1), None, self.stride, self.padding)


class CentralDifference(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) - 0.7 * functional.conv2d(x, self.weight.sum((2, 3), keepdim=True))


@pytest.mark.parametrize("layer_class", [TwoWays, CentralDifference])
def test_layer_that_multiplies_by_its_weight_and_by_another_is_refused_or_left_in_float(layer_class):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), layer_class(4, 4, 3, padding=1), nn.Conv2d(4, 2, 1))
    x = torch.randn(2, 3, 6, 6)
    message = rf"^1 \({layer_class.__name__}\) multiplies by its weight and by another .*; leave it in float with "
    with pytest.raises(UnsupportedLayerError, match=message):
        measure_costs(network, (3, 6, 6))
    assert distance(network, through(network, x, exclude=["1"]), x) < 0.02


def test_buffer_that_a_layer_multiplies_by_stays_as_it_is():
    class Partial(nn.Conv2d):
        """A convolution that divides by how much of its window holds something, counted by a buffer of ones."""

        def __init__(self) -> None:
            super().__init__(4, 4, 3, padding=1)
            self.register_buffer("ones", torch.ones(1, 4, 3, 3))

        def forward(self, x: Tensor) -> Tensor:
            there = functional.conv2d((x > 0).to(x.dtype), self.ones, padding=1)
            return super().forward(x) * (36 / there.clamp_min(1))

    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Conv2d(3, 4, 1), Partial(), nn.Conv2d(4, 2, 1)), torch.randn(2, 3, 6, 6)
    costs = measure_costs(network, (3, 6, 6))
    assert costs["1"].weights == 4 * 4 * 9
    assert distance(network, through(network, x), x) < 0.05  # 0.2 where the mask and the ones are quantized


class Turned(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return sum(functional.conv2d(x, torch.rot90(self.weight, turns, (2, 3)), padding=1) for turns in range(4))


class OfItsInput(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight * x.mean().sigmoid(), self.bias, padding=1)


class Cut(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight[:2], padding=1).repeat(1, 2, 1, 1)


class OfTwoArguments(nn.Conv2d):
    def forward(self, x: Tensor, scale: float) -> Tensor:
        return functional.conv2d(x, self.weight * scale, padding=1)


@pytest.mark.parametrize(
    ("layer_class", "why"),
    [
        (Turned, "makes several weights, or another one for other inputs"),
        (OfItsInput, "makes several weights, or another one for other inputs"),
        (Cut, "makes a weight of another shape than that of its parameter"),
        (OfTwoArguments, r"makes its weight in a way that cannot be followed \(.*scale"),
    ],
)
def test_layer_whose_weight_cannot_be_stored_is_refused_when_it_is_converted(layer_class, why):
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.odd, self.head = nn.Conv2d(3, 4, 1), layer_class(4, 4, 3), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.head(self.odd(x, 2.0) if layer_class is OfTwoArguments else self.odd(x))

    x = torch.randn(2, 3, 6, 6)
    message = rf'^odd \({layer_class.__name__}\) {why}.*; leave it in float with exclude=\["odd"\]$'
    with pytest.raises(UnsupportedLayerError, match=message):
        through(Around(), x)
    through(Around(), x, exclude=["odd"])


class HeldElsewhere(nn.Module):
    """Convolutions and norms that run out of a list of pairs, and an attention out of a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)
        self.c2, self.b2 = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)
        self.pairs = [(self.c1, self.b1), (self.c2, self.b2)]
        self.held = {"attention": [self.attention]}

    def forward(self, x: Tensor) -> Tensor:
        for convolution, norm in self.pairs:
            x = norm(convolution(x))
        x = x.flatten(2).transpose(1, 2)
        (attention,) = self.held["attention"]
        return self.head(attention(x, x, x)[0].mean(1))


def test_what_runs_out_of_tuples_and_dictionaries_is_that_of_the_network():
    torch.manual_seed(0)
    network, x = HeldElsewhere(), torch.randn(4, 3, 4, 4)
    assert {f"attention.{name}" for name in ("query", "key", "value", "qk", "av", "out_proj")} <= {
        *measure_costs(network, (3, 4, 4))
    }
    supernet = to_supernet(network, (4, 2), example_input=x)
    assert supernet.pairs[1][1] is supernet.b2
    assert supernet.held["attention"][0] is supernet.attention
    assert network.pairs[1][1] is network.b2
    supernet.train()(x).sum().backward()
    assert supernet.attention.query.weight.grad is not None
    assert supernet.b2.active.weight.grad is not None
    again = to_supernet(HeldElsewhere(), (4, 2), example_input=x)
    again.load_state_dict(supernet.state_dict())
    assert torch.equal(again.eval()(x), supernet.eval()(x))


@pytest.mark.parametrize(
    ("made", "taken"),
    [
        (lambda: type("Own", (nn.Conv2d,), {"bits": None})(4, 4, 1), "bits"),
        (lambda: type("Own", (nn.Conv2d,), {"multiply": lambda self, x: x})(4, 4, 1), "multiply"),
        (lambda: setattr(layer := nn.Conv2d(4, 4, 1), "quantized_weight", 3) or layer, "quantized_weight"),
    ],
)
def test_names_of_a_layer_that_a_quantized_one_has_too_are_told(made, taken):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), made(), nn.Conv2d(4, 2, 1))
    with pytest.raises(UnsupportedLayerError, match=rf"^1 \(.*\) has '{taken}' of its own, .* exclude=\[\"1\"\]$"):
        through(network, torch.randn(2, 3, 4, 4))


def test_name_of_a_module_that_a_routed_one_has_too_is_told():
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.route = nn.Linear(8, 24), "softmax"

        def forward(self, x: Tensor) -> Tensor:
            query, key, value = self.qkv(x).chunk(3, -1)
            return (query @ key.transpose(1, 2)).softmax(-1) @ value

    network = nn.Sequential(nn.Linear(4, 8), Attention(), nn.Linear(8, 3))
    with pytest.raises(UnsupportedLayerError, match=r"^1 \(Attention\) has 'route' of its own, "):
        through(network, torch.randn(2, 5, 4))


def test_product_with_a_parameter_is_counted_by_both_countings():
    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.turn = nn.Linear(8, 8), nn.Parameter(torch.randn(8, 8))
            self.low, self.up = nn.Parameter(torch.randn(2, 8)), nn.Parameter(torch.randn(8, 2))

        def forward(self, x: Tensor) -> Tensor:
            return functional.linear(self.layer(x) @ self.turn, self.up @ self.low)

    in_float = [cost for cost in measure_costs(Projected(), (5, 8)).values() if cost.fixed == FLOAT]
    assert [cost.macs for cost in in_float] == [cost.macs_limpq for cost in in_float]
    assert all(cost.macs > 0 and cost.inputs > 0 for cost in in_float)
    assert 5 * 64 in [cost.macs for cost in in_float]


def test_network_that_keeps_what_it_computed_in_a_list_is_converted():
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.layer, self.head, self.kept = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2), []

        def forward(self, x: Tensor) -> Tensor:
            self.kept = [{"x": self.layer(self.stem(x))}]
            return self.head(self.kept[0]["x"])

    network, x = Keeping(), torch.randn(2, 4)
    network(x)
    supernet = to_supernet(network, (4, 2), example_input=x)
    supernet.train()(x).sum().backward()
    policy = Policy("Keeping", dict.fromkeys(("stem", "head"), FIXED_BITS) | {"layer": LayerBits(4, 2)})
    selected = select_policy(supernet, policy)
    assert torch.equal(selected.eval()(x), set_policy_(supernet.eval(), policy)(x))


def test_network_that_keeps_what_it_computed_is_stored_in_single_precision(tmp_path):
    torch.manual_seed(0)
    network, x = timm.create_model("test_resnet", num_classes=5), torch.randn(2, 3, 32, 32)
    quantized, costs = through(network, x), measure_costs(network, (3, 32, 32))
    save_checkpoint(tmp_path / "single", quantized, costs)
    quantized.double().kept = quantized.double()(x.double())
    assert not quantized.kept.is_leaf
    save_checkpoint(tmp_path / "double", quantized, costs)
    files = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("single", "double")]
    assert files[0] == files[1]


def test_normalization_that_keeps_what_it_computed_is_switched():
    network, x = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)), torch.randn(2, 3, 4, 4)
    network[1].kept = network[1](network[0](x))
    assert not network[1].kept.is_leaf
    SwitchableBatchNorm2d(network[1], (4, 2), "0")


def test_network_that_reads_its_normalization_is_a_supernet():
    class Attentive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
            self.head = nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.conv(self.stem(x)))
            return self.head(x * (self.norm.weight.abs() / self.norm.weight.abs().sum())[:, None, None])

    supernet = to_supernet(Attentive(), (4, 2), example_input=torch.randn(2, 3, 4, 4))
    with torch.no_grad():
        supernet.norm.copies["2"].weight.fill_(3)
    set_policy_(supernet, Policy("Attentive", {"conv": LayerBits(2, 2)}))
    assert supernet.norm.weight is supernet.norm.copies["2"].weight
    with pytest.raises(AttributeError, match="has no attribute 'no_such_thing'"):
        _ = supernet.norm.no_such_thing


def test_no_tokens_give_no_outputs():
    network = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    quantized = through(network, torch.randn(2, 5, 8))
    assert quantized(torch.randn(2, 0, 8)).shape == (2, 0, 4)


def test_float_layer_whose_name_reads_as_a_pattern_is_no_other_layer():
    network = nn.Sequential()
    for name in ("stem", "p[3]", "p3", "head"):
        network.add_module(name, nn.Linear(4, 4))
    costs = measure_costs(network, (4,), exclude=["p[[]3]"])
    assert [name for name, cost in costs.items() if cost.fixed == FLOAT] == ["p[3]"]
    build_supernet(network, costs, (4, 2), (4,))


def test_network_that_multiplies_itself_keeps_its_name():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) @ x.transpose(1, 2)

    assert read_policy(through(Own(), torch.randn(2, 3, 4))).model == "Own"


def test_module_that_does_more_than_change_its_mode_does_it_after_a_measurement():
    class Cached(nn.Linear):
        """Keeps what it computed in eval mode until it is trained."""

        kept: Tensor | None = None

        def train(self, mode: bool = True) -> nn.Module:
            self.kept = None if mode else self.kept
            return super().train(mode)

        def forward(self, x: Tensor) -> Tensor:
            if not self.training and self.kept is None:
                self.kept = self.weight * 2
            return functional.linear(x, self.weight * 2 if self.training else self.kept)

    network, x = nn.Sequential(nn.Linear(4, 4), Cached(4, 4, bias=False)), torch.randn(2, 4)
    network[0].eval()
    with in_eval_mode(network), torch.no_grad():
        network(x)
    assert (network.training, network[0].training, network[1].training) == (True, False, True)
    with torch.no_grad():
        network[1].weight.fill_(1)
    assert torch.equal(network.eval()[1](torch.ones(1, 4)), torch.full((1, 4), 8.0))


class InItsBuffer(nn.Conv2d):
    """Computes its weight in a buffer, written over or bound anew."""

    def __init__(self, *sizes: int, anew: bool) -> None:
        super().__init__(*sizes)
        self.anew = anew
        self.register_buffer("kernel", torch.zeros_like(self.weight.detach()))

    def forward(self, x: Tensor) -> Tensor:
        computed = self.weight / self.weight.norm()
        self.kernel = computed if self.anew else self.kernel.detach().clone().copy_(computed)
        return functional.conv2d(x, self.kernel)


class WrittenOver(InItsBuffer):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.kernel.copy_(self.weight / self.weight.norm())
        return functional.conv2d(x, self.kernel)


@pytest.mark.parametrize(("layer_class", "anew"), [(InItsBuffer, True), (InItsBuffer, False), (WrittenOver, False)])
def test_layer_that_computes_its_weight_in_a_buffer_is_quantized(layer_class, anew):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), layer_class(4, 4, 1, anew=anew), nn.Conv2d(4, 2, 1))
    x = torch.randn(2, 3, 6, 6)
    assert measure_costs(network, (3, 6, 6))["1"].fixed is None
    coarse = [through(network, x, bits) for bits in (8, 2)]
    assert distance(network, coarse[0], x) < 0.03 < distance(network, coarse[1], x)


class Noisy(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight + torch.randn_like(self.weight) if self.training else self.weight * 1.0
        return functional.conv2d(x, weight)


def test_layer_whose_weight_has_noise_in_training_alone_is_quantized_in_either_mode():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), Noisy(4, 4, 1), nn.Conv2d(4, 2, 1))
    supernet = to_supernet(network.train(), (4, 2), example_input=torch.randn(2, 3, 6, 6))
    assert supernet.training
    assert supernet[1].training


class Asserting(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-1] == 6
        return functional.conv2d(x, self.weight * 1.0)


def test_layer_that_takes_one_size_alone_and_computes_its_weight_is_told():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), Asserting(4, 4, 1), nn.Conv2d(4, 2, 1))
    with pytest.raises(UnsupportedLayerError, match=r"^1 \(Asserting\) makes its weight in a way that cannot be"):
        through(network, torch.randn(2, 3, 6, 6))


class Pair(NamedTuple):
    convolution: nn.Module
    norm: nn.Module


class ReadOnly(dict):
    def __deepcopy__(self, memo: object) -> ReadOnly:
        return self

    def __setitem__(self, key: object, value: object) -> None:
        raise TypeError("read only")


def test_modules_in_odd_containers_are_replaced_and_nothing_else_is_written():
    class Holding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)
            self.norm, self.settings, self.own = nn.BatchNorm2d(4), ReadOnly(width=4), {}
            self.pair = Pair(self.conv, self.norm)
            self.own["self"] = self.own

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.pair.norm(self.pair.convolution(self.stem(x))))

    supernet = to_supernet(Holding(), (4, 2), example_input=torch.randn(2, 3, 4, 4))
    assert supernet.pair.norm is supernet.norm
    assert isinstance(supernet.norm, SwitchableBatchNorm2d)
    assert (supernet.settings, supernet.own["self"]) == ({"width": 4}, supernet.own)


def test_module_that_is_registered_twice_keeps_its_mode_over_a_measurement():
    frozen = nn.BatchNorm1d(4)
    network = nn.Sequential(nn.Sequential(nn.Linear(4, 4), frozen), nn.Sequential(frozen)).train()
    network.eval()
    network[0].training = network[0][0].training = network[1].training = True
    before = [module.training for module in network.modules()]
    with in_eval_mode(network):
        network(torch.randn(2, 4))
    assert [module.training for module in network.modules()] == before


def test_recurrent_part_in_float_is_left_so_by_the_names_that_a_policy_holds():
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.rnn, self.mid, self.head = nn.Linear(4, 4), nn.LSTM(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.mid(self.rnn(self.stem(x))[0]))

    network, x = Recurrent(), torch.randn(2, 3, 4)
    quantized = through(network, x, exclude=["rnn"])
    assert isinstance(quantized.rnn, nn.LSTM)
    costs = measure_costs(network, (3, 4), exclude=["rnn"])
    assert all(cost.macs_limpq > 0 for cost in costs.values())
    wrong = Policy("Recurrent", {**{name: cost.fixed or LayerBits(4, 4) for name, cost in costs.items()}, "zz": FLOAT})
    with pytest.raises(PolicyError, match="^the policy is for other layers: it has foreign zz; "):
        to_quantized(network, wrong, example_input=x)
