"""Saved states of a run, to resume it exactly: written, read back, and only then the previous one is deleted."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from limpq_hub.errors import ArtifactError, TrainingError
from limpq_hub.plan.output_file import write_bytes
from limpq_hub.train.loop.run_files import saved_states
from limpq_hub.zoo.folder import SealedFolder, open_local_folder, seal_folder
from limpq_hub.zoo.tensors import tensors_from_bytes, tensors_to_bytes

_KIND = "state"
_TENSORS = "state.safetensors"


@dataclass
class TrainingState:
    """All that changes from step to step.

    Attributes:
        model: what is trained.
        optimizers: in a fixed order.
        average: moving average of the model, or None.
        memory: what the method remembers between steps, as JSON holds it.
        step: optimizer steps done.
        seconds: time they took.
    """

    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    average: ModelEmaV3 | None = None
    memory: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    seconds: float = 0.0

    def save(self, folder: Path) -> None:
        """Save into `folder`/step-NNN, verify what was written, then delete the states before.

        Raises:
            TrainingError: it cannot be written or does not verify; the state before is kept.
        """
        target = folder / f"step-{self.step:08d}"
        building = folder / f".{target.name}.partial"
        try:
            for leftover in (*folder.glob(".step-*.partial"), target):
                shutil.rmtree(leftover, ignore_errors=True)
            write_bytes(building / _TENSORS, tensors_to_bytes(self._tensors()))
            record = {"step": self.step, "seconds": self.seconds, "memory": self.memory}
            seal_folder(building, _KIND, record, (_TENSORS,))
            _flush_folder(building)
            os.replace(building, target)
            _flush_folder(folder)
            open_local_folder(target, _KIND).read(_TENSORS)
        except (OSError, ArtifactError) as error:
            shutil.rmtree(building, ignore_errors=True)
            reason = getattr(error, "strerror", None) or error
            earlier = ", ".join(path.name for path in saved_states(folder) if path != target) or "none before it"
            raise TrainingError(
                f"step {self.step} cannot be saved in {folder} ({reason}); kept: {earlier}; make room, then --resume"
            ) from None
        for older in saved_states(folder):
            if older != target:
                shutil.rmtree(older)

    def restore(self, folder: Path) -> None:
        """Take over the newest state in `folder`, if there is one; name those that do not verify on stderr.

        Raises:
            TrainingError: there are states, and none verifies.
        """
        damaged = []
        for path in saved_states(folder):
            try:
                saved = open_local_folder(path, _KIND)
                tensors = tensors_from_bytes(saved.read(_TENSORS), f"{path}/{_TENSORS}")
            except ArtifactError as error:
                print(f"{path} is ignored: {error}", file=sys.stderr)
                damaged.append(path.name)
                continue
            self._take_over(saved, tensors)
            return
        if damaged:
            names = ", ".join(damaged)
            raise TrainingError(
                f"no state in {folder} can be read ({names}); bring one back, or delete {folder} to start over"
            )

    def _take_over(self, saved: SealedFolder, tensors: dict[str, Tensor]) -> None:
        self.model.load_state_dict(_under("model.", tensors))
        if self.average:
            self.average.module.load_state_dict(_under("average.", tensors))
        for number, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in _under(f"optimizer.{number}.", tensors).items():
                index, key = name.split(".", 1)
                state.setdefault(int(index), {})[key] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        self.memory.update(saved.config["memory"])
        self.step, self.seconds = saved.config["step"], saved.config["seconds"]

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if self.average:
            tensors |= {f"average.{name}": value for name, value in self.average.module.state_dict().items()}
        for number, optimizer in enumerate(self.optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                for key, value in state.items():
                    if value is not None:
                        tensors[f"optimizer.{number}.{index}.{key}"] = torch.as_tensor(value)
        return tensors


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _flush_folder(path: Path) -> None:
    """Put the names in a folder on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
