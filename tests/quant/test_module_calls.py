"""Which module calls are seen: all of this thread, none of another, none after the block."""

from __future__ import annotations

import threading

import pytest
import torch
from exact_blocks import Block
from torch import Tensor, nn

from limpq_hub import Policy, to_quantized
from limpq_hub.deploy.forward_record import record_forward
from limpq_hub.quant.module_calls import watched_module_calls
from limpq_hub.quant.profile import profile_module


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ZeroDivisionError


def test_calls_are_seen_in_their_order_and_only_inside_the_block():
    network = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Identity()))
    seen: list[tuple[str, nn.Module]] = []
    with watched_module_calls(
        lambda module, inputs: seen.append(("enter", module)),
        lambda module, inputs, output: seen.append(("leave", module)),
    ):
        network(torch.zeros(1))
    network(torch.zeros(1))
    relu, inner = network
    assert seen == [
        ("enter", network),
        ("enter", relu),
        ("leave", relu),
        ("enter", inner),
        ("enter", inner[0]),
        ("leave", inner[0]),
        ("leave", inner),
        ("leave", network),
    ]


def test_a_call_that_fails_is_left_too():
    left: list[object] = []
    network = nn.Sequential(Fails())
    with (
        pytest.raises(ZeroDivisionError),
        watched_module_calls(lambda module, inputs: None, lambda module, inputs, output: left.append((module, output))),
    ):
        network(torch.zeros(1))
    assert left == [(network[0], None), (network, None)]


def test_an_export_sees_nothing_of_what_another_thread_runs():
    network, images = Block(nn.ReLU()).eval(), torch.randn(2, 3, 16, 16)
    costs = profile_module(network, images)
    quantized = to_quantized(network, Policy.uniform("Block", costs, 4, 4), example_input=images).eval()
    alone = record_forward(quantized, (3, 16, 16))
    running, done = threading.Event(), threading.Event()
    foreign = nn.Sequential(*(nn.Identity() for _ in range(50)))

    def run() -> None:
        while not done.is_set():
            foreign(torch.zeros(1))
            running.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        running.wait()
        for _ in range(20):
            beside = record_forward(quantized, (3, 16, 16))
            assert [call.module for call in beside.calls] == [call.module for call in alone.calls]
    finally:
        done.set()
        thread.join()
