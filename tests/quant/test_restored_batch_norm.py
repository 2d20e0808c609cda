"""Tests of BatchNorms that get their statistics back: the network computes what it did, and training starts there."""

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from limpq_hub.errors import DataError
from limpq_hub.quant.restored_batch_norm import folded_batch_norms, restore_batch_norm_


def folded(name: str) -> nn.Module:
    """Return a network whose BatchNorms became part of their convolutions, as an export for inference leaves them."""
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=5).double()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = None
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.5, 1)
        network.train()(torch.rand(16, 3, 64, 64, dtype=torch.float64))
        convolution = None
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                convolution = module
            if isinstance(module, nn.BatchNorm2d):
                scale = module.weight / (module.running_var + module.eps).sqrt()
                module.bias.sub_(scale * module.running_mean)
                convolution.weight.mul_((scale * (1 + module.eps) ** 0.5).reshape(-1, 1, 1, 1))
                module.weight.fill_(1)
                module.reset_running_stats()
    return network.eval()


@pytest.fixture(params=["mobilenetv2_050", "test_efficientnet", "test_resnet"])
def network(request) -> nn.Module:
    """With separate activations, with timm's fused ones (and squeeze and excitation), with residuals."""
    return folded(request.param)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def norms_of(network: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}


def test_the_logits_stay_the_same_to_rounding(network, images):
    with torch.no_grad():
        before = network(images)
        assert restore_batch_norm_(network, [images[:8], images[8:]]) == len(norms_of(network))
        torch.testing.assert_close(network(images), before, rtol=1e-9, atol=1e-9)
    assert not network.training
    assert folded_batch_norms(network) == {}


def test_the_statistics_are_those_that_a_pass_in_training_measures(network, images):
    restore_batch_norm_(network, [images])
    found = {name: norm.running_mean.clone() for name, norm in norms_of(network).items()}
    variances = {name: norm.running_var.clone() for name, norm in norms_of(network).items()}
    for norm in norms_of(network).values():
        norm.momentum = None
    with torch.no_grad():
        network.train()(images)  # torch's own averaging takes the place of what was set
    for name, norm in norms_of(network).items():
        # Training normalizes by the biased variance and records the unbiased one: of few values they differ.
        torch.testing.assert_close(norm.running_mean, found[name], rtol=2e-2, atol=2e-2)
        torch.testing.assert_close(norm.running_var, variances[name], rtol=5e-2, atol=1e-3)


def test_the_first_norm_has_the_mean_and_variance_of_what_the_first_convolution_computes(images):
    network = folded("mobilenetv2_050")
    with torch.no_grad():
        outputs = [network.conv_stem(batch) for batch in (images[:8], images[8:])]
    restore_batch_norm_(network, [images[:8], images[8:]])
    means, variances = (torch.stack([f(output) for output in outputs]).mean(0) for f in (_mean, _variance))
    torch.testing.assert_close(network.bn1.running_mean, means)
    torch.testing.assert_close(network.bn1.running_var, variances)


def _mean(x: Tensor) -> Tensor:
    return x.transpose(0, 1).flatten(1).mean(1)


def _variance(x: Tensor) -> Tensor:
    return x.transpose(0, 1).flatten(1).var(1)


def test_in_training_a_batch_then_gives_what_it_gives_in_evaluation(images):
    network = folded("test_efficientnet")
    with torch.no_grad():
        before = network(images)
        far = (network.train()(images) - before).abs().max()
        network = folded("test_efficientnet")
        restore_batch_norm_(network, [images])
        near = (network.train()(images) - network.eval()(images)).abs().max()
    assert near < far / 20


def test_a_network_with_statistics_of_its_own_is_left_alone_and_no_image_is_read():
    network = timm.create_model("test_resnet", num_classes=5)
    for norm in norms_of(network).values():
        norm.running_mean.fill_(0.1)
    before = {name: value.clone() for name, value in network.state_dict().items()}

    def unread():
        raise AssertionError("no image is needed")
        yield

    assert restore_batch_norm_(network, unread()) == 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_only_norms_that_are_folded_change(images):
    network = folded("test_resnet")
    kept = norms_of(network)["bn1"]
    kept.running_mean.fill_(0.25)
    with torch.no_grad():
        before = network(images)
        assert restore_batch_norm_(network, [images]) == len(norms_of(network)) - 1
        torch.testing.assert_close(network(images), before, rtol=1e-9, atol=1e-9)
    assert bool((kept.running_mean == 0.25).all())


def test_a_constant_channel_and_a_weight_of_zero_are_no_trouble():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), BatchNormAct2d(4), nn.BatchNorm2d(4, affine=False)).double().eval()
    with torch.no_grad():
        network[0].weight[0] = 0
        network[1].weight[1] = 0
    images = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        before = network(images)
        assert restore_batch_norm_(network, [images]) == 1
        torch.testing.assert_close(network(images), before)
    assert float(network[1].running_var[0].item()) == pytest.approx(0, abs=1e-20)


def test_an_error_in_the_middle_changes_nothing(images):
    network = folded("test_resnet").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(RuntimeError):
        restore_batch_norm_(network, [images, images[:, :1]])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training
    assert not any(module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_images_that_hold_no_finite_number_are_told_and_nothing_is_set(images, number):
    network = folded("test_resnet")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images[1, 0, 3, 3] = number
    message = r"^the images give batch normalization \S+ numbers that are not finite \(nan or inf\): look at what they"
    with pytest.raises(DataError, match=message):
        restore_batch_norm_(network, [images])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_batch_without_images_changes_nothing(images):
    network, alike = folded("test_resnet"), folded("test_resnet")
    count = restore_batch_norm_(network, [images[:0], images, images[:0]])
    assert count == restore_batch_norm_(alike, [images])
    assert all(torch.equal(value, alike.state_dict()[name]) for name, value in network.state_dict().items())
    assert restore_batch_norm_(folded("test_resnet"), [images[:0]]) == 0
