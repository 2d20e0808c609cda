"""Tests of `watched_inputs`: each input is seen before its module runs, and no hook outlives the block."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from limpq_hub.quant.watched_inputs import watched_inputs


def test_each_input_is_seen_by_name_before_the_module_computes():
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    seen: list[tuple[str, Tensor]] = []

    def look(name: str, module: nn.Module, x: Tensor) -> None:
        seen.append((name, x))
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, -1.0)

    x = torch.ones(1, 2)
    with watched_inputs(dict(network.named_children()), look):
        output = network(x)
    assert [name for name, _ in seen] == ["0", "1"]
    assert torch.equal(seen[0][1], x)
    assert torch.equal(seen[1][1], torch.full((1, 2), -2.0))
    assert torch.equal(output, torch.zeros(1, 2))


def test_an_input_that_is_given_by_name_is_seen():
    layer, seen = nn.Linear(2, 2), []
    x = torch.ones(1, 2)
    with watched_inputs({"layer": layer}, lambda name, module, x: seen.append(x)):
        layer(input=x)
    assert [taken is x for taken in seen] == [True]


def test_what_a_look_returns_does_not_take_the_place_of_the_input():
    with watched_inputs({"layer": (layer := nn.Identity())}, lambda name, module, x: x + 1):
        assert float(layer(torch.zeros(()))) == 0


def test_nothing_is_seen_any_more_after_an_error_in_the_block():
    layer, seen = nn.Identity(), []
    with (
        pytest.raises(RuntimeError, match="ended early"),
        watched_inputs({"layer": layer}, lambda *call: seen.append(call)),
    ):
        raise RuntimeError("ended early")
    layer(torch.zeros(1))
    assert not seen
