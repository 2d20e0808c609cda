"""Tests of BatchNorm statistics from unlabelled images, against numpy in double precision."""

import copy

import numpy as np
import pytest
import scipy.special
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from limpq_hub.errors import DataError, PolicyError
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.batch_norm_calibration import (
    FEWEST_IMAGES,
    average_batch_norm_,
    recalibrate_batch_norm_,
    recalibrate_if_better_,
)
from limpq_hub.quant.batch_norm_correction import correct_batch_norm_
from limpq_hub.quant.convert import set_policy_, to_quantized
from limpq_hub.quant.switchable_batch_norm import SwitchableBatchNorm2d


def on_grid(x: Tensor, step: float, low: int, high: int) -> Tensor:
    return torch.round(torch.clamp(x / step, low, high)) * step


def batches(count: int, size: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(size, 3, 8, 8, generator=generator) * 2 + 0.5 for _ in range(count)]


@pytest.fixture
def at_policy(supernet, policy_of):
    return set_policy_(supernet, policy_of(2))


def channels_of(x: Tensor) -> np.ndarray:
    """Return [channels, values] in double precision."""
    return x.detach().double().numpy().transpose(1, 0, 2, 3).reshape(x.shape[1], -1)


BOTH = pytest.mark.parametrize("recalibrate_", [recalibrate_batch_norm_, average_batch_norm_])


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNormAct2d])
@BOTH
def test_statistics_are_the_average_over_batches_each_image_counting_alike(kind, recalibrate_):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), kind(4)).eval()
    images = torch.cat(batches(3)) + torch.linspace(-3, 3, 12).reshape(12, 1, 1, 1)  # the batches differ
    outputs = [channels_of(network[0](batch)) for batch in images.split([5, 7])]
    # An image alone is taken together with the batch behind it.
    assert recalibrate_(network, iter(images.split([5, 1, 6]))) == 12
    (few, of_few), (more, of_more) = ((x.mean(1), x.var(1, ddof=1)) for x in outputs)
    # Torch moves mean and variance by the same share; the other average weighs variances by degrees of freedom.
    share = 5 / 12 if recalibrate_ is recalibrate_batch_norm_ else (5 * 36 - 1) / (12 * 36 - 2)
    np.testing.assert_allclose(network[1].running_mean, (5 * few + 7 * more) / 12, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(network[1].running_var, share * of_few + (1 - share) * of_more, rtol=1e-5)
    assert network[1].num_batches_tracked == 2


@BOTH
def test_statistics_are_those_that_torch_computes_without_momentum(network, recalibrate_):
    twin = copy.deepcopy(network).train()
    for norm in twin.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None
    images = [batch * scale for scale, batch in enumerate(batches(5), 1)]
    for batch in images:
        twin(batch)
    recalibrate_(network, images)
    expected = twin.state_dict()
    # Of batches of one size, to the last digit: figures that were measured so stay what they are.
    rtol, atol = (0, 0) if recalibrate_ is recalibrate_batch_norm_ else (1e-5, 1e-6)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=rtol, atol=atol)


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(torch.relu(self.norm(x + 4.0))))


@BOTH
def test_a_norm_that_is_called_twice_has_the_average_over_all_calls(recalibrate_):
    torch.manual_seed(0)
    network = CalledTwice().eval()
    twin = copy.deepcopy(network).train()
    twin.norm.reset_running_stats()
    twin.norm.momentum = None
    for batch in batches(3):
        twin(batch)
    recalibrate_(network, batches(3))
    for key in ("running_mean", "running_var"):
        torch.testing.assert_close(network.norm.get_buffer(key), twin.norm.get_buffer(key), rtol=1e-5, atol=1e-6)


def test_ten_thousand_batches_lose_no_digits():
    network = nn.Sequential(nn.BatchNorm2d(3)).eval()
    images = [batch + 1000 for batch in batches(1)] * 10_000
    average_batch_norm_(network, images)
    expected = channels_of(images[0])
    np.testing.assert_allclose(network[0].running_mean, expected.mean(1), rtol=1e-7)
    np.testing.assert_allclose(network[0].running_var, expected.var(1, ddof=1), rtol=1e-6)


def test_one_value_a_channel_has_no_variance():
    network = nn.Sequential(nn.BatchNorm2d(3)).eval()
    average_batch_norm_(network, [torch.ones(1, 3, 1, 1)])
    assert network[0].running_mean.tolist() == [1, 1, 1]
    assert network[0].running_var.tolist() == [0, 0, 0]


def test_half_precision_images_are_summed_in_full():
    network = nn.Sequential(nn.BatchNorm2d(3)).eval().bfloat16()
    images = [batch.bfloat16() for batch in batches(2)]
    average_batch_norm_(network, images)
    expected = torch.from_numpy(channels_of(torch.cat(images)).mean(1)).bfloat16()
    assert torch.equal(network[0].running_mean, expected)


def test_after_an_error_in_the_batches_the_statistics_are_as_they_were(at_policy, state_of):
    before = state_of(at_policy)

    def broken():
        yield from batches(1)
        raise OSError("disk gone")

    with pytest.raises(OSError, match=r"^disk gone$"):
        average_batch_norm_(at_policy, broken())
    assert state_of(at_policy) == before


def test_statistics_of_a_quantized_network_are_those_of_its_quantized_convolution(images):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    policy = Policy("Sequential", {"0": LayerBits(3, 3), "2": LayerBits(8, 8)})
    quantized = to_quantized(network, policy, example_input=images)
    average_batch_norm_(quantized, [images])
    weight = on_grid(network[0].weight, quantized[0].weight_quantizer.step.item(), -4, 3)
    x = on_grid(images, quantized[0].activation_quantizer.step.item(), -4, 3)
    output = nn.functional.conv2d(x, weight, network[0].bias).transpose(0, 1).flatten(1)
    torch.testing.assert_close(quantized[1].running_mean, output.mean(1))
    torch.testing.assert_close(quantized[1].running_var, output.var(1))


@BOTH
def test_only_active_copies_and_only_statistics_change(at_policy, state_of, recalibrate_):
    before = state_of(at_policy)
    recalibrate_(at_policy, batches(2))
    after = state_of(at_policy)
    switches = {name: norm for name, norm in at_policy.named_modules() if isinstance(norm, SwitchableBatchNorm2d)}
    active = ["stem_norm", *(f"{name}.copies.{norm.bits}" for name, norm in switches.items())]
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert {name for name in after if after[name] != before[name]} == {
        f"{norm}.{value}" for norm in active for value in statistics
    }
    assert len(active) == 5


def test_images_that_are_no_numbers_are_refused_and_change_no_average(at_policy, state_of):
    spoilt = batches(3)
    spoilt[1][0, 0, 0, 0] = float("nan")
    before = state_of(at_policy)
    with pytest.raises(DataError, match=r"^the images give batch normalization \S+ numbers that are not finite"):
        average_batch_norm_(at_policy, spoilt)
    assert state_of(at_policy) == before
    with pytest.raises(DataError, match="numbers that are not finite"):
        recalibrate_batch_norm_(at_policy, spoilt)


@BOTH
def test_old_statistics_are_forgotten(at_policy, recalibrate_):
    twin = copy.deepcopy(at_policy)
    for norm in twin.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.fill_(50.0)
            norm.num_batches_tracked.fill_(1000)
    for model in (at_policy, twin):
        recalibrate_(model, batches(2))
    assert torch.equal(at_policy.stem_norm.running_mean, twin.stem_norm.running_mean)
    assert torch.equal(at_policy.final_norm.active.running_var, twin.final_norm.active.running_var)


@BOTH
@pytest.mark.parametrize("training", [True, False])
def test_modes_and_momenta_are_restored(training, at_policy, recalibrate_):
    at_policy.train(training)
    at_policy.stem_norm.eval()
    at_policy.stem_norm.momentum = 0.37
    at_policy.expand_norm.active.momentum = None

    def modes() -> dict[str, tuple[bool, object]]:
        return {name: (part.training, getattr(part, "momentum", 0)) for name, part in at_policy.named_modules()}

    before = modes()
    recalibrate_(at_policy, batches(1))
    assert modes() == before


@BOTH
def test_modes_and_momenta_are_restored_after_an_error_in_the_batches(at_policy, recalibrate_):
    at_policy.train()

    def broken():
        yield from batches(1)
        raise OSError("disk gone")

    with pytest.raises(OSError, match=r"^disk gone$"):
        recalibrate_(at_policy, broken())
    assert all(module.training for module in at_policy.modules())
    assert at_policy.stem_norm.momentum == 0.1


@BOTH
def test_zero_batches_leave_the_statistics_alone(at_policy, state_of, recalibrate_):
    before = state_of(at_policy)
    assert recalibrate_(at_policy, []) == 0
    assert state_of(at_policy) == before


@BOTH
def test_dropout_stays_off_while_statistics_are_measured(recalibrate_):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(0.9), nn.BatchNorm2d(4)).train()
    plain = nn.Sequential(copy.deepcopy(network[0]), nn.BatchNorm2d(4)).train()
    for model in (network, plain):
        recalibrate_(model, batches(1))
    assert torch.equal(network[2].running_var, plain[1].running_var)


@BOTH
def test_norm_without_statistics_is_left_alone(recalibrate_):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    assert recalibrate_(network, batches(1)) == 4
    assert network[1].running_mean is None


class OneDimensional(nn.Module):
    """Normalizations of rows, of sequences and of volumes, and one that several processes would share."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.sequences = nn.BatchNorm1d(8), nn.BatchNorm1d(3, affine=False, momentum=None)
        self.volumes, self.shared = nn.BatchNorm3d(3), nn.SyncBatchNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        self.volumes(x[:, :, None])
        sequences = self.sequences(x.flatten(2))
        return self.shared(self.rows(sequences.unflatten(2, (8, 8)).mean((1, 2))))


@BOTH
def test_statistics_of_any_number_of_dimensions_are_those_that_torch_computes(recalibrate_):
    network = OneDimensional().eval()
    twin = copy.deepcopy(network).train()
    for norm in twin.children():
        norm.momentum = None
    images = [batch * scale for scale, batch in enumerate(batches(3), 1)]
    for batch in images:
        twin(batch)
    assert recalibrate_(network, images) == 12
    assert network.sequences.momentum is None
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=1e-5, atol=1e-6)


@BOTH
def test_a_norm_whose_statistics_were_taken_away_is_left_alone(recalibrate_):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    network[1].running_mean = network[1].running_var = None
    assert recalibrate_(network, batches(1)) == 4
    assert network[1].running_mean is None


def test_recalibration_brings_a_low_bit_network_closer_to_the_float_one(network, images):
    images = torch.cat(batches(8))
    average_batch_norm_(network, [images])
    policy = {name: LayerBits(2, 4) for name in ("stem", "expand", "depthwise", "project", "final", "classifier")}
    quantized = to_quantized(network, Policy("Bottleneck", policy), example_input=images).eval()
    with torch.no_grad():
        before = nn.functional.mse_loss(quantized(images), network(images))
        average_batch_norm_(quantized, [images])
        after = nn.functional.mse_loss(quantized(images), network(images))
    assert after < before


# Recalibration that is kept only if it helps


@pytest.fixture
def right(network) -> nn.Module:
    """A float network whose statistics are those of pictures like `many`."""
    average_batch_norm_(network, batches(64))
    return network.eval()


def many() -> list[Tensor]:
    return batches(32)


def quantized(network: nn.Module, bits: int) -> nn.Module:
    names = ("stem", "expand", "depthwise", "project", "final", "classifier")
    policy = Policy("Bottleneck", {name: LayerBits(bits, bits) for name in names})
    return to_quantized(network, policy, example_input=torch.cat(many())).eval()


def kl_by_hand(network: nn.Module, reference: nn.Module, images: Tensor) -> float:
    with torch.no_grad():
        answers, expected = (scipy.special.softmax(model(images).double().numpy(), 1) for model in (network, reference))
    return scipy.special.rel_entr(expected, answers).sum(1).mean()


def test_wrong_statistics_are_replaced_by_those_of_all_images(right, state_of):
    model = quantized(right, 8)
    with torch.no_grad():
        for norm in (model.expand_norm, model.final_norm):
            norm.running_var.mul_(9)
            norm.running_mean.add_(1)
    twin, half = copy.deepcopy(model), copy.deepcopy(model)
    result = recalibrate_if_better_(model, iter(many()), right)
    average_batch_norm_(twin, many())
    assert state_of(model) == state_of(twin)
    average_batch_norm_(half, many()[:16])
    held_out = torch.cat(many()[16:])
    assert (result.images, result.accepted) == (128, True)
    assert result.kl_after == pytest.approx(kl_by_hand(half, right, held_out), rel=1e-3)
    assert result.kl_after < result.kl_before / 10


@pytest.mark.parametrize("bits", [None, 8])
def test_right_statistics_are_left_as_they_are_by_pictures_of_another_kind(right, bits, state_of):
    model = quantized(right, bits) if bits else copy.deepcopy(right)
    before = state_of(model)
    brighter = [batch * 0.3 + 2 for batch in many()]
    result = recalibrate_if_better_(model, brighter, right)
    assert (result.images, result.accepted) == (128, False)
    assert result.kl_before == pytest.approx(kl_by_hand(model, right, torch.cat(brighter[16:])), rel=1e-3, abs=1e-7)
    assert result.kl_before < result.kl_after
    assert state_of(model) == before


def test_statistics_that_serve_the_first_half_of_the_images_only_are_refused(right, state_of):
    model = quantized(right, 4)
    before = state_of(model)
    images = [*(batch * 0.2 + 4 for batch in many()[:16]), *many()[16:]]
    assert not recalibrate_if_better_(model, images, right).accepted
    assert state_of(model) == before


def test_one_batch_is_split_in_halves(right):
    model = quantized(right, 2)
    twin = copy.deepcopy(model)
    assert recalibrate_if_better_(model, [torch.cat(many())], right) == recalibrate_if_better_(
        twin, torch.cat(many()).split(64), right
    )


def test_too_few_images_change_nothing_and_are_not_even_looked_at(right, state_of):
    model = quantized(right, 2)
    before = state_of(model)
    images = torch.cat(many())[: FEWEST_IMAGES - 1].split(8)
    result = recalibrate_if_better_(model, images, nn.Identity())
    assert (result.images, result.kl_before, result.kl_after, result.accepted) == (FEWEST_IMAGES - 1, None, None, False)
    assert state_of(model) == before


@pytest.mark.parametrize("training", [True, False])
def test_the_comparison_runs_in_eval_mode_and_restores_modes(right, training):
    model = quantized(right, 4).train(training)
    twin = quantized(right, 4)
    assert recalibrate_if_better_(model, many(), right) == recalibrate_if_better_(twin, many(), right)
    assert {module.training for module in model.modules()} == {training}


# Correction by what quantization changed


def outputs_of_norms(network: nn.Module, images: Tensor) -> dict[str, np.ndarray]:
    """Return what each BatchNorm puts out before its activation, its scale and bias taken off: [channels, values]."""
    outputs = {}

    def note(name: str, norm: nn.BatchNorm2d, x: Tensor) -> None:
        mean, variance = (value.double().numpy()[:, None] for value in (norm.running_mean, norm.running_var))
        outputs[name] = (channels_of(x) - mean) / np.sqrt(variance + norm.eps)

    for name, norm in network.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.register_forward_pre_hook(lambda norm, arguments, name=name: note(name, norm, *arguments))
    with torch.no_grad():
        network(images)
    return outputs


@pytest.mark.parametrize("shift", [0, 2])
def test_a_network_that_is_not_quantized_keeps_the_statistics_of_the_float_one_whatever_the_images(right, shift):
    model = copy.deepcopy(right)
    with torch.no_grad():
        model.final_norm.running_mean.add_(1)
    assert correct_batch_norm_(model, [batch * 0.3 + shift for batch in many()], right) == 128
    for name, value in right.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-5, atol=1e-5)


def test_after_the_correction_the_first_output_has_the_moments_of_the_float_network(right):
    model = quantized(right, 2)
    images = torch.cat(many()) * 0.5 + 1  # other pictures than those of the statistics
    correct_batch_norm_(model, images.split(32), right)
    ours, theirs = (outputs_of_norms(network, images)["stem_norm"] for network in (model, right))
    np.testing.assert_allclose(ours.mean(1), theirs.mean(1), atol=1e-4)
    np.testing.assert_allclose(ours.std(1), theirs.std(1), rtol=1e-3)


def test_on_other_pictures_the_correction_is_closer_to_the_float_network_than_new_statistics(right):
    other = [batch * 0.5 + 1 for batch in many()]
    corrected, renewed = quantized(right, 6), quantized(right, 6)
    correct_batch_norm_(corrected, other, right)
    average_batch_norm_(renewed, other)
    usual = torch.cat(many())
    assert kl_by_hand(corrected, right, usual) < kl_by_hand(renewed, right, usual) / 2


def test_without_images_the_statistics_are_those_of_the_float_network(right):
    model = quantized(right, 4)
    model.stem_norm.reset_running_stats()
    assert correct_batch_norm_(model, [], right) == 0
    assert torch.equal(model.stem_norm.running_mean, right.stem_norm.running_mean)


def test_a_float_network_with_other_norms_is_refused(right):
    model = quantized(right, 4)
    right.final_norm = nn.Identity()
    message = (
        r"^the quantized and the float network differ in BatchNorm final_norm; give the one it was converted from$"
    )
    with pytest.raises(PolicyError, match=message):
        correct_batch_norm_(model, many(), right)
