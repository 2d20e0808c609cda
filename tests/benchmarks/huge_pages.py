"""Time of a training step on CPUs with large tensors in pages of 4 kB and in huge ones.

    python tests/benchmarks/huge_pages.py                                  # EfficientNet-Lite0, 224 pixels, batch 16
    python tests/benchmarks/huge_pages.py --model resnet18 --input-size 64 --batch-size 128

A step is forward, backward and SGD of the float network. torch reads once per process how it shall allocate: each turn
is a process of its own, and the two take turns.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time

import timm
import torch
from rich.console import Console
from rich.table import Table

from limpq_hub.train.loop.huge_pages import use_huge_pages

WARM_UP, STEPS = 2, 6
SMALL, HUGE = "of 4 kB", "huge"
PAGES = (SMALL, HUGE)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--input-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--one", choices=PAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(*_measured(options))
        return
    seconds: dict[str, list[float]] = {name: [] for name in PAGES}
    memory: dict[str, float] = dict.fromkeys(PAGES, 0.0)
    for _ in range(options.turns):
        for name in PAGES:
            command = [sys.executable, *sys.argv, "--one", name]
            step, peak = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
            seconds[name].append(step)
            memory[name] = max(memory[name], peak)
    table = Table("pages", "ms a step", "x small", "most memory, GB")
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    for name, median in medians.items():
        table.add_row(name, f"{1e3 * median:.0f}", f"{median / medians[SMALL]:.2f}", f"{memory[name]:.2f}")
    Console().print(table)


def _measured(options: argparse.Namespace) -> tuple[float, float]:
    """Return the median seconds of a step, and the most memory of the process in GB."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.one == HUGE:
        use_huge_pages()
    network = timm.create_model(options.model)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    taken = []
    for step in range(WARM_UP + STEPS):
        images = torch.randn(options.batch_size, 3, options.input_size, options.input_size)
        began = time.perf_counter()
        network(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if step >= WARM_UP:
            taken.append(time.perf_counter() - began)
    return statistics.median(taken), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
