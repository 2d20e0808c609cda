"""Tests of step and BatchNorm calibration from unlabelled images, against values computed by hand."""

import copy
import math
from types import MethodType

import pytest
import torch
from torch import Tensor, nn

from limpq_hub.errors import PolicyError, UnsupportedLayerError
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.quant.calibrate import (
    calibrate_steps_,
    initialize_activation_steps_,
    initialize_steps_,
)
from limpq_hub.quant.convert import read_policy, set_policy_, to_supernet
from limpq_hub.quant.layers import quantize_layer_
from limpq_hub.quant.quantized import quantized_layers

STEP_NAMES = ("weight_quantizer.step", "activation_quantizer.step")


def on_grid(x: Tensor, step: float, low: int, high: int) -> Tensor:
    return torch.round(torch.clamp(x / step, low, high)) * step


def squared_error(x: Tensor, step: Tensor | float, bits: int, signed: bool) -> float:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return float((on_grid(x.double(), float(torch.as_tensor(step).detach()), low, high) - x).square().sum())


def batches(count: int, size: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(size, 3, 8, 8, generator=generator) * 2 + 0.5 for _ in range(count)]


# Initial steps


@pytest.mark.parametrize("training", [True, False])
def test_initial_activation_steps_change_nothing_else(training, supernet, images, policy_of, state_of):
    set_policy_(supernet, policy_of(0)).train(training)
    with torch.no_grad():
        for _, layer in quantized_layers(supernet):
            layer.activation_quantizer.step.fill_(77.0)
    before = state_of(supernet)
    initialize_activation_steps_(supernet, images)
    after = state_of(supernet)
    differing = {name for name in after if after[name] != before[name]}
    assert differing == {f"{name}.activation_quantizer.step" for name, _ in quantized_layers(supernet)}


def test_initial_activation_steps_follow_the_formula_with_the_net_at_one_bit_width_at_a_time():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    network = nn.Sequential(*network, nn.ReLU(), nn.Conv2d(4, 2, 1))
    images = batches(1)[0]
    supernet = to_supernet(network, (4, 2), example_input=images, step_start="lsq")
    network.train()
    with torch.no_grad():
        step = 2 * images.abs().mean() / math.sqrt(127)
        assert supernet[0].activation_quantizer.step.tolist() == pytest.approx([step.item()])
        weight = on_grid(network[0].weight, supernet[0].weight_quantizer.step.item(), -128, 127)
        first = nn.functional.conv2d(on_grid(images, step, -128, 127), weight, network[0].bias)
        inner = network[1](first).relu()
        expected = [2 * inner.mean().item() / math.sqrt(highest) for highest in (15, 3)]
        assert supernet[3].activation_quantizer.step.tolist() == pytest.approx(expected, rel=1e-4)


def test_initial_activation_steps_are_set_of_a_network_that_keeps_what_it_computed(supernet, images):
    expected = copy.deepcopy(supernet)
    initialize_activation_steps_(expected, images)
    supernet.kept = supernet(images)
    assert not supernet.kept.is_leaf
    initialize_activation_steps_(supernet, images)
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in supernet.state_dict().items())


@pytest.mark.parametrize(
    ("step_start", "told"),
    [
        ("lsq", "does not quantize its input in train mode, in which steps are started: "),
        ("least-error", "was never called, or is frozen as `load` returns it"),
    ],
)
def test_a_layer_whose_quantizers_are_never_called_is_told(step_start, told):
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    network[1].forward = MethodType(nn.Linear.forward, network[1])  # as tools do that wrap it
    with pytest.raises(UnsupportedLayerError, match=f"^layer '1' {told}"):
        to_supernet(network, (4, 2), example_input=torch.randn(3, 4), step_start=step_start)


def test_initial_activation_steps_draw_no_number_that_training_would_draw():
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 4), nn.Linear(4, 2))
    supernet, images = to_supernet(network, (4, 2), example_input=torch.randn(3, 4)), torch.randn(3, 4)
    before = torch.get_rng_state()
    initialize_activation_steps_(supernet, images)
    assert torch.equal(torch.get_rng_state(), before)


# Steps of least error at every bit-width


def least_squared_error(x: Tensor, bits: int, signed: bool) -> float:
    """The smallest error of 500 steps."""
    widest = float(x.abs().max()) / (2 ** (bits - 1) - 1 if signed else 2**bits - 1)
    return min(squared_error(x, widest * k / 500, bits, signed) for k in range(1, 501))


# At 8 bits the error of few values jumps about with the step: a coarser search ends a little above the best.
NEARLY = {8: 1.25, 4: 1.05, 3: 1.05, 2: 1.05}


def test_steps_at_every_bit_width_have_the_least_error_on_what_the_float_network_computes(network, images):
    supernet = to_supernet(network, (4, 3, 2), example_input=images)
    for _, layer in quantized_layers(supernet):
        layer.weight_quantizer.step.data.fill_(77.0)
        layer.activation_quantizer.step.data.fill_(77.0)
    initialize_steps_(supernet, batches(2))
    inputs = {name: [] for name, _ in quantized_layers(supernet)}
    for name, values in inputs.items():
        network.get_submodule(name).register_forward_pre_hook(lambda _, args, values=values: values.append(args[0]))
    for batch in batches(2):
        network(batch)
    for name, layer in quantized_layers(supernet):
        values = torch.cat(inputs[name]).detach()
        for x, quantizer in (
            (layer.weight.detach(), layer.weight_quantizer),
            (values, layer.activation_quantizer),
        ):
            for bits in quantizer.candidates:
                error = squared_error(x, quantizer.step_of(bits), bits, quantizer.signed)
                assert error <= NEARLY[bits] * least_squared_error(x, bits, quantizer.signed), (name, bits)


@pytest.mark.parametrize("training", [True, False])
def test_steps_of_least_error_change_nothing_else(training, supernet, policy_of, state_of):
    set_policy_(supernet, policy_of(0)).train(training)
    supernet.stem.set_bits_(None)
    with torch.no_grad():
        for parameter in (p for name, p in supernet.named_parameters() if name.endswith("step")):
            parameter.fill_(77.0)
    before, policy = state_of(supernet), read_policy(supernet)
    initialize_steps_(supernet, batches(1))
    after = state_of(supernet)
    assert {name for name in after if after[name] != before[name]} == {
        f"{name}.{step}" for name, _ in quantized_layers(supernet) for step in STEP_NAMES
    }
    assert not any(77.0 in after[name] for name in after if name.endswith("step"))
    assert read_policy(supernet) == policy


def test_bits_are_restored_after_an_error_in_the_batches(supernet, policy_of, state_of):
    set_policy_(supernet, policy_of(0)).train()

    def broken():
        yield from batches(1)
        raise OSError("disk gone")

    before, policy = state_of(supernet), read_policy(supernet)
    with pytest.raises(OSError, match=r"^disk gone$"):
        initialize_steps_(supernet, broken())
    assert (state_of(supernet), read_policy(supernet)) == (before, policy)


def test_each_channel_has_the_steps_of_least_error_of_its_own_weights(images):
    torch.manual_seed(0)
    layer = quantize_layer_(nn.Conv2d(3, 5, 3))
    layer.add_quantizers_((8, 3), (8, 3), grid="signed", per_channel=True)
    initialize_steps_(layer, [images])
    assert layer.weight_quantizer.step.shape == (2, 5)
    for index, bits in enumerate((8, 3)):
        for channel, step in zip(layer.weight.detach(), layer.weight_quantizer.step[index], strict=True):
            error = squared_error(channel, step, bits, True)
            assert error <= NEARLY[bits] * least_squared_error(channel, bits, True)


def test_an_offset_grid_gets_the_zero_point_of_least_error_at_each_bit_width():
    layer = quantize_layer_(nn.Linear(6, 2))
    layer.add_quantizers_((8,), (8, 4), grid="offset")
    x = nn.functional.silu(2 * torch.randn(500, 6, generator=torch.Generator().manual_seed(0)))
    initialize_steps_(layer, [x])
    quantizer = layer.activation_quantizer
    for bits in (8, 4):
        step = quantizer.step_of(bits).item()
        assert quantizer.zero_point_of(bits) == pytest.approx(-x.min().item() / step, abs=1.0)
        layer.set_bits_(LayerBits(8, bits))
        error = (quantizer(x) - x).square().sum().item()
        assert error < 0.8 * min(least_squared_error(x, bits, signed) for signed in (True, False))


def test_a_large_input_is_sampled_without_favour_to_any_column():
    layer = quantize_layer_(nn.Linear(64, 2))
    layer.add_quantizers_((4,), (4,), grid="unsigned")
    x = torch.rand(40_000, 64, generator=torch.Generator().manual_seed(0)) * torch.linspace(0, 8, 64)
    initialize_steps_(layer, x.split(10_000))
    error = squared_error(x, layer.activation_quantizer.step_of(4), 4, False)
    widest = x.max().item() / 15
    assert error <= 1.02 * min(squared_error(x, widest * k / 40, 4, False) for k in range(15, 41))


class Halves(nn.Module):
    """Calls a layer by keyword, twice, and one not at all."""

    def __init__(self, *, unused: bool = False) -> None:
        super().__init__()
        self.twice = quantize_layer_(nn.Linear(4, 4))
        self.unused = quantize_layer_(nn.Linear(4, 4)) if unused else None
        for layer in (self.twice, *([self.unused] if unused else [])):
            layer.add_quantizers_((4,), (4,), grid="signed")

    def forward(self, x: Tensor) -> Tensor:
        return self.twice(input=x[:1]) + self.twice(input=10 * x[1:])


def test_steps_of_a_layer_called_twice_by_keyword_fit_both_inputs():
    model, x = Halves(), torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    initialize_steps_(model, [x])
    both = torch.cat([x[:1], 10 * x[1:]])
    error = squared_error(both, model.twice.activation_quantizer.step_of(4), 4, True)
    assert error <= 1.05 * least_squared_error(both, 4, True)
    calibrate_steps_(model, ["twice"], [x])
    assert squared_error(both, model.twice.activation_quantizer.step_of(4), 4, True) == pytest.approx(error, rel=0.02)


@pytest.mark.parametrize("calibrate", [initialize_steps_, lambda m, b: calibrate_steps_(m, ["twice", "unused"], b)])
def test_a_layer_that_is_never_called_is_named(calibrate):
    message = r"^layer 'unused' was never called, or is frozen .*\.run_simulated_\(model\) makes layers as in training$"
    with pytest.raises(UnsupportedLayerError, match=message):
        calibrate(Halves(unused=True), [torch.randn(2, 4)])


def spoil_the_images(network: nn.Module, images: Tensor) -> None:
    images[1, 0, 3, 3] = torch.nan


def spoil_a_weight(network: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        network.classifier.weight[2, 1] = torch.inf


@pytest.mark.parametrize("step_start", ["lsq", "least-error"])
@pytest.mark.parametrize(
    ("spoil", "what"), [(spoil_the_images, "'stem' has an input"), (spoil_a_weight, "'classifier' has a weight")]
)
def test_no_step_is_set_from_what_is_no_finite_number(network, images, step_start, spoil, what):
    spoil(network, images)
    message = (
        rf"^layer {what} that is not finite \(nan or inf\), of which no step size can be set: look at the weights "
    )
    with pytest.raises(UnsupportedLayerError, match=message):
        to_supernet(network, (4, 2), example_input=images, step_start=step_start)


@pytest.mark.parametrize("step_start", ["lsq", "least-error"])
def test_a_batch_without_images_is_refused(network, images, step_start):
    message = "^there are no images in the batch: step sizes are set from one image or more$"
    with pytest.raises(ValueError, match=message):
        to_supernet(network, (4, 2), example_input=images[:0], step_start=step_start)


@pytest.mark.parametrize("given", ["no batch", "an empty batch"])
def test_no_batches_are_refused(supernet, images, given):
    with pytest.raises(ValueError, match="^no batches were given: step sizes are set from at least one batch of "):
        initialize_steps_(supernet, [] if given == "no batch" else [images[:0]])


def test_steps_start_at_the_least_error_unless_the_rules_of_lsq_are_asked_for(network, images):
    by_rule = to_supernet(network, (4, 2), example_input=images, step_start="lsq")
    least_error = to_supernet(network, (4, 2), example_input=images)
    for (name, layer), (_, other) in zip(quantized_layers(by_rule), quantized_layers(least_error), strict=True):
        weight, quantizer = layer.weight.detach(), layer.weight_quantizer
        for bits in quantizer.candidates:
            step, best = quantizer.step_of(bits), other.weight_quantizer.step_of(bits)
            torch.testing.assert_close(step, quantizer.initial_step(weight, bits))
            assert squared_error(weight, best, bits, True) <= squared_error(weight, step, bits, True) * (1 + 1e-6), name


# Step calibration


@pytest.fixture
def at_policy(supernet, policy_of):
    """The supernet at a mixed policy, all of its steps away from those of least error."""
    with torch.no_grad():
        for _, layer in quantized_layers(supernet):
            layer.weight_quantizer.step.mul_(1.7)
            layer.activation_quantizer.step.mul_(1.7)
    return set_policy_(supernet, policy_of(2))


def inputs_of(model: nn.Module, images: list[Tensor]) -> dict[str, Tensor]:
    model = copy.deepcopy(model).eval()
    seen: dict[str, list[Tensor]] = {name: [] for name, _ in quantized_layers(model)}
    for name, layer in quantized_layers(model):
        layer.register_forward_pre_hook(lambda _, args, name=name: seen[name].append(args[0]))
    with torch.no_grad():
        for batch in images:
            model(batch)
    return {name: torch.cat(values) for name, values in seen.items()}


def test_calibrated_step_is_no_worse_than_the_initial_and_the_max_range_one(at_policy):
    images = batches(2)
    initial = copy.deepcopy(at_policy)
    inputs = inputs_of(at_policy, images)
    calibrate_steps_(at_policy, [name for name, _ in quantized_layers(at_policy)], images)
    before = dict(quantized_layers(initial))
    for name, layer in quantized_layers(at_policy):
        for kind, values in (("weight_quantizer", layer.weight.detach()), ("activation_quantizer", inputs[name])):
            quantizer = getattr(layer, kind)
            bits, signed = quantizer.bits, quantizer.signed
            max_range = values.abs().max() / (2 ** (bits - 1) - 1 if signed else 2**bits - 1)
            errors = [
                squared_error(values, step, bits, signed)
                for step in (quantizer.step_of(bits), getattr(before[name], kind).step_of(bits), max_range)
            ]
            assert errors[0] <= min(errors) * (1 + 1e-6), (name, kind)


def test_calibrated_step_is_close_to_the_best_of_a_fine_search(at_policy):
    values = at_policy.project.weight.detach()
    bits = at_policy.project.bits.weight
    calibrate_steps_(at_policy, ["project"], batches(1))
    fine = [squared_error(values, values.abs().max() * k / 4000, bits, True) for k in range(1, 4001)]
    assert squared_error(values, at_policy.project.weight_quantizer.step_of(bits), bits, True) <= 1.05 * min(fine)


def test_calibration_with_rare_large_activations_is_no_worse_than_the_initial_step():
    layer = quantize_layer_(nn.Linear(1, 1))
    layer.add_quantizers_((2,), (2,), grid="unsigned")
    values = torch.rand(200_000, 1, generator=torch.Generator().manual_seed(0)) + 0.5
    values[0] = 400.0
    layer.activation_quantizer.set_step_(2, layer.activation_quantizer.initial_step(values, 2))
    initial = squared_error(values, layer.activation_quantizer.step.item(), 2, False)
    calibrate_steps_(nn.Sequential(layer), ["0"], [values])
    assert squared_error(values, layer.activation_quantizer.step.item(), 2, False) <= initial


@pytest.mark.parametrize("as_given", [list, iter], ids=["list", "iterator"])
def test_step_calibration_changes_the_active_steps_of_the_named_layers_only(as_given, at_policy, state_of):
    before = state_of(at_policy)
    named = ["depthwise", "final"]
    calibrate_steps_(at_policy, as_given(named), batches(1))
    after = state_of(at_policy)
    differing = {name for name in after if after[name] != before[name]}
    assert differing == {f"{name}.{step}" for name in named for step in STEP_NAMES}
    for name in named:
        quantizer = at_policy.get_submodule(name).weight_quantizer
        old = before[f"{name}.weight_quantizer.step"]
        moved = [bits for bits, a, b in zip(quantizer.candidates, old, quantizer.step.tolist(), strict=True) if a != b]
        assert moved == [quantizer.bits]


def test_step_calibration_runs_in_eval_mode_and_restores_the_mode_of_every_module(at_policy):
    evaluated = copy.deepcopy(at_policy).eval()
    at_policy.train()
    at_policy.stem_norm.eval()  # a frozen normalization
    before = {name: module.training for name, module in at_policy.named_modules()}
    for model in (at_policy, evaluated):
        calibrate_steps_(model, ["final"], batches(1))
    assert {name: module.training for name, module in at_policy.named_modules()} == before
    expected = evaluated.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in at_policy.state_dict().items())


def test_step_calibration_changes_nothing_after_an_error_in_the_batches(at_policy, state_of):
    at_policy.train()
    at_policy.stem_norm.eval()

    def broken():
        yield from batches(1)
        raise OSError("disk gone")

    before = state_of(at_policy)
    with pytest.raises(OSError, match=r"^disk gone$"):
        calibrate_steps_(at_policy, ["depthwise", "final"], broken())
    assert state_of(at_policy) == before


def test_a_layer_in_float_has_no_step_to_calibrate_and_nothing_is_run(at_policy, state_of):
    at_policy.final.set_bits_(None)
    before = state_of(at_policy)
    message = r"^layer 'final' runs in float and has no step to calibrate; set a policy with bits for it$"
    with pytest.raises(PolicyError, match=message):
        calibrate_steps_(at_policy, ["project", "final"], iter(lambda: pytest.fail("a batch was read"), None))
    assert state_of(at_policy) == before


def test_step_calibration_of_zeros_gives_a_positive_step(at_policy):
    with torch.no_grad():
        at_policy.project.weight.zero_()
    calibrate_steps_(at_policy, ["project"], batches(1))
    bits = at_policy.project.bits.weight
    assert at_policy.project.weight_quantizer.step_of(bits).item() >= 1e-6
    assert not at_policy.project.quantized_weight().any()


class AddsItsBranch(nn.Module):
    """The second layer's result is added to its own input, in place or not."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.in_place = in_place
        self.first, self.second = (nn.Conv2d(channels, 4, 3, padding=1) for channels in (3, 4))
        self.third, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x.add_(self.second(x)) if self.in_place else x + self.second(x)
        return self.head(self.third(x).mean((2, 3)))


def test_steps_are_those_of_what_a_layer_took_though_the_network_writes_over_it():
    images = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    written, kept = (to_supernet(AddsItsBranch(in_place), (4, 2), example_input=images) for in_place in (True, False))
    for model in (written, kept):
        layers = dict(quantized_layers(model))
        for layer in layers.values():
            layer.set_bits_(LayerBits(layer.weight_quantizer.candidates[0], layer.activation_quantizer.candidates[0]))
        calibrate_steps_(model, layers, [images])
    steps = {name: x for name, x in kept.named_parameters() if name.endswith(STEP_NAMES)}
    assert len(steps) == 8
    for name, x in written.named_parameters():
        if name in steps:
            torch.testing.assert_close(x, steps[name], rtol=0, atol=0)
