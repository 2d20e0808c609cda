"""How long one process waits for another in a training: what the first of two processes prints for a test."""

from __future__ import annotations

import torch
import torch.distributed as processes

from limpq_hub.train.loop.run import new_accelerator
from limpq_hub.train.settings import DeviceSettings


def main() -> None:
    """Print the backend of the group, and how many seconds it waits, of every process.

    The first process prints for all of them: lines that two write to one pipe run into each other.
    """
    new_accelerator(DeviceSettings(threads=1))
    group = processes.distributed_c10d._get_default_group()
    options = group._get_backend(torch.device("cpu")).options
    waits = [""] * processes.get_world_size()
    processes.all_gather_object(waits, f"{processes.get_backend()} waits {options._timeout.total_seconds():.0f} s")
    if processes.get_rank() == 0:
        print(*waits, sep="\n", flush=True)
    processes.destroy_process_group()


if __name__ == "__main__":
    main()
