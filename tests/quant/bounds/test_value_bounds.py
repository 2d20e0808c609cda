"""The bounds that interval analysis claims of an operation hold for the numbers that it gives."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from operations import OPERATIONS, ORDER, SHAPE, lies_within
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from limpq_hub.quant.bounds.bound_rules import RULES
from limpq_hub.quant.bounds.value_bounds import Bounds, ValueBounds

INFINITE = Bounds(-math.inf, math.inf)
RANGES = [(-3.0, 2.0), (0.0, 5.0), (0.5, 4.0), (-4.0, -1.0), (0.0, 0.0), (-math.inf, math.inf), (-2.0, math.inf)]


def operands(low: float, high: float, device: str) -> tuple[Tensor, Tensor]:
    """Two tensors that reach far beyond a finite `low` and `high` before they are clamped to these."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, *SHAPE, generator=generator) * 5).to(device).unbind()
    if math.isinf(low) and math.isinf(high):
        return x.clone(), y.clone()
    return x.clamp(low, high), y.clamp(low, high)


def results(result: object) -> list[Tensor]:
    return list(result) if isinstance(result, list) else [result]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_number_that_an_operation_gives_lies_in_its_bounds(name):
    torch.manual_seed(0)
    for low, high in RANGES:
        with ValueBounds() as bounds, torch.no_grad():
            result = results(OPERATIONS[name](*operands(low, high, "cpu")))
        for tensor in result:
            assert lies_within(tensor, bounds.of(tensor)), (low, high, bounds.of(tensor))


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_meta_device_gives_the_bounds_that_a_cpu_gives(name):
    claimed = []
    for device in ("meta", "cpu"):
        with ValueBounds() as bounds, torch.no_grad():
            result = results(OPERATIONS[name](*operands(0.5, 4.0, device)))
        claimed.append([bounds.of(tensor) for tensor in result])
    assert claimed[0] == claimed[1]


@pytest.mark.parametrize("name", OPERATIONS)
def test_inference_mode_gives_the_bounds_that_no_grad_gives(name):
    claimed = []
    for context in (torch.inference_mode, torch.no_grad):
        with context(), ValueBounds() as bounds:
            result = results(OPERATIONS[name](*operands(0.5, 4.0, "cpu")))
        claimed.append([bounds.of(tensor) for tensor in result])
    assert claimed[0] == claimed[1]


def test_every_rule_is_one_of_an_operation_that_is_tried_here():
    names = set()

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            names.add(func._schema.name.removeprefix("aten::").removesuffix("_"))
            return func(*args, **(kwargs or {}))

    for context in (torch.no_grad, torch.inference_mode):
        with context(), Names():
            for operation in OPERATIONS.values():
                operation(*operands(0.5, 4.0, "cpu"))
    assert set(RULES) <= names


@pytest.mark.parametrize("name", RULES)
def test_a_rule_takes_the_arguments_of_every_overload(name):
    for operation in (getattr(torch.ops.aten, twin, None) for twin in (name, f"{name}_")):
        for overload in operation.overloads() if operation else ():
            schema = getattr(operation, overload)._schema
            if not any(argument.is_out for argument in schema.arguments):
                positional = [argument for argument in schema.arguments if not argument.kwarg_only]
                required = [argument for argument in positional if not argument.has_default_value()]
                options = {argument.name: None for argument in schema.arguments if argument.kwarg_only}
                inspect.signature(RULES[name]).bind(*positional, **options)
                inspect.signature(RULES[name]).bind(*required)


def of_range(low: float, high: float) -> Tensor:
    return torch.empty(2, 4, device="meta").clamp(low, high)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (lambda: F.relu(torch.empty(4, device="meta")), Bounds(0, math.inf)),
        (lambda: F.relu6(torch.empty(4, device="meta")), Bounds(0, 6)),
        (lambda: torch.empty(4, device="meta").sigmoid(), Bounds(0, 1)),
        (lambda: torch.empty(4, device="meta").tanh(), Bounds(-1, 1)),
        (lambda: F.hardsigmoid(of_range(0, 9)), Bounds(0.5, 1)),
        (lambda: F.leaky_relu(of_range(-10, 5), 0.1), Bounds(-1, 5)),
        (lambda: F.elu(torch.empty(4, device="meta")), Bounds(-1, math.inf)),
        (lambda: F.softplus(torch.empty(4, device="meta")), Bounds(0, math.inf)),
        (lambda: F.threshold(of_range(-2, 3), 1, -5), Bounds(-5, 3)),
        (lambda: of_range(-2, 3) * of_range(-5, 4), Bounds(-15, 12)),
        (lambda: of_range(-2, 3) * torch.empty(4, device="meta"), INFINITE),
        (lambda: of_range(0, 0) * torch.empty(4, device="meta"), Bounds(0, 0)),
        (lambda: of_range(-2, 3) + of_range(-5, 4), Bounds(-7, 7)),
        (lambda: torch.add(of_range(-2, 3), of_range(-5, 4), alpha=-2), Bounds(-10, 13)),
        (lambda: of_range(-2, 3) - of_range(-5, 4), Bounds(-6, 8)),
        (lambda: 1 - of_range(0, 1), Bounds(0, 1)),
        (lambda: of_range(-2, 3) / -2, Bounds(-1.5, 1)),
        (lambda: of_range(-2, 4) / of_range(2, 4), Bounds(-1, 2)),
        (lambda: of_range(-2, 4) / of_range(0, 4), INFINITE),
        (lambda: -of_range(-2, 4), Bounds(-4, 2)),
        (lambda: of_range(-5, 4).abs(), Bounds(0, 5)),
        (lambda: of_range(-5, -2).abs(), Bounds(2, 5)),
        (lambda: of_range(-3, 2).square(), Bounds(0, 9)),
        (lambda: torch.cat([of_range(-3, 2), of_range(0, 5)]), Bounds(-3, 5)),
        (lambda: F.pad(of_range(1, 2), (1, 1), value=7), Bounds(1, 7)),
        (lambda: F.avg_pool2d(of_range(1, 2)[None, None], 2), Bounds(0, 2)),
        (lambda: F.max_pool2d(of_range(1, 2)[None, None], 2), Bounds(1, 2)),
        (lambda: of_range(1, 2).sum(), Bounds(0, math.inf)),
        (lambda: of_range(-1, 2).sum(), INFINITE),
        (lambda: of_range(-1, 2).mean(), Bounds(-1, 2)),
        (lambda: F.dropout(of_range(1, 2), 0.5, training=False), Bounds(1, 2)),
        (lambda: F.interpolate(of_range(1, 2)[None], 9), Bounds(1, 2)),
        (lambda: F.interpolate(of_range(1, 2)[None, None], 9, mode="bilinear"), Bounds(1, 2)),
        (lambda: F.interpolate(of_range(1, 2)[None, None], 9, mode="bicubic"), INFINITE),
        (lambda: torch.maximum(of_range(-3, 2), of_range(0, 1)), Bounds(0, 2)),
        (lambda: of_range(0, 1) @ of_range(0, 1).T, INFINITE),
    ],
)
def test_bounds_worked_out_by_hand(operation, expected):
    with ValueBounds() as bounds:
        assert bounds.of(operation()) == expected


@pytest.mark.parametrize("activation", [F.silu, F.gelu, lambda x: F.gelu(x, approximate="tanh"), F.mish, F.hardswish])
def test_the_least_value_of_an_activation_is_that_of_a_fine_grid(activation):
    with ValueBounds() as bounds:
        claimed = bounds.of(activation(torch.empty(4, device="meta")))
    least = activation(torch.linspace(-8, 8, 1_600_001, dtype=torch.float64)).min().item()
    assert claimed.low <= least < claimed.low + 1e-3
    assert claimed.high == math.inf


def test_an_activation_times_a_gate_keeps_its_least_value():
    x, gate = torch.empty(2, 4, device="meta"), torch.empty(2, 4, device="meta")
    with ValueBounds() as bounds:
        claimed = bounds.of(F.silu(x) * gate.sigmoid())
    assert -0.279 < claimed.low < -0.278
    assert claimed.high == math.inf


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_view_has_the_bounds_of_its_tensor_and_shares_what_changes_it(device):
    with ValueBounds() as bounds:
        x = torch.empty(4, 6, device=device).clamp(-1, 2)
        views = [x[1:], x.t(), x.reshape(24), x.expand(3, 4, 6), *x.split(2), x.unfold(0, 2, 1)]
        assert {bounds.of(view) for view in views} == {Bounds(-1, 2)}
        x.t().relu_()
        assert {bounds.of(view) for view in [x, *views]} == {Bounds(0, 2)}


def test_a_change_in_place_of_a_part_widens_the_bounds_of_the_whole():
    with ValueBounds() as bounds:
        x = torch.ones(4, 6, device="meta")
        x[1:].fill_(5)
        assert bounds.of(x) == Bounds(1, 5)
        x[:, ::2].mul_(-1)
        assert bounds.of(x) == Bounds(-5, 5)
        # As many elements as the storage has, but not every one of it.
        x[:2].expand(2, 2, 6).clamp_(0, 1)
        assert bounds.of(x) == Bounds(-5, 5)


def test_a_change_of_a_part_of_an_unknown_tensor_tells_nothing_of_it():
    with ValueBounds() as bounds:
        x = torch.empty(4, 6, device="meta")
        x[1:].relu_()
        assert bounds.of(x) == INFINITE


def test_an_unknown_operation_leaves_its_operands_and_tells_nothing_of_its_result():
    with ValueBounds() as bounds:
        x = torch.empty(4, 6, device="meta").relu()
        assert bounds.of(torch.special.bessel_j0(x)) == INFINITE
        assert bounds.of(x.diagonal()) == Bounds(0, math.inf)
        assert bounds.of(x) == Bounds(0, math.inf)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.normal_(),
        lambda x: x.log_(),
        lambda x: torch.relu_(x).view(torch.int32).neg_(),
        lambda x: torch.neg(torch.ones_like(x), out=x),
        lambda x: torch._foreach_sub_([x], 1.0),
        lambda x: x.index_put_((ORDER,), x[ORDER] - 1),
    ],
)
def test_a_change_without_a_rule_forgets_the_bounds(change):
    with ValueBounds() as bounds:
        x = torch.empty(4, 6).relu()
        change(x)
        assert bounds.of(x) == INFINITE


def test_the_bytes_read_as_another_type_have_no_bounds():
    with ValueBounds() as bounds:
        x = torch.ones(4, 6)
        assert bounds.of(x.view(torch.float16)) == INFINITE
        assert bounds.of(x.view(torch.int32)) == INFINITE
        assert bounds.of(torch.view_as_complex(x.view(4, 3, 2))) == INFINITE
        x.view(torch.float16).fill_(-1)
        assert bounds.of(x) == INFINITE


def test_parameters_and_inputs_have_no_bounds():
    layer, x = nn.Linear(4, 4, device="meta"), torch.zeros(2, 4, device="meta")
    with ValueBounds() as bounds:
        layer(x)
        assert {bounds.of(tensor) for tensor in (x, layer.weight)} == {INFINITE}


def test_a_later_tensor_does_not_take_the_bounds_of_one_that_is_gone():
    with ValueBounds() as bounds:
        for _ in range(50):
            torch.empty(256).relu()
            assert bounds.of(torch.empty(256)) == INFINITE
