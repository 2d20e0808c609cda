"""What the tests of `limpq_hub.quant` share: one small network with every kind of layer, and its policies."""

import random

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import to_supernet
from limpq_hub.quant.switchable_batch_norm import SwitchableBatchNorm2d

CANDIDATES = (6, 4, 3, 2)
SEARCHED = ("expand", "depthwise", "project", "final")


class Bottleneck(nn.Module):
    """Stem, inverted bottleneck with a linear (signed) output, timm's fused normalization, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.expand = nn.Conv2d(8, 12, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(12)
        self.depthwise = nn.Conv2d(12, 12, 3, stride=2, padding=1, groups=12, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(12)
        self.project = nn.Conv2d(12, 8, 1)
        self.project_norm = nn.BatchNorm2d(8)
        self.final = nn.Conv2d(8, 10, 1, bias=False)
        self.final_norm = BatchNormAct2d(10)
        self.classifier = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_norm(self.stem(x)).relu()
        x = self.expand_norm(self.expand(x)).relu()
        x = self.depthwise_norm(self.depthwise(x)).relu()
        x = self.project_norm(self.project(x))
        x = self.final_norm(self.final(x))
        return self.classifier(x.mean((2, 3)))


def randomize_norms_(module: nn.Module) -> nn.Module:
    """Give every BatchNorm, each copy too, statistics and weights of its own."""
    generator = torch.Generator().manual_seed(5)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            with torch.no_grad():
                norm.running_mean.uniform_(-0.3, 0.3, generator=generator)
                norm.running_var.uniform_(0.5, 1.5, generator=generator)
                norm.weight.uniform_(0.5, 1.5, generator=generator)
                norm.bias.uniform_(-0.2, 0.4, generator=generator)
    return module


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return randomize_norms_(Bottleneck()).eval()


@pytest.fixture
def supernet(network: nn.Module, images: Tensor) -> nn.Module:
    """The network with candidates 6, 4, 3, 2, its BatchNorm copies all different, in eval mode."""
    return randomize_norms_(to_supernet(network, CANDIDATES, example_input=images)).eval()


@pytest.fixture
def policy_of():
    """A function from a seed to a mixed policy for the network."""

    def draw(seed: int) -> Policy:
        rng = random.Random(seed)
        mixed = {name: LayerBits(rng.choice(CANDIDATES), rng.choice(CANDIDATES)) for name in SEARCHED}
        return Policy("Bottleneck", {"stem": LayerBits(8, 8), **mixed, "classifier": LayerBits(8, 8)})

    return draw


@pytest.fixture
def state_of():
    """A function from a module to all that calling or converting it could change by accident."""

    def state(module: nn.Module) -> dict[str, object]:
        found: dict[str, object] = {name: value.tolist() for name, value in module.state_dict().items()}
        for name, child in module.named_modules():
            found[f"{name}: class, mode, hooks"] = (
                type(child),
                child.training,
                len(child._forward_hooks),
                len(child._forward_pre_hooks),
            )
            if isinstance(child, nn.BatchNorm2d):
                found[f"{name}: momentum"] = child.momentum
            if isinstance(child, SwitchableBatchNorm2d):
                found[f"{name}: copy"] = child.bits
        return found

    return state


@pytest.fixture
def replica_of():
    """A function from a module to one as `nn.DataParallel` makes it for each device: its parameters are attributes."""

    def replicate(module: nn.Module) -> nn.Module:
        replica = module._replicate_for_data_parallel()
        replica._former_parameters = {}
        for name, child in module._modules.items():
            replica._modules[name] = replicate(child)
        for name, parameter in module._parameters.items():
            setattr(replica, name, None if parameter is None else parameter.clone())
            if parameter is not None:
                replica._former_parameters[name] = getattr(replica, name)
        for name, buffer in module._buffers.items():
            replica._buffers[name] = None if buffer is None else buffer.clone()
        return replica

    return replicate
