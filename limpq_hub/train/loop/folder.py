"""The output folder of a run: locked while it runs, with a record of the settings that a resume must repeat."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from filelock import FileLock, Timeout

from limpq_hub.errors import ArtifactFormatError, TrainingError
from limpq_hub.plan.jsonfile import read_json, write_json
from limpq_hub.train.data.identity import difference, identity_of
from limpq_hub.train.data.sources import Source
from limpq_hub.train.loop.provenance import device_name, weight_configs_record, weights_record
from limpq_hub.train.loop.resumption import (
    DATA,
    MACHINE,
    STEPS,
    check_length,
    check_same_length,
    check_settings,
    machine_note,
    machine_record,
)
from limpq_hub.train.loop.run_files import OPTIONS, is_begun, newest_step, states_of
from limpq_hub.train.settings import Invocation
from limpq_hub.train.training_settings import RunSettings

# Of what is read beside options and training pictures: `limpq_hub.train.loop.inputs`.
INPUTS, NETWORK = "inputs.json", "network"
# What a folder holds that is not a run's: an entry, a checkpoint, a network, what was measured of one.
_OF_OTHERS = ("config.json", "indicators.json", "model.safetensors", "supernet.safetensors", "policies")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, made if it is not there, against other processes; where nothing was written, it goes again.

    Raises:
        TrainingError: another process holds it.
    """
    # The system gives the lock back when its process ends, however it ends.
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = folder / ".lock", folder / ".lock-holder"
    try:
        with FileLock(lock).acquire(timeout=0):
            holder.write_text(f"process {os.getpid()} on {platform.node()}")
            try:
                yield
            finally:
                if made and {*folder.iterdir()} <= {lock, holder}:
                    _take_away(lock, holder, made)
    except Timeout:
        who = holder.read_text() if holder.exists() else "another process"
        raise TrainingError(f"{folder} is in use by {who}; wait for it, or choose another --output") from None


@contextmanager
def begun_or_forgotten(run: RunSettings) -> Iterator[None]:
    """Take away what a start noted of its inputs where no run was begun in its folder: it is of no run."""
    try:
        yield
    finally:
        if not holds_run(run):
            (run.output / INPUTS).unlink(missing_ok=True)


def holds_run(run: RunSettings) -> bool:
    """Return whether a run was begun in its folder."""
    return is_begun(run.output)


def is_trained(folder: Path) -> bool:
    """Return whether all steps of the run in a folder are done, so that what is left of it is measuring."""
    options = folder / OPTIONS
    steps = read_json(options).get(STEPS) if options.exists() else None
    return steps is not None and newest_step(states_of(folder)) >= steps


def refuse_other_data(where: str, other: str, *, trained: bool) -> None:
    """Raise an error for pictures that are not those of the start; of a run that is trained, print a note.

    What is measured of its weights is measured on the pictures that are there, of which one that could not be read may
    have been mended or taken out.

    Args:
        where: what a message calls the pictures.
        other: what of them is another.
        trained: whether all steps are done.

    Raises:
        TrainingError: they are not done.
    """
    if not trained:
        raise TrainingError(
            f"--resume on other data: {where} is {other}; bring back what the run began with, or choose another "
            "--output"
        )
    print(f"note: {where} is {other}: what is measured from now on is measured on what is there", flush=True)


def _take_away(lock: Path, holder: Path, folders: Sequence[Path]) -> None:
    """Remove the folders of a run that failed before it wrote anything, the innermost first."""
    # Windows keeps a lock file while it is held: then the folder stays.
    with suppress(OSError):
        for file in (holder, lock):
            file.unlink()
        for folder in folders:
            folder.rmdir()


def check_folder(accelerator: Accelerator, run: RunSettings, invocation: Invocation) -> None:
    """Raise `TrainingError` if the folder holds a network, another run than this, or one that is not to be resumed."""
    if not holds_run(run):
        held = next((name for name in _OF_OTHERS if (run.output / name).exists()), None)
        if held:
            raise TrainingError(
                f"{run.output} holds {held}, as a network does, and no run of this one, which would replace it or go "
                "under its name; choose another --output"
            )
        if os.path.exists(run.output / INPUTS) and not _is_noted(run.output / INPUTS):
            raise TrainingError(
                f"{run.output} holds {INPUTS}, which no run here wrote and this one would replace; choose another "
                "--output"
            )
        return
    if not run.resume:
        raise TrainingError(f"{run.output} holds a run already; add --resume, or choose another --output")
    inputs = run.output / INPUTS
    contents = read_json(inputs)["contents"] if inputs.exists() else {}
    noted = contents if NETWORK in contents else ()
    check_settings(read_json(run.output / OPTIONS), _options_record(accelerator, invocation), noted=noted)


def record_options(
    accelerator: Accelerator,
    run: RunSettings,
    invocation: Invocation,
    source: Source | None = None,
    *,
    steps: int | None = None,
    done: int = 0,
) -> None:
    """Write what the run was asked for and reads, so that it is the same at every resume; the main process does.

    Args:
        source: the training pictures; None where there are none.
        steps: of the whole run, where they are known.
        done: steps of the newest saved state.

    Raises:
        TrainingError: the run was begun with other steps in mind, or with other pictures and is not trained yet.
    """
    if not accelerator.is_main_process:
        return
    path, record = run.output / OPTIONS, _options_record(accelerator, invocation)
    record[MACHINE] = machine_record(device_name(accelerator))
    first = read_json(path) if path.exists() else {}
    if source is not None:
        record[DATA] = identity_of(source)
    if steps is not None:
        record[STEPS] = steps
    # Where an earlier version began the run, it did not note its pictures.
    other = difference(first[DATA], record[DATA]) if source is not None and DATA in first else None
    if source is not None and other:
        before = first.get(STEPS)
        trained = steps is not None and before is not None and steps <= before <= done
        if trained:
            check_same_length(first, record)
        refuse_other_data(source.where, other, trained=trained)
        record |= {DATA: first[DATA], STEPS: before}
    elif steps is not None:
        check_length(first, record, done)
    for line in machine_note(first, record):
        print(line, flush=True)
    write_json(path, record)


def _is_noted(path: Path) -> bool:
    """Return whether a file is what a start noted of its inputs; one that was killed leaves it behind."""
    try:
        content: Any = read_json(path)
    except ArtifactFormatError:
        return False
    return isinstance(content, dict) and {"format", "validation_data", "contents"} <= content.keys()


def _options_record(accelerator: Accelerator, invocation: Invocation) -> dict[str, Any]:
    weights = weights_record(invocation) | weight_configs_record(invocation)
    return {**invocation.options, **weights, "processes": accelerator.num_processes}
