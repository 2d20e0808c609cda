"""How near a policy is: KL against a computation by hand, with statistics of BatchNorm by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from torch import Tensor, nn

from limpq_hub.errors import DataError, TrainingError
from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import select_policy, to_supernet
from limpq_hub.quant.profile import profile_module
from limpq_hub.train.measure import divergence as divergence_module
from limpq_hub.train.measure.divergence import Divergence
from limpq_hub.train.measure.measured_divergence import measured_divergence


class Made:
    """A float network of three layers with one BatchNorm, its supernet, and images in batches."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5)
        self.network = nn.Sequential(*layers).eval()
        self.images = torch.randn(24, 3, 8, 8, generator=generator) * 2 + 0.5
        self.costs: dict[str, LayerCost] = profile_module(self.network, self.images)
        self.supernet = to_supernet(self.network, (4, 3, 2), example_input=self.images).eval()

    def policy(self, bits: int) -> Policy:
        return Policy.uniform("Sequential", self.costs, bits)

    def by_hand(self, bits: int, adapt: list[Tensor], held_out: Tensor) -> float:
        """Return the mean KL, the statistics of BatchNorm taken from all outputs of the layer before it alike."""
        quantized = select_policy(self.supernet, self.policy(bits)).eval()
        with torch.no_grad():
            before = [quantized[:2](batch) for batch in adapt]
            norm = quantized[2]
            if before:
                images = sum(map(len, before))
                norm.running_mean.copy_(sum(len(x) * x.mean((0, 2, 3)) for x in before) / images)
                norm.running_var.copy_(sum(len(x) * x.var((0, 2, 3)) for x in before) / images)
            logits, reference = quantized(held_out).double(), self.network(held_out).double()
        return float(rel_entr(softmax(reference, 1), softmax(logits, 1)).sum(1).mean())


@pytest.fixture(scope="module")
def made() -> Made:
    return Made()


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_half_of_the_images_set_the_statistics_and_the_other_half_is_measured(made, bits):
    one, two, three, four, five = made.images.split([4, 6, 5, 6, 3])
    found = Divergence(made.supernet, made.network, [one, two, three, four, five])(made.policy(bits))
    held_out = torch.cat([three[2:], four, five])
    expected = made.by_hand(bits, [one, two, three[:2]], held_out)
    assert found == pytest.approx(expected, rel=1e-4)
    assert found != pytest.approx(made.by_hand(bits, [], held_out), rel=1e-2)


@pytest.mark.parametrize("bits", [2, 4])
def test_statistics_that_are_kept_or_corrected_are_those_of_the_float_network_alone_or_moved(made, bits):
    adapt, held_out = made.images[:12], made.images[12:]
    kept = Divergence(made.supernet, made.network, [adapt, held_out], "kept")(made.policy(bits))
    assert kept == pytest.approx(made.by_hand(bits, [], held_out), rel=1e-4)
    quantized, norm = select_policy(made.supernet, made.policy(bits)).eval(), made.network[2]
    with torch.no_grad():
        before, of_float = (network[:2](adapt) for network in (quantized, made.network))
        # Where the float network sees its own mean and variance, the quantized one must see these.
        mean, variance = before.mean((0, 2, 3)), before.var((0, 2, 3))
        stretch = (variance + norm.eps) / (of_float.var((0, 2, 3)) + norm.eps)
        quantized[2].running_mean.copy_(mean - (of_float.mean((0, 2, 3)) - norm.running_mean) * stretch.sqrt())
        quantized[2].running_var.copy_((norm.running_var + norm.eps) * stretch - norm.eps)
        logits, reference = quantized(held_out).double(), made.network(held_out).double()
    expected = float(rel_entr(softmax(reference, 1), softmax(logits, 1)).sum(1).mean())
    found = Divergence(made.supernet, made.network, [adapt, held_out], "corrected")(made.policy(bits))
    assert found == pytest.approx(expected, rel=1e-4)
    assert found != pytest.approx(kept, rel=1e-3)


def test_fewer_bits_are_further_away(made):
    divergence = Divergence(made.supernet, made.network, made.images.split(12))
    assert divergence(made.policy(2)) > divergence(made.policy(4)) > 0


def test_of_a_single_batch_half_of_the_images_are_measured(made):
    found = Divergence(made.supernet, made.network, [made.images])(made.policy(3))
    assert found == pytest.approx(made.by_hand(3, [made.images[:12]], made.images[12:]), rel=1e-4)


def test_a_short_last_batch_does_not_measure_alone(made):
    found = Divergence(made.supernet, made.network, [made.images[:23], made.images[23:]])(made.policy(3))
    assert found == pytest.approx(made.by_hand(3, [made.images[:12]], made.images[12:]), rel=1e-4)


def test_one_image_is_refused(made):
    with pytest.raises(DataError, match="^two images or more tell how far a policy is from the float network"):
        Divergence(made.supernet, made.network, [made.images[:1]])


def test_a_divergence_is_measured_once_per_policy(made, monkeypatch):
    measured = []

    def noted(supernet: nn.Module, policy: Policy) -> nn.Module:
        measured.append(policy)
        return select_policy(supernet, policy)

    monkeypatch.setattr(divergence_module, "select_policy", noted)
    divergence = Divergence(made.supernet, made.network, made.images.split(12))
    first = divergence(made.policy(2))
    other = divergence(made.policy(3))
    reordered = Policy("Sequential", dict(reversed(list(made.policy(2).layers.items()))))
    assert [divergence(policy) for policy in (made.policy(2), reordered)] == [first, first]
    assert measured == [made.policy(2), made.policy(3)]
    assert first != other


def test_networks_stay_as_they_are(made):
    before = [copy.deepcopy(network.state_dict()) for network in (made.supernet, made.network)]
    Divergence(made.supernet, made.network, made.images.split(12))(made.policy(2))
    for network, state in zip((made.supernet, made.network), before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_the_float_network_itself_is_at_no_distance(made, monkeypatch):
    monkeypatch.setattr(divergence_module, "select_policy", lambda supernet, policy: copy.deepcopy(made.network))
    divergence = Divergence(made.supernet, made.network, made.images.split(12), "kept")
    assert divergence(made.policy(2)) == pytest.approx(0, abs=1e-7)
    with torch.no_grad():
        expected = log_softmax(made.network(made.images[12:]), 1)
    torch.testing.assert_close(divergence.reference, torch.from_numpy(expected))


@pytest.mark.parametrize("nats", [float("nan"), float("inf")])
def test_a_divergence_that_is_no_number_is_not_written_down(nats):
    with pytest.raises(TrainingError, match="^the predictions of layer2 at 2/3 are not numbers"):
        measured_divergence(nats, "layer2 at 2/3")
    assert measured_divergence(-1e-9, "layer2 at 8/8") == 0.0
