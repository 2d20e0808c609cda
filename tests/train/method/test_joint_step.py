"""The joint gradients against sums by hand, the policies of a step, and the loss against its formula."""

import random
from collections import Counter

import pytest
import torch
from accelerate import Accelerator
from timm.loss import LabelSmoothingCrossEntropy
from torch import Tensor, nn

from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.quant.convert import set_policy_, to_supernet
from limpq_hub.quant.profile import profile_module
from limpq_hub.train.method.joint_step import accumulate_joint_gradients, classification_loss, joint_policies

LABELS = torch.tensor([0, 1, 2, 0, 1])
COSTS = {f"layer{k}": LayerCost(1, 1, 1, 1, False) for k in range(60)} | {
    "ends": LayerCost(1, 1, 1, 1, True, LayerBits(8, 8))
}


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3)]
    return nn.Sequential(*layers).double()


@pytest.fixture
def supernet(network, images) -> nn.Module:
    return to_supernet(network, (4, 2), example_input=images).double().train()


@pytest.fixture
def policies(network, images):
    return joint_policies("net", profile_module(network, images), (4, 2), seed=0, step=0, mixtures=2)


def hard_loss(logits: Tensor, first: Tensor | None) -> Tensor:
    return nn.functional.cross_entropy(logits, LABELS)


def gradients_by_hand(supernet, images, policies, loss_of) -> tuple[list[Tensor], list[Tensor]]:
    """Losses, and the sum of the gradients of each pass alone."""
    parameters = list(supernet.parameters())
    total, losses, first = [torch.zeros_like(p) for p in parameters], [], None
    for policy in policies:
        set_policy_(supernet, policy)
        logits = supernet(images)
        losses.append(loss_of(logits, first))
        found = torch.autograd.grad(losses[-1], parameters, allow_unused=True)
        total = [a if b is None else a + b for a, b in zip(total, found, strict=True)]
        # As plain numbers: whatever learns from them can send nothing back.
        first = torch.tensor(logits.tolist(), dtype=logits.dtype) if first is None else first
    return total, losses


def compare(supernet, expected: list[Tensor], factor: float = 1.0) -> None:
    for parameter, gradient in zip(supernet.parameters(), expected, strict=True):
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found, factor * gradient, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.125])
def test_share_scales_the_gradients_and_not_the_losses(supernet, images, policies, share):
    expected, losses = gradients_by_hand(supernet, images, policies, hard_loss)
    found = accumulate_joint_gradients(Accelerator(cpu=True), supernet, images, policies, hard_loss, share=share)
    assert not found.requires_grad
    torch.testing.assert_close(found, torch.stack(losses).detach())
    compare(supernet, expected, share)


def test_two_halves_of_a_step_add_up(supernet, images, policies):
    expected, _ = gradients_by_hand(supernet, images, policies, hard_loss)
    for _ in range(2):
        accumulate_joint_gradients(Accelerator(cpu=True), supernet, images, policies, hard_loss, share=0.5)
    compare(supernet, expected)


def test_later_passes_learn_from_the_detached_logits_of_the_first(supernet, images, policies):
    seen = []

    def loss_of(logits: Tensor, first: Tensor | None) -> Tensor:
        seen.append(first)
        hard = nn.functional.cross_entropy(logits, LABELS)
        if first is None:
            return hard
        taught = first.softmax(-1)
        soft = (taught * (taught.log() - logits.log_softmax(-1))).sum() / len(logits)
        return 0.6 * hard + 0.4 * soft

    expected, losses = gradients_by_hand(supernet, images, policies, loss_of)
    by_hand, seen[:] = seen[:], []
    found = accumulate_joint_gradients(Accelerator(cpu=True), supernet, images, policies, loss_of)
    torch.testing.assert_close(found, torch.stack(losses).detach())
    compare(supernet, expected)
    assert seen[0] is None
    for first in seen[1:]:
        assert first is seen[1]
        assert not first.requires_grad
        torch.testing.assert_close(first, by_hand[1])
    ours = accumulate_joint_gradients(
        Accelerator(cpu=True),
        supernet,
        images,
        policies,
        lambda logits, first: classification_loss(logits, LABELS, (first, 0.4), smoothing=0.0),
    )
    torch.testing.assert_close(ours, found)


def test_highest_keeps_the_uniform_pass_at_the_most_bits_only():
    one, *mixtures = joint_policies("net", COSTS, (2, 6, 4), seed=0, step=0, uniform="highest", mixtures=3)
    assert set(one.layers.values()) == {LayerBits(6, 6)}
    assert len(mixtures) == 3
    assert len({mixture.digest() for mixture in mixtures}) == 3
    assert all("ends" not in policy.layers and len(policy.layers) == 60 for policy in (one, *mixtures))


@pytest.mark.parametrize("mixtures", [0, 3])
def test_as_many_mixtures_as_asked_follow_the_uniform_passes(mixtures):
    policies = joint_policies("net", COSTS, (2, 6, 4), seed=0, step=0, mixtures=mixtures)
    assert len(policies) == 3 + mixtures
    uniform = [set(policy.layers.values()) for policy in policies[:3]]
    assert uniform == [{LayerBits(bits, bits)} for bits in (6, 4, 2)]
    assert all(len(set(policy.layers.values())) > 1 for policy in policies[3:])


def test_oscillating_layers_are_drawn_at_all_but_the_fewest_weight_bits_and_at_any_activation_bits():
    oscillating = ["layer3", "layer41"]
    drawn = {name: Counter() for name in COSTS}
    for step in range(200):
        (policy,) = joint_policies("net", COSTS, (4, 2, 3), seed=0, step=step, oscillating=oscillating)[3:]
        for name, bits in policy.layers.items():
            drawn[name][bits] += 1
    for name in oscillating:
        assert {bits.weight for bits in drawn[name]} == {3, 4}
        assert {bits.activation for bits in drawn[name]} == {2, 3, 4}
    assert {bits.weight for bits in drawn["layer4"]} == {2, 3, 4}
    uniform = joint_policies("net", COSTS, (4, 2, 3), seed=0, step=0, oscillating=oscillating)[:3]
    assert uniform[2].layers["layer3"] == LayerBits(2, 2)


def test_bits_of_weights_and_activations_are_drawn_alike_and_independently():
    pairs = Counter()
    for step in range(150):
        policy = joint_policies("net", COSTS, (2, 3, 4), seed=1, step=step)[-1]
        pairs.update((bits.weight, bits.activation) for bits in policy.layers.values())
    # 9000 draws over 9 pairs: 1000 each, with a standard deviation of 30.
    assert len(pairs) == 9
    assert all(850 < count < 1150 for count in pairs.values())


# Of the policies of seed 3, step 11, as drawn in a process with PYTHONHASHSEED=123.
UNDER_ANOTHER_HASH_SEED = [
    "d42e02d99d015098fd53e83596b46c8a328fbd578991547c51f561bb8e3e744d",
    "0b9b0593a3cb5c6abf121ff3b88a898697c262e4497156c3adfa2508773f3718",
    "20df0a23d41d49ad2c5529eccfe40ae4e5aa0c11b49fc546fac55f9828c6fb50",
    "95b1aa1dabeae4dde10c2065f178bbd78933d4b2ced73cc9b3b56d76c7d5c256",
    "d74d80eb270d1d41321e4078b62a8134bb0ddbfaed819258efb44887ca937a35",
]


def test_policies_depend_on_seed_and_step_alone():
    def digests() -> list[str]:
        found = joint_policies("net", COSTS, (2, 3, 4), seed=3, step=11, mixtures=2)
        return [policy.digest() for policy in found]

    before = digests()
    random.seed(5)
    torch.manual_seed(5)
    states = random.getstate(), torch.get_rng_state()
    assert digests() == before
    assert (random.getstate(), torch.get_rng_state().tolist()) == (states[0], states[1].tolist())
    others = [joint_policies("net", COSTS, (2, 3, 4), seed=s, step=t)[-1].digest() for s, t in [(3, 12), (4, 11)]]
    assert len({*others, before[-2]}) == 3
    assert before == UNDER_ANOTHER_HASH_SEED


def kl(taught: Tensor, logits: Tensor) -> float:
    """The mean over the batch of sum p (log p - log q), in plain Python."""
    total = 0.0
    for p_row, q_row in zip(taught.double().softmax(-1).tolist(), logits.double().softmax(-1).tolist(), strict=True):
        total += sum(p * torch.tensor(p / q).log().item() for p, q in zip(p_row, q_row, strict=True))
    return total / len(logits)


def test_two_teachers_share_the_loss_with_the_labels():
    torch.manual_seed(0)
    logits, one, two = torch.randn(3, 6, 5, dtype=torch.float64)
    labels = torch.tensor([4, 0, 1, 3, 2, 2])
    hard = -sum(logits[k].softmax(-1)[label].log().item() for k, label in enumerate(labels.tolist())) / 6
    mixed = classification_loss(logits, labels, (one, 0.5), (two, 0.2), smoothing=0.0)
    assert mixed.shape == ()
    assert mixed.item() == pytest.approx(0.3 * hard + 0.5 * kl(one, logits) + 0.2 * kl(two, logits), rel=1e-6)
    alone = classification_loss(logits, labels, (one, 0.5), (None, 0.2), smoothing=0.0)
    assert alone.item() == pytest.approx(0.5 * hard + 0.5 * kl(one, logits), rel=1e-6)
    none = classification_loss(logits, labels, (one, 0.0), (None, 0.7), smoothing=0.0)
    assert none.item() == pytest.approx(hard, rel=1e-9)
    soft_only = classification_loss(logits, labels, (one, 0.6), (two, 0.4), smoothing=0.0)
    assert soft_only.item() == pytest.approx(0.6 * kl(one, logits) + 0.4 * kl(two, logits), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothing_is_that_of_timm(smoothing):
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 5), torch.arange(6) % 5
    expected = LabelSmoothingCrossEntropy(smoothing)(logits, labels)
    torch.testing.assert_close(classification_loss(logits, labels, smoothing=smoothing), expected)


def test_half_precision_logits_are_compared_in_float32():
    torch.manual_seed(0)
    logits, taught = torch.randn(2, 6, 5).bfloat16()
    labels = torch.arange(6) % 5
    found = classification_loss(logits, labels, (taught, 0.5), smoothing=0.1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found, classification_loss(logits.float(), labels, (taught.float(), 0.5), smoothing=0.1), rtol=0, atol=0
    )
