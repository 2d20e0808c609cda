"""`metrics.jsonl`: one line per optimizer step; the same figures for TensorBoard where it is installed."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from limpq_hub.errors import TrainingError
from limpq_hub.plan.output_file import write_bytes

JOURNAL = "metrics.jsonl"
SMALLER_STEPS = "start again in another --output with a smaller --lr or more --warmup-epochs"


class Journal:
    """Writes figures in the order of the steps, each step once however often the run was cut off.

    Figures wait in memory, on the device where they were computed, until `flush`.

    Args:
        folder: output folder of the run.
        step: the step that the run goes on from; what was written of later ones is taken out.

    Attributes:
        flushed: when figures were last written, in seconds of `time.monotonic`.
        validated: whether the run was validated at the step that it goes on from; the same on every process.
    """

    def __init__(self, accelerator: Accelerator, folder: Path, step: int) -> None:
        self.accelerator, self.path = accelerator, folder / JOURNAL
        self.waiting: list[tuple[int, float, Tensor]] = []
        self.flushed = time.monotonic()
        accelerator.init_trackers("tensorboard", init_kwargs={"tensorboard": {"purge_step": step + 1}})
        kept = _lines_until(self.path, step)
        self.validated = any("validation" in record and record["step"] == step for record in map(json.loads, kept))
        if accelerator.is_main_process:
            write_bytes(self.path, "".join(kept).encode())

    def add(self, step: int, rate: float, losses: Tensor) -> None:
        """Note a step: its learning rate, and the loss of each pass in the order of the passes, [passes]."""
        self.waiting.append((step, rate, losses))

    def flush(self) -> float:
        """Write what waits, and return the mean loss of the last step.

        Raises:
            TrainingError: a loss is not finite.
        """
        records: list[dict[str, Any]] = []
        for step, rate, losses in self.waiting:
            values = losses.reshape(-1).tolist()
            if not all(map(math.isfinite, values)):
                self._append(records)
                raise TrainingError(f"the loss of step {step} is not finite; {SMALLER_STEPS}")
            record = {"step": step, "loss": sum(values) / len(values), "losses": values, "lr": rate}
            records.append(record)
            figures = {f"loss/pass {number}": value for number, value in enumerate(values)}
            self.accelerator.log({"loss": record["loss"], "lr": rate} | figures, step=step)
        self.waiting.clear()
        self._append(records)
        self.flushed = time.monotonic()
        return records[-1]["loss"]

    def note(self, record: dict[str, Any]) -> None:
        """Write and show figures of a validation."""
        if self.waiting:
            self.flush()
        self._append([record])
        if self.accelerator.is_main_process:
            print(json.dumps(record), flush=True)

    def _append(self, records: list[dict[str, Any]]) -> None:
        if self.accelerator.is_main_process:
            with self.path.open("a") as file:
                file.writelines(json.dumps(record) + "\n" for record in records)


def _lines_until(path: Path, step: int) -> list[str]:
    """Return the whole lines of a journal up to a step: a run that was killed may have left half a line."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [line for line in lines if line.endswith("}\n") and json.loads(line)["step"] <= step]
