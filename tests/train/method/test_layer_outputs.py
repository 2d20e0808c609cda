"""The distance of the layers' outputs to those of the first pass, against sums by hand."""

import gc
import weakref

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from limpq_hub.quant.convert import set_policy_, to_supernet
from limpq_hub.quant.profile import profile_module
from limpq_hub.train.method.joint_step import accumulate_joint_gradients, joint_policies
from limpq_hub.train.method.layer_outputs import LayerOutputs
from limpq_hub.train.method.shared_stem import SharedStem

LABELS = torch.tensor([0, 1, 2, 0])


class Plain(nn.Module):
    """Two searched convolutions between the ends, each with a normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.middle = nn.Conv2d(4, 4, 3)
        self.middle_norm = nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, 6, 1)
        self.last_norm = nn.BatchNorm2d(6)
        self.classifier = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        x = self.middle_norm(self.middle(x)).relu()
        x = self.last_norm(self.last(x)).relu()
        return self.classifier(x.mean((2, 3)))


class InPlaceAfterLayer(Plain):
    """A ReLU that writes over what the layer before it gave, as in VGG."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        x = nn.functional.relu(self.middle(x), inplace=True)
        x = self.last_norm(self.last(self.middle_norm(x))).relu()
        return self.classifier(x.mean((2, 3)))


def prepared(network: nn.Module) -> tuple[nn.Module, Tensor, list]:
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    network = network.double()
    costs = profile_module(network, images)
    supernet = to_supernet(network, (4, 2), example_input=images).double().train()
    return supernet, images, joint_policies("net", costs, (4, 2), seed=0, step=0)


def loss_of(logits: Tensor, first: Tensor | None) -> Tensor:
    return nn.functional.cross_entropy(logits, LABELS)


def by_hand(supernet: nn.Module, images: Tensor, policies: list, weight: float) -> tuple[Tensor, list[Tensor]]:
    """Losses and gradients, the outputs of the layers taken as copies at the moment they are given."""
    parameters, losses, first = list(supernet.parameters()), [], None
    total = [torch.zeros_like(parameter) for parameter in parameters]
    outputs: list[Tensor] = []
    layers = [supernet.middle, supernet.last]
    handles = [layer.register_forward_hook(lambda layer, x, y: outputs.append(y.clone())) for layer in layers]
    for policy in policies:
        set_policy_(supernet, policy)
        outputs.clear()
        loss = loss_of(supernet(images), None)
        if first is None:
            first = [output.tolist() for output in outputs]
        else:
            for output, reference in zip(outputs, first, strict=True):
                difference = output - torch.tensor(reference, dtype=output.dtype)
                loss = loss + weight * (difference * difference).sum() / output.numel()
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        total = [a if b is None else a + b for a, b in zip(total, found, strict=True)]
        losses.append(loss.detach())
    for handle in handles:
        handle.remove()
    return torch.stack(losses), total


def compare(network: nn.Module, *, shared: bool) -> None:
    torch.manual_seed(0)
    supernet, images, policies = prepared(network)
    losses, gradients = by_hand(supernet, images, policies, 0.3)
    stem = SharedStem(supernet, images) if shared else None
    outputs = LayerOutputs(supernet, 0.3)
    found = accumulate_joint_gradients(
        Accelerator(cpu=True), supernet, images, policies, loss_of, outputs=outputs, stem=stem
    )
    torch.testing.assert_close(found, losses, rtol=1e-10, atol=1e-12)
    for parameter, expected in zip(supernet.parameters(), gradients, strict=True):
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shared", [False, True])
def test_losses_and_gradients_are_those_of_the_sum_by_hand(shared):
    compare(Plain(), shared=shared)


def test_an_operation_in_place_after_a_layer_does_not_change_what_is_compared():
    compare(InPlaceAfterLayer(), shared=False)


def hooks_of(supernet: nn.Module) -> list[int]:
    return [len(module._forward_hooks) for module in supernet.modules()]


def test_no_hook_and_no_tensor_stays_behind():
    torch.manual_seed(0)
    supernet, images, policies = prepared(Plain())
    outputs, seen = LayerOutputs(supernet, 0.3), []
    before = hooks_of(supernet)
    handle = supernet.last.register_forward_hook(lambda layer, x, y: seen.append(weakref.ref(y)))
    accumulate_joint_gradients(Accelerator(cpu=True), supernet, images, policies, loss_of, outputs=outputs)
    handle.remove()
    gc.collect()
    assert len(seen) == len(policies)
    assert [reference() for reference in seen] == [None] * len(seen)
    assert hooks_of(supernet) == before
    assert (outputs._of_first_pass, outputs._of_this_pass) == ([], [])


@pytest.mark.parametrize("failing_pass", [0, 1])
def test_no_hook_and_no_tensor_stays_behind_after_an_error(failing_pass):
    torch.manual_seed(0)
    supernet, images, policies = prepared(Plain())
    outputs, calls = LayerOutputs(supernet, 0.3), []
    before = hooks_of(supernet)

    def failing(logits: Tensor, first: Tensor | None) -> Tensor:
        calls.append(1)
        if len(calls) > failing_pass:
            raise KeyboardInterrupt
        return loss_of(logits, first)

    with pytest.raises(KeyboardInterrupt):
        accumulate_joint_gradients(Accelerator(cpu=True), supernet, images, policies, failing, outputs=outputs)
    assert hooks_of(supernet) == before
    assert (outputs._of_first_pass, outputs._of_this_pass) == ([], [])


def test_a_second_step_compares_with_its_own_first_pass():
    torch.manual_seed(0)
    supernet, images, policies = prepared(Plain())
    outputs = LayerOutputs(supernet, 0.3)
    for batch in (images, images.flip(0) * 2):
        losses, _ = by_hand(supernet, batch, policies, 0.3)
        found = accumulate_joint_gradients(Accelerator(cpu=True), supernet, batch, policies, loss_of, outputs=outputs)
        torch.testing.assert_close(found, losses, rtol=1e-10, atol=1e-12)
