"""Large tensors in huge pages: counted in page faults, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from limpq_hub.train.loop.huge_pages import use_huge_pages

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# Steps of a small network with activations of 52 MB; prints their page faults.
SCRIPT = """
import resource, sys
import torch
from limpq_hub.train.loop.huge_pages import use_huge_pages
if sys.argv[1] == "huge":
    use_huge_pages()
network = torch.nn.Sequential(*(torch.nn.Conv2d(8, 8, 3, padding=1) for _ in range(4)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    network(torch.zeros(16, 8, 320, 320)).sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(pages: str) -> int:
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    command = [sys.executable, "-c", SCRIPT, pages]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.mark.slow
@pytest.mark.skipif(
    not SETTING.is_file() or "[madvise]" not in SETTING.read_text(), reason="huge pages are not there to ask for"
)
def test_a_step_has_a_fifth_of_the_page_faults():
    assert page_faults("huge") < 0.2 * page_faults("small")


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    use_huge_pages()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"
