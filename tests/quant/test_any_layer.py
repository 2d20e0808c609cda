"""Tests of layers of any class, wherever a network keeps them and however it calls them: quantized as by hand."""

from __future__ import annotations

import copy
import json
import re
from itertools import product

import pytest
import timm
import torch
from timm.layers import Conv2dSame, Linear, ScaledStdConv2d, StdConv2d
from torch import Tensor, nn
from torch.nn import functional

from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import build_quantized, set_policy_, to_quantized, to_supernet
from limpq_hub.quant.profile import measure_costs
from limpq_hub.quant.quantized import quantized_layers

BITS = 4


def on_grid(x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    return (x / step).clamp(low, high).round() * step


def by_hand(layer: nn.Module, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The input and the weight of a quantized layer on signed grids of four bits."""
    return (
        on_grid(x, layer.activation_quantizer.step[0], -8, 7),
        on_grid(weight, layer.weight_quantizer.step[0], -8, 7),
    )


def quantized(network: nn.Module, x: Tensor, *, bits: int = BITS, **options: object) -> nn.Module:
    """`network` with every layer and product at the same bits, the ends too."""
    costs = measure_costs(network, tuple(x.shape[1:]))
    policy = Policy(type(network).__name__, dict.fromkeys(costs, LayerBits(bits, bits)))
    return to_quantized(network, policy, example_input=x, **options).eval()


def standardised(layer: StdConv2d) -> Tensor:
    variance, mean = torch.var_mean(layer.weight, dim=(1, 2, 3), keepdim=True, correction=0)
    return (layer.weight - mean) / (variance + layer.eps).sqrt()


def scaled_standardised(layer: ScaledStdConv2d) -> Tensor:
    return standardised(layer) * layer.gain * layer.scale


LAYERS = {
    "Conv1d": (nn.Conv1d(3, 4, 3), (3, 9), lambda layer, x, w: functional.conv1d(x, w, layer.bias)),
    "Conv3d": (nn.Conv3d(3, 4, 2), (3, 4, 4, 4), lambda layer, x, w: functional.conv3d(x, w, layer.bias)),
    "ConvTranspose1d": (
        nn.ConvTranspose1d(3, 4, 3, stride=2),
        (3, 9),
        lambda layer, x, w: functional.conv_transpose1d(x, w, layer.bias, stride=2),
    ),
    "ConvTranspose2d": (
        nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
        (4, 5, 5),
        lambda layer, x, w: functional.conv_transpose2d(x, w, layer.bias, stride=2, groups=2),
    ),
    "Linear of timm": (Linear(5, 4), (7, 5), lambda layer, x, w: functional.linear(x, w, layer.bias)),
    "Conv2dSame": (
        Conv2dSame(3, 4, 3, stride=2),
        (3, 6, 6),
        lambda layer, x, w: functional.conv2d(functional.pad(x, (0, 1, 0, 1)), w, layer.bias, stride=2),
    ),
    "StdConv2d": (StdConv2d(3, 4, 3), (3, 6, 6), lambda layer, x, w: functional.conv2d(x, w, layer.bias, padding=1)),
    "ScaledStdConv2d": (
        ScaledStdConv2d(3, 4, 3),
        (3, 6, 6),
        lambda layer, x, w: functional.conv2d(x, w, layer.bias, padding=1),
    ),
}
WEIGHTS = {"StdConv2d": standardised, "ScaledStdConv2d": scaled_standardised}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_layer_of_any_class_computes_what_its_class_computes_of_quantized_operands(name, training):
    layer, shape, compute = LAYERS[name]
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    model = quantized(layer, x).train(training)
    expected = compute(layer, *by_hand(model, x, WEIGHTS.get(name, lambda layer: layer.weight)(layer).detach()))
    torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-4)
    model.set_bits_(None)
    torch.testing.assert_close(model(x), layer(x))
    assert isinstance(model, type(layer))


@pytest.mark.parametrize("name", LAYERS)
def test_every_step_and_weight_of_any_layer_gets_a_gradient(name):
    layer, shape, _ = LAYERS[name]
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    model = quantized(layer, x).train()
    model(x).square().sum().backward()
    for parameter in (model.weight, model.weight_quantizer.step, model.activation_quantizer.step):
        assert bool(parameter.grad.isfinite().all())
        assert parameter.grad.any()


class Networks:
    """Networks that keep and call their layers in unusual ways; each multiplies in the layers `first` and `second`."""

    class Base(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    class Keyword(Base):
        def forward(self, x: Tensor) -> Tensor:
            return self.second(input=self.first(input=x))

    class Listed(Base):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [self.first, self.second]

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x)
            return x

    class BoundForward(Base):
        def __init__(self) -> None:
            super().__init__()
            self.run = self.second.forward

        def forward(self, x: Tensor) -> Tensor:
            return self.run(self.first(x))

    class Functional(Base):
        def forward(self, x: Tensor) -> Tensor:
            x = functional.linear(input=x, weight=self.first.weight, bias=self.first.bias)
            return functional.linear(x, self.second.weight, self.second.bias)

    class Nested(Base):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(self.second)

        def forward(self, x: Tensor) -> Tensor:
            return functional.linear(self.first(x), self.inner[0].weight, self.second.bias)


@pytest.mark.parametrize("kind", ["Keyword", "Listed", "BoundForward", "Functional", "Nested"])
@pytest.mark.parametrize("training", [True, False])
def test_layer_is_quantized_however_it_is_kept_and_called(kind, training):
    torch.manual_seed(0)
    network = getattr(Networks, kind)()
    x = torch.randn(3, 4)
    model = quantized(network, x).train(training)
    expected = x
    for name, layer in quantized_layers(model):
        quantized_x, weight = by_hand(layer, expected, network.get_submodule(name).weight)
        expected = functional.linear(quantized_x, weight, layer.bias)
    assert [name for name, _ in quantized_layers(model)] == ["first", "second"]
    torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(copy.deepcopy(model)(x), expected)


def test_tied_layers_share_a_weight_step_and_are_one_layer():
    class Tied(Networks.Base):
        def __init__(self) -> None:
            super().__init__()
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    torch.manual_seed(0)
    network, x = Tied(), torch.randn(3, 4)
    model = quantized(network, x)
    assert [name for name, _ in quantized_layers(model)] == ["first"]
    assert model.second.weight is model.first.weight
    expected = x
    for layer in (model.first, model.second):
        quantized_x, weight = by_hand(model.first, expected, network.first.weight)
        expected = functional.linear(quantized_x, weight, layer.bias)
    torch.testing.assert_close(model(x), expected)


def test_layer_called_twice_is_quantized_twice():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x))

    torch.manual_seed(0)
    network, x = Twice(), torch.randn(3, 4)
    model, expected = quantized(network, x), x
    for _ in range(2):
        quantized_x, weight = by_hand(model.layer, expected, network.layer.weight)
        expected = functional.linear(quantized_x, weight, network.layer.bias)
    torch.testing.assert_close(model(x), expected)


def test_excluded_layers_stay_as_they_are():
    torch.manual_seed(0)
    network, x = Networks.Keyword(), torch.randn(3, 4)
    supernet = to_supernet(network, (4, 2), example_input=x, exclude=["second"])
    assert [name for name, _ in quantized_layers(supernet)] == ["first"]
    assert type(supernet.second) is nn.Linear
    policy = Policy("Keyword", {"first": LayerBits(8, 8), "second": LayerBits(32, 32)})
    set_policy_(supernet, policy)
    assert type(to_quantized(network, policy, example_input=x).second) is nn.Linear


def test_quantized_layers_keep_their_hooks_and_names():
    network, calls = Networks.Listed(), []
    network.second.register_forward_hook(lambda *_: calls.append("second"))
    x = torch.randn(3, 4)
    model = quantized(network, x)
    calls.clear()
    model(x)
    assert calls == ["second"]
    assert {name for name, _ in model.named_parameters() if "quantizer" not in name} == {
        name for name, _ in network.named_parameters()
    }


@pytest.mark.parametrize(
    ("name", "per_channel"),
    [
        *product(["mobilenetv3_small_050", "tf_mobilenetv3_small_minimal_100"], [False, True]),
        ("nf_resnet26", False),
        pytest.param("nf_resnet26", True, marks=pytest.mark.slow),
    ],
)
def test_real_networks_without_bits_compute_what_they_did(name, per_channel):
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=5).eval()
    x = torch.randn(2, 3, 64, 64)
    model = quantized(network, x, bits=8, per_channel=per_channel)
    for _, layer in quantized_layers(model):
        layer.set_bits_(None)
    with torch.no_grad():
        torch.testing.assert_close(model(x), network(x))


def test_module_that_multiplies_otherwise_from_call_to_call_is_refused_with_a_way_on():
    class Changing(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            Changing.calls += 1
            return x @ x if Changing.calls % 2 else x @ x @ x

    class Network(Networks.Base):
        def __init__(self) -> None:
            super().__init__()
            self.product = Changing()

        def forward(self, x: Tensor) -> Tensor:
            return self.product(self.product(self.second(self.first(x))))

    message = (
        r"^product multiplies other activations from call to call, so no bits can be given to them; leave it in float "
        r'with exclude=\["product"\]$'
    )
    with pytest.raises(UnsupportedLayerError, match=message):
        measure_costs(Network(), (4, 4))
    costs = measure_costs(Network(), (4, 4), exclude=["product"])
    assert {name for name, cost in costs.items() if cost.fixed == LayerBits(32, 32)} == {
        f"product.product{index}" for index in range(2)
    }
    assert build_quantized(
        Network(), Policy("Network", {name: cost.fixed for name, cost in costs.items()}), costs, (4, 4)
    )


class ByMode(nn.Module):
    """Makes one product more in one of its modes than in the other."""

    def __init__(self, more_in_training: bool) -> None:
        super().__init__()
        self.more_in_training = more_in_training

    def forward(self, x: Tensor) -> Tensor:
        if self.training == self.more_in_training:
            x = (x @ x.mT) @ x
        return (x @ x.mT).softmax(-1) @ x


@pytest.mark.parametrize(("more_in_training", "compared"), [(True, "more"), (False, "fewer")])
@pytest.mark.parametrize("is_inside", [True, False])
def test_product_of_another_number_than_it_was_converted_by_is_refused(more_in_training, compared, is_inside):
    class Inside(Networks.Base):
        def __init__(self) -> None:
            super().__init__()
            self.product = ByMode(more_in_training)

        def forward(self, x: Tensor) -> Tensor:
            return self.product(self.second(self.first(x)))

    class Itself(Networks.Base):
        def forward(self, x: Tensor) -> Tensor:
            x = self.second(self.first(x))
            if self.training == more_in_training:
                x = (x @ x.mT) @ x
            return (x @ x.mT).softmax(-1) @ x

    network, x = (Inside if is_inside else Itself)().eval(), torch.randn(2, 4, 4)
    model = quantized(network, x)
    assert torch.isfinite(model.eval()(x)).all()
    names = [name for name, _ in quantized_layers(model) if name not in ("first", "second")]
    who, left = ("product", ["product"]) if is_inside else ("the network", names)
    message = f"{who} multiplies {compared} activations than in the pass it was converted by; exclude "
    with pytest.raises(UnsupportedLayerError, match=re.escape(f"{message}{json.dumps(left)} as well, so that it")):
        model.train()(x)
    advised = to_supernet(network, (4,), example_input=x, exclude=left)
    for _, layer in quantized_layers(advised):
        layer.set_bits_(None)
    for training in (True, False):
        torch.testing.assert_close(advised.train(training)(x), network.train(training)(x))


@pytest.mark.parametrize("more_in_training", [True, False])
@pytest.mark.parametrize("has_products", [True, False])
def test_products_of_a_module_in_float_are_not_counted_in_the_one_around_it(more_in_training, has_products):
    class Around(Networks.Base):
        def __init__(self) -> None:
            super().__init__()
            self.product = ByMode(more_in_training)

        def forward(self, x: Tensor) -> Tensor:
            x = self.product(functional.linear(x, self.first.weight))
            return self.second((x @ x.mT).softmax(-1) @ x if has_products else x)

    torch.manual_seed(0)
    network, x = Around().eval(), torch.randn(2, 4, 4)
    model = to_supernet(network, (4,), example_input=x, exclude=["product"])
    names = {name for name, _ in quantized_layers(model)}
    assert names == {"first", "second", *(("qk", "av") if has_products else ())}
    products = [layer for name, layer in quantized_layers(model) if name in ("qk", "av")]
    calls = []
    for layer in products:
        layer.register_forward_hook(lambda layer, *_: calls.append(layer))
    for training in (True, False):
        model.train(training)(x)
    assert calls == products * 2
    for _, layer in quantized_layers(model):
        layer.set_bits_(None)
    for training in (True, False):
        torch.testing.assert_close(model.train(training)(x), network.train(training)(x))


def test_a_module_in_float_makes_its_tensors_on_the_default_device():
    class Making(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self.made = torch.zeros(1)
            return x @ x.mT

    class Around(Networks.Base):
        def __init__(self) -> None:
            super().__init__()
            self.product = Making()

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.product(functional.linear(x, self.first.weight)))

    network, x = Around().eval(), torch.randn(2, 4, 4)
    model = to_supernet(network, (4,), example_input=x, exclude=["product"])
    model(x)
    assert model.product.made.device.type == "cpu"
    with torch.device("meta"):
        model(x)
    assert model.product.made.device.type == "meta"


def test_what_no_name_leads_to_inside_of_a_module_in_float_is_not_counted_around_it():
    class Multiplying(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x @ x.mT).softmax(-1)

    class InFloat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unnamed = [Multiplying()]

        def forward(self, x: Tensor) -> Tensor:
            return self.unnamed[0](x) @ x

    class Around(Networks.Base):
        def __init__(self) -> None:
            super().__init__()
            self.product = InFloat()

        def forward(self, x: Tensor) -> Tensor:
            x = self.product(functional.linear(x, self.first.weight))
            return self.second((x @ x.mT).softmax(-1) @ x)

    network, x = Around().eval(), torch.randn(2, 4, 4)
    model = to_supernet(network, (4,), example_input=x, exclude=["product", "product.*"])
    assert {name for name, _ in quantized_layers(model)} == {"first", "second", "qk", "av"}
    for _, layer in quantized_layers(model):
        layer.set_bits_(None)
    torch.testing.assert_close(model(x), network(x))
