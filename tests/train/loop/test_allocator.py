"""Freed memory stays with the process: counted in page faults, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from limpq_hub.train.loop.allocator import keep_freed_memory

# Steps of a small network with activations of 13 MB; prints the page faults of the last eight.
SCRIPT = """
import resource, sys
import torch
from limpq_hub.train.loop.allocator import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit("nothing to set here")
network = torch.nn.Sequential(*(torch.nn.Conv2d(8, 8, 3, padding=1) for _ in range(4)))
for step in range(12):
    if step == 4:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    network(torch.zeros(16, 8, 160, 160)).sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(allocator: str) -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT, allocator], capture_output=True, text=True, check=False)
    if "nothing to set here" in done.stderr:
        pytest.skip("the C library of this system has no mallopt")
    return int(done.stdout)


def test_a_step_takes_the_memory_of_the_one_before():
    assert page_faults("keep") < 0.1 * page_faults("as it is")


def test_other_systems_are_left_as_they_are(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
