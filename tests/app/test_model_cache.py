"""Tests of the networks that visitors share: loaded once, never changed, a bounded number of bytes held."""

import threading
from concurrent.futures import ThreadPoolExecutor

import _model_cache
import pytest
import torch
from _model_cache import Networks
from PIL import Image
from torch import nn

from limpq_hub import search
from limpq_hub.pictures import top_classes

MODEL = "resnet18.tiny_imagenet"
POLICIES = [search(MODEL, bitops=f"{budget}G").policy for budget in (2, 2.5, 3, 3.5)]


def hundred_bytes() -> nn.Module:
    network = nn.Linear(4, 5, bias=False)  # 80 bytes
    network.register_buffer("scale", torch.ones(5))
    return network


@pytest.fixture
def loads(monkeypatch) -> list:
    """Each load, as the digest of its policy; loading gives a network of 100 bytes at once."""
    digests = []

    def load(model, policy, weights):
        digests.append(policy and policy.digest())
        return hundred_bytes()

    monkeypatch.setattr(_model_cache, "_load", load)
    return digests


def test_a_network_is_loaded_once_for_all_visitors(loads):
    networks, gate = Networks(), threading.Barrier(16)

    def visit(policy):
        gate.wait()
        return networks.get(MODEL, policy)

    with ThreadPoolExecutor(16) as pool:
        networks_of_visitors = list(pool.map(visit, POLICIES * 4))
    assert sorted(loads) == sorted(policy.digest() for policy in POLICIES)
    assert len({id(network) for network in networks_of_visitors}) == len(POLICIES)
    assert all(network is networks_of_visitors[visit % 4] for visit, network in enumerate(networks_of_visitors))


def test_the_network_that_was_not_used_for_longest_goes_first(loads):
    networks = Networks(most_bytes=250)
    for place in (0, 1, 0, 2, 0, 1):
        networks.get(MODEL, POLICIES[place])
        assert networks.held_bytes <= 200
    digests = [policy.digest() for policy in POLICIES]
    assert loads == [digests[0], digests[1], digests[2], digests[1]]
    assert not networks.has(MODEL, POLICIES[2])


def test_large_networks_leave_room_for_fewer_and_the_last_one_stays_whatever_its_size(monkeypatch):
    sizes = {policy.digest(): size for policy, size in zip(POLICIES, (100, 100, 200, 1000), strict=True)}
    monkeypatch.setattr(
        _model_cache, "_load", lambda model, policy, weights: nn.Linear(sizes[policy.digest()] // 4, 1, bias=False)
    )
    networks, held = Networks(most_bytes=300), []
    for policy in POLICIES:
        networks.get(MODEL, policy)
        held.append([networks.has(MODEL, other) for other in POLICIES].count(True))
    assert held == [1, 2, 2, 1]
    assert networks.held_bytes == 1000


def test_the_float_network_has_a_place_of_its_own(loads):
    networks = Networks()
    assert networks.get(MODEL, None) is networks.get(MODEL, None)
    assert networks.get(MODEL, None) is not networks.get(MODEL, POLICIES[0])
    assert loads == [None, POLICIES[0].digest()]


def test_a_load_that_fails_is_tried_again(monkeypatch):
    answers = iter([OSError("no room"), nn.Identity()])

    def load(model, policy, weights):
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(_model_cache, "_load", load)
    networks = Networks()
    with pytest.raises(OSError, match="no room"):
        networks.get(MODEL, None)
    assert isinstance(networks.get(MODEL, None), nn.Identity)


def test_looking_at_pictures_changes_nothing_in_a_network(networks):
    network = networks.get(MODEL, POLICIES[2])
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for shade in (0, 100, 255):
        top_classes(network, Image.new("RGB", (80, 50), (shade, 10, 200)))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_two_policies_share_no_weight(networks):
    one, other = (networks.get(MODEL, policy) for policy in POLICIES[:2])
    addresses = {value.data_ptr() for value in one.state_dict().values() if value.numel()}
    assert not addresses & {value.data_ptr() for value in other.state_dict().values() if value.numel()}
