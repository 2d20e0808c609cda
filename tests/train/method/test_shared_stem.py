"""A joint step with the shared stem against the same step without: gradients, losses, statistics, and what remains."""

import copy
from functools import cache

import pytest
import timm
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from limpq_hub.quant.convert import set_policy_, to_supernet
from limpq_hub.quant.modes import freeze_batch_norms_
from limpq_hub.quant.profile import profile_module
from limpq_hub.train.method.joint_step import accumulate_joint_gradients, classification_loss, joint_policies
from limpq_hub.train.method.shared_stem import SharedStem

CANDIDATES = (4, 2)
PASSES = 3


class InPlaceStem(nn.Module):
    """Convolution, normalization, ReLU in place, all before the first searched layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(6, momentum=0.3)
        self.first_act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(6)
        self.second_act = nn.ReLU(inplace=True)
        self.classifier = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first_act(self.first_norm(self.first(x)))
        x = self.second_act(self.second_norm(self.second(x)))
        return self.classifier(x.mean((2, 3)))


class PreActivation(nn.Module):
    """The stem's result goes two ways: through normalization and ReLU to a searched layer, and around it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(6) for _ in range(3))
        self.act1, self.act2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
        self.conv1, self.conv2 = (nn.Conv2d(6, 6, 3, padding=1, bias=False) for _ in range(2))
        self.classifier = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.conv1(self.act1(self.norm1(x)))
        y = self.conv2(self.act2(self.norm2(y)))
        x = x + y
        return self.classifier(self.norm3(x).relu().mean((2, 3)))


class WrittenShortcut(PreActivation):
    """The shortcut is what a ReLU in place wrote over: that module has to run in each pass."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.stem(x))
        y = self.conv1(self.act1(x))
        y = self.conv2(self.act2(self.norm2(y)))
        return self.classifier(self.norm3(y + x).relu().mean((2, 3)))


class OneReluForAll(PreActivation):
    """One ReLU in place, called after the stem and in the block, as many written networks have it."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.conv1(self.act1(self.norm1(x)))
        y = self.conv2(self.act1(self.norm2(y)))
        x = x + y
        return self.classifier(self.norm3(x).relu().mean((2, 3)))


def timm_network(name: str, **options) -> nn.Module:
    return timm.create_model(name, num_classes=5, **options)


# Of each kind of block a few, for all are alike.
NETWORKS = {
    "resnet18": (lambda: timm_network("resnet18", layers=(1, 1, 1, 1)), 32),
    "mobilenetv2_100": (lambda: timm_network("mobilenetv2_100", drop_rate=0.0), 32),
    "vit_tiny": (lambda: timm_network("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=3), 32),
    "pre-activation": (PreActivation, 12),
    "in-place stem": (InPlaceStem, 12),
    "written shortcut": (WrittenShortcut, 12),
}
LARGE = {"mobilenetv2_100", "vit_tiny"}


def supernet_of(name: str) -> tuple[nn.Module, Tensor, list]:
    return copy.deepcopy(_supernet_of(*NETWORKS[name]))


@cache
def _supernet_of(make, size: int) -> tuple[nn.Module, Tensor, list]:
    torch.manual_seed(0)
    network, images = make().double(), torch.randn(2, 3, size, size, dtype=torch.float64)
    costs = profile_module(network, images)
    supernet = to_supernet(network, CANDIDATES, example_input=images).double().train()
    return supernet, images, joint_policies("net", costs, CANDIDATES, seed=0, step=0)


def loss_of(logits: Tensor, first: Tensor | None) -> Tensor:
    return classification_loss(logits, torch.arange(2), (first, 0.3), smoothing=0.1)


def step_of(supernet: nn.Module, images: Tensor, policies: list, stem: SharedStem | None) -> Tensor:
    return accumulate_joint_gradients(Accelerator(cpu=True), supernet, images, policies, loss_of, stem=stem)


def equal_gradients(ours: nn.Module, other: nn.Module) -> None:
    largest = max(p.grad.abs().max().item() for p in other.parameters() if p.grad is not None)
    for (name, parameter), reference in zip(ours.named_parameters(), other.parameters(), strict=True):
        assert (parameter.grad is None) == (reference.grad is None), name
        if reference.grad is not None:
            torch.testing.assert_close(
                parameter.grad, reference.grad, rtol=1e-9, atol=1e-11 * largest, msg=lambda text, name=name: name + text
            )


def equal_statistics(ours: nn.Module, other: nn.Module) -> None:
    for (name, found), expected in zip(ours.named_buffers(), other.buffers(), strict=True):
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12, msg=lambda text, name=name: name + text)


def state_of(supernet: nn.Module) -> dict[str, tuple]:
    return {
        name: (
            "forward" in vars(module),
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            module.training,
            getattr(module, "inplace", None),
            getattr(module, "momentum", None),
        )
        for name, module in supernet.named_modules()
    }


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in NETWORKS]
)
def test_two_steps_with_the_shared_stem_and_the_evaluation_after_them_equal_those_without(name):
    shared, images, policies = supernet_of(name)
    plain = copy.deepcopy(shared)
    stem, before = SharedStem(shared, images), state_of(shared)
    for _ in range(2):  # the second step, on other images, must not see the results of the first
        losses = step_of(shared, images, policies, stem)
        expected = step_of(plain, images, policies, None)
        torch.testing.assert_close(losses, expected, rtol=1e-12, atol=1e-12)
        images = images.flip(0) * 1.3 + 0.1
    equal_gradients(shared, plain)
    equal_statistics(shared, plain)
    assert state_of(shared) == before
    with torch.no_grad():
        torch.testing.assert_close(shared.eval()(images), plain.eval()(images), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", ["conv1", "bn1", "maxpool"]),
        ("vit_tiny", ["patch_embed", "blocks.0.norm1"]),
        ("pre-activation", ["stem", "norm1"]),
        ("in-place stem", ["first", "first_norm"]),
    ],
)
def test_the_stem_is_what_is_done_before_the_first_searched_layer(name, expected):
    supernet, images, _ = supernet_of(name)
    names = {module: name for name, module in supernet.named_modules()}
    assert [names[module] for module in SharedStem(supernet, images).modules] == expected
    assert supernet.training


def test_the_first_normalization_of_a_mobile_network_is_in_its_stem_and_its_first_searched_layer_is_not():
    supernet, images, _ = supernet_of("mobilenetv2_100")
    inner = {part for module in SharedStem(supernet, images).modules for part in module.modules()}
    assert {supernet.conv_stem, supernet.bn1} <= inner
    assert supernet.blocks[0][0].conv_dw not in inner


def test_the_positional_embedding_gets_the_gradients_of_all_passes():
    supernet, images, policies = supernet_of("vit_tiny")
    expected = torch.zeros_like(supernet.pos_embed)
    first = None
    for policy in policies:
        set_policy_(supernet, policy)
        logits = supernet(images)
        expected += torch.autograd.grad(loss_of(logits, first), supernet.pos_embed)[0]
        first = logits.detach() if first is None else first
    step_of(supernet, images, policies, SharedStem(supernet, images))
    assert expected.abs().max() > 0
    torch.testing.assert_close(supernet.pos_embed.grad, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_stem_runs_once_per_step_and_the_rest_in_every_pass(name, monkeypatch):
    supernet, images, policies = supernet_of(name)
    stem = SharedStem(supernet, images)
    calls = []
    conv = nn.Conv2d._conv_forward
    monkeypatch.setattr(nn.Conv2d, "_conv_forward", lambda self, *inputs: calls.append(self) or conv(self, *inputs))
    norm = nn.BatchNorm2d.forward
    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda self, x: calls.append(self) or norm(self, x))
    step_of(supernet, images, policies, stem)
    inner = {part for module in stem.modules for part in module.modules()}
    convolutions = [module for module in supernet.modules() if isinstance(module, nn.Conv2d)]
    assert convolutions[0] in inner
    for module in convolutions:
        assert calls.count(module) == (1 if module in inner else PASSES)
    for module in inner:
        if type(module) is nn.BatchNorm2d:
            assert calls.count(module) == 1


def test_modules_that_replace_those_of_the_stem_are_shared_in_their_place(monkeypatch):
    shared, images, policies = supernet_of("in-place stem")
    plain, stem = copy.deepcopy(shared), SharedStem(shared, images)
    shared.first_norm, replaced, calls = copy.deepcopy(shared.first_norm), shared.first_norm, []
    norm = nn.BatchNorm2d.forward
    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda self, x: calls.append(self) or norm(self, x))
    losses = step_of(shared, images, policies, stem)
    assert (calls.count(shared.first_norm), calls.count(replaced)) == (1, 0)
    torch.testing.assert_close(losses, step_of(plain, images, policies, None))
    equal_gradients(shared, plain)
    equal_statistics(shared, plain)


def test_a_forward_that_a_stem_module_had_of_its_own_is_run_and_restored():
    shared, images, policies = supernet_of("in-place stem")
    plain, norm, calls = copy.deepcopy(shared), shared.first_norm, []

    def forward(x: Tensor) -> Tensor:
        calls.append(x)
        return nn.BatchNorm2d.forward(norm, x)

    norm.forward = forward
    losses = step_of(shared, images, policies, SharedStem(shared, images))
    assert norm.forward is forward
    assert len(calls) == 2  # once to find the stem
    torch.testing.assert_close(losses, step_of(plain, images, policies, None))
    equal_gradients(shared, plain)


class Stop(Exception):
    pass


@pytest.mark.parametrize("failing_pass", [0, 2])
@pytest.mark.parametrize("name", ["pre-activation", "vit_tiny", "in-place stem"])
def test_an_error_in_a_pass_leaves_the_network_as_it_was(name, failing_pass):
    supernet, images, policies = supernet_of(name)
    stem = SharedStem(supernet, images)
    before = state_of(supernet)
    assert not any(replaced for replaced, *_ in before.values())
    losses = []

    def failing(logits: Tensor, first: Tensor | None) -> Tensor:
        if len(losses) == failing_pass:
            raise Stop
        losses.append(loss_of(logits, first))
        return losses[-1]

    with pytest.raises(Stop):
        accumulate_joint_gradients(Accelerator(cpu=True), supernet, images, policies, failing, stem=stem)
    assert state_of(supernet) == before
    supernet.zero_grad()
    plain = copy.deepcopy(supernet)
    torch.testing.assert_close(step_of(supernet, images, policies, stem), step_of(plain, images, policies, None))
    equal_gradients(supernet, plain)
    assert state_of(supernet) == before


def test_results_within_a_step_do_not_move_averages_again_in_later_passes():
    supernet, images, policies = supernet_of("in-place stem")
    norm = supernet.first_norm
    x = nn.functional.conv2d(images, supernet.first.weight, padding=1).detach()
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    kept = (1 - norm.momentum) ** PASSES
    expected = norm.running_mean * kept + mean * (1 - kept), norm.running_var * kept + var * (1 - kept)
    step_of(supernet, images, policies, SharedStem(supernet, images))
    torch.testing.assert_close((norm.running_mean, norm.running_var), expected, rtol=1e-12, atol=1e-12)


def test_a_frozen_stem_gets_no_gradient_and_changes_nothing_else():
    shared, images, policies = supernet_of("in-place stem")
    for parameter in (*shared.first.parameters(), *shared.first_norm.parameters()):
        parameter.requires_grad_(False)
    plain = copy.deepcopy(shared)
    step_of(shared, images, policies, SharedStem(shared, images))
    step_of(plain, images, policies, None)
    assert shared.first.weight.grad is None
    equal_gradients(shared, plain)


def test_one_relu_in_place_for_all_places_can_be_shared_too(monkeypatch):
    monkeypatch.setitem(NETWORKS, "one relu", (OneReluForAll, 12))
    shared, images, policies = supernet_of("one relu")
    plain = copy.deepcopy(shared)
    expected = step_of(plain, images, policies, None)
    torch.testing.assert_close(step_of(shared, images, policies, SharedStem(shared, images)), expected)
    equal_gradients(shared, plain)


def test_a_normalization_that_averages_over_all_batches_weighs_each_step_alike():
    shared, images, policies = supernet_of("in-place stem")
    shared.first_norm.momentum = None
    plain = copy.deepcopy(shared)
    for batch in (images, images * 2 + 1):
        step_of(shared, batch, policies, SharedStem(shared, images))
        step_of(plain, batch, policies, None)
    equal_statistics(shared, plain)


def test_frozen_normalizations_are_shared_without_moving_their_statistics():
    shared, images, policies = supernet_of("in-place stem")
    freeze_batch_norms_(shared)
    plain, before = copy.deepcopy(shared), copy.deepcopy(dict(shared.named_buffers()))
    expected = step_of(plain, images, policies, None)
    torch.testing.assert_close(step_of(shared, images, policies, SharedStem(shared, images)), expected)
    equal_gradients(shared, plain)
    for name, value in before.items():
        assert torch.equal(shared.get_buffer(name), value), name
