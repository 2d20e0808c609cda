"""The criteria of others, beside Hessians and gradients that autograd makes whole, on networks of a few numbers."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from taken_weight import TakesAWeight
from torch import Tensor, nn
from torch.func import functional_call

from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.quant.convert import to_supernet
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.train.measure import hessian_traces as hessian_module
from limpq_hub.train.measure.gradient_scores import gradient_scores
from limpq_hub.train.measure.hessian_traces import hessian_importance, hessian_traces
from limpq_hub.train.measure.rounding_errors import operands_noted, relative_errors, searched_layers

CANDIDATES = (4, 2)
PAIRS = [LayerBits(weight, activation) for weight in CANDIDATES for activation in CANDIDATES]


class Residual(nn.Module):
    """Four layers, the two in the middle searched; the input of the second of these goes elsewhere too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = nn.Conv2d(3, 2, 3), nn.Conv2d(2, 3, 1, bias=False)
        self.outer, self.head = nn.Linear(3, 3, bias=False), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.inner(self.first(x).relu())).mean((2, 3))
        return self.head(x + torch.tanh(self.outer(x)))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return Residual().double().eval()


@pytest.fixture
def supernet(network, images) -> nn.Module:
    return to_supernet(network, CANDIDATES, example_input=images).double()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return -(labels * logits.log_softmax(-1)).sum(-1).mean()


def exact_trace(of: Tensor, loss_of) -> float:
    size = of.numel()
    hessian = torch.autograd.functional.hessian(loss_of, of).reshape(size, size)
    return float(hessian.diagonal().sum())


def traces_by_autograd(network: nn.Module, images: Tensor) -> dict:
    """Return the trace of the whole Hessian of each operand, each loss written out anew."""
    with torch.no_grad():
        soft = network(images).softmax(-1)
        inner_input = network.first(images).relu()
        features = torch.tanh(network.inner(inner_input)).mean((2, 3))

    def by_weight(name: str):
        weight = network.get_parameter(name)
        return exact_trace(
            weight.detach(), lambda x: cross_entropy(functional_call(network, {name: x}, (images,)), soft)
        )

    def by_inner_input(x: Tensor) -> Tensor:
        y = torch.tanh(network.inner(x)).mean((2, 3))
        return cross_entropy(network.head(y + torch.tanh(network.outer(y))), soft)

    def by_outer_input(x: Tensor) -> Tensor:
        return cross_entropy(network.head(features + torch.tanh(network.outer(x))), soft)

    return {
        ("inner", "weight"): by_weight("inner.weight"),
        ("inner", "activation"): exact_trace(inner_input, by_inner_input),
        ("outer", "weight"): by_weight("outer.weight"),
        ("outer", "activation"): exact_trace(features, by_outer_input),
    }


def test_traces_are_on_average_those_of_the_whole_hessian(network, supernet, images):
    expected = traces_by_autograd(network, images)
    with operands_noted(supernet, searched_layers(supernet)) as operands:
        found = hessian_traces(supernet, images, operands, 1500, torch.Generator().manual_seed(0))
    assert found.keys() == expected.keys()
    for key, trace in expected.items():
        assert found[key] == pytest.approx(trace, rel=0.1), key


def rounded(supernet: nn.Module, name: str, kind: str, bits: int, x: Tensor) -> Tensor:
    """Return what a layer rounds to a grid, by its step alone."""
    quantizer = dict(quantized_layers(supernet))[name].get_submodule(f"{kind}_quantizer")
    step = float(quantizer.step_of(bits).detach())
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if quantizer.signed else (0, 2**bits - 1)
    return (x / step).clamp(low, high).round() * step


def operands_by_hand(network: nn.Module, images: Tensor) -> dict:
    with torch.no_grad():
        inner_input = network.first(images).relu()
        return {
            ("inner", "weight"): network.inner.weight.detach(),
            ("inner", "activation"): inner_input,
            ("outer", "weight"): network.outer.weight.detach(),
            ("outer", "activation"): torch.tanh(network.inner(inner_input)).mean((2, 3)),
        }


@pytest.mark.parametrize("sizes", [[5], [2, 3]])
def test_the_hessian_criterion_is_mean_curvature_times_squared_error(network, supernet, images, monkeypatch, sizes):
    def exact_traces(supernet: nn.Module, batch: Tensor, *random: object) -> dict:
        supernet(batch)
        return traces_by_autograd(network, batch)

    monkeypatch.setattr(hessian_module, "hessian_traces", exact_traces)
    batches = images.split(sizes)
    importance = hessian_importance(supernet, batches)
    for name, pair in itertools.product(("inner", "outer"), PAIRS):
        expected = 0.0
        for batch in batches:
            traces, operands = traces_by_autograd(network, batch), operands_by_hand(network, batch)
            for kind, bits, count in (("weight", pair.weight, 1), ("activation", pair.activation, len(batch))):
                x = operands[name, kind]
                error = float((x - rounded(supernet, name, kind, bits, x)).square().sum()) / count
                expected += len(batch) / 5 * traces[name, kind] / (x.numel() / count) * error
        assert importance[name][pair] == pytest.approx(expected, rel=1e-9), (name, pair)


def test_the_relative_error_is_that_of_the_weight_and_of_the_input(network, supernet, images):
    operands = operands_by_hand(network, images)
    for batches in ([images], [images[:2], images[2:]]):
        errors = relative_errors(supernet, batches)
        assert list(errors) == ["inner", "outer"]
        for name, pair in itertools.product(errors, PAIRS):
            expected = sum(
                float((x - rounded(supernet, name, kind, bits, x)).square().sum() / x.square().sum())
                for kind, bits, x in (
                    ("weight", pair.weight, operands[name, "weight"]),
                    ("activation", pair.activation, operands[name, "activation"]),
                )
            )
            assert errors[name][pair] == pytest.approx(expected, rel=1e-9), (name, pair)


def test_the_relative_error_is_that_of_an_input_that_is_written_over_later(supernet, images):
    class Written(nn.Module):
        def __init__(self, written: bool) -> None:
            super().__init__()
            self.first, self.inner, self.outer = supernet.first, supernet.inner, supernet.outer
            self.written = written

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x).relu()
            y = self.inner(x)
            if self.written:
                x.mul_(3.0)
            return self.outer(y.mean((2, 3)))

    assert relative_errors(Written(True), [images]) == relative_errors(Written(False), [images])


def test_the_gradient_score_is_the_squared_gradient_times_the_squared_change_of_each_output(network, supernet, images):
    scores = gradient_scores(supernet, [images], seed=3)
    logits = network(images)
    labels = torch.multinomial(logits.softmax(-1).detach(), 1, generator=torch.Generator().manual_seed(3))[:, 0]
    operands = operands_by_hand(network, images)
    before = operands["inner", "activation"]
    inner = network.inner(before).detach().requires_grad_()
    features = torch.tanh(inner).mean((2, 3))
    outer = network.outer(features)
    loss = nn.functional.cross_entropy(network.head(features + torch.tanh(outer)), labels, reduction="sum")
    gradients = dict(zip(("inner", "outer"), torch.autograd.grad(loss, (inner, outer)), strict=True))
    outputs = {"inner": inner.detach(), "outer": outer.detach()}
    for name, pair in itertools.product(scores, PAIRS):
        weight = rounded(supernet, name, "weight", pair.weight, operands[name, "weight"])
        x = rounded(supernet, name, "activation", pair.activation, operands[name, "activation"])
        changed = nn.functional.conv2d(x, weight) if name == "inner" else nn.functional.linear(x, weight)
        change = (changed - outputs[name]) * gradients[name]
        assert scores[name][pair] == pytest.approx(float(change.square().sum()) / 5, rel=1e-9), (name, pair)


def test_layers_of_one_weight_score_as_one_layer_that_is_called_twice(images):
    class CalledTwice(Residual):
        def __init__(self) -> None:
            super().__init__()
            self.again = self.outer

        def forward(self, x: Tensor) -> Tensor:
            x = torch.tanh(self.inner(self.first(x).relu())).mean((2, 3))
            return self.head(torch.tanh(self.again(torch.tanh(self.outer(x)))))

    class Tied(CalledTwice):
        def __init__(self) -> None:
            super().__init__()
            self.again = nn.Linear(3, 3, bias=False)
            self.again.weight = self.outer.weight

    scores = []
    for made in (CalledTwice, Tied):
        torch.manual_seed(0)
        network = made().double().eval()
        scores.append(gradient_scores(to_supernet(network, CANDIDATES, example_input=images).double(), [images]))
    assert scores[1]["outer"] == pytest.approx(scores[0]["outer"], rel=1e-9)


@pytest.mark.parametrize("criterion", [relative_errors, hessian_importance, gradient_scores])
def test_a_criterion_changes_neither_the_network_nor_the_images(supernet, images, criterion):
    layers = dict(quantized_layers(supernet))
    layers["inner"].set_bits_(LayerBits(2, 4))
    state, pixels = copy.deepcopy(supernet.state_dict()), images.clone()
    criterion(supernet, [images])
    assert [layer.bits for layer in layers.values()] == [None, LayerBits(2, 4), LayerBits(4, 4), None]
    assert all(torch.equal(value, state[name]) for name, value in supernet.state_dict().items())
    assert all(parameter.grad is None for parameter in supernet.parameters())
    assert torch.equal(images, pixels)
    assert not images.requires_grad
    assert not any(module._forward_hooks for module in supernet.modules())


def test_a_layer_that_is_never_called_has_no_output_to_score(images):
    torch.manual_seed(0)
    supernet = to_supernet(TakesAWeight().double().eval(), CANDIDATES, example_input=images).double()
    with pytest.raises(UnsupportedLayerError, match="layer 'middle' is never called by itself: it has no output"):
        gradient_scores(supernet, [images])
    assert relative_errors(supernet, [images]).keys() == hessian_importance(supernet, [images]).keys() == {"middle"}


class CalledByKeyword(Residual):
    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.inner(input=self.first(x).relu())).mean((2, 3))
        return self.head(x + torch.tanh(self.outer(input=x)))


@pytest.mark.parametrize("criterion", [relative_errors, hessian_importance, gradient_scores])
def test_how_a_layer_is_called_does_not_matter(images, criterion):
    tables = []
    for made in (Residual, CalledByKeyword):
        torch.manual_seed(0)
        supernet = to_supernet(made().double().eval(), CANDIDATES, example_input=images).double()
        tables.append(criterion(supernet, [images]))
    assert tables[0] == tables[1]


class LeavesOneOut(Residual):
    """What the second searched layer returns goes nowhere."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.inner(self.first(x).relu())).mean((2, 3))
        self.outer(x)
        return self.head(x)


@pytest.mark.parametrize("criterion", [hessian_importance, gradient_scores])
def test_a_layer_whose_output_goes_nowhere_costs_nothing(images, criterion):
    torch.manual_seed(0)
    supernet = to_supernet(LeavesOneOut().double().eval(), CANDIDATES, example_input=images).double()
    costs = criterion(supernet, [images])
    assert costs["outer"] == dict.fromkeys(PAIRS, 0.0)
    assert min(costs["inner"].values()) > 0
