"""Whether a resumed run gives the result of an uninterrupted one; if not, which setting would change it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import fields
from typing import Any

import torch

from limpq_hub.errors import TrainingError
from limpq_hub.plan.quantities import is_number
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.train.settings import PushSettings
from limpq_hub.train.training_settings import CONSTANT
from limpq_hub.train.weights.fetched_weights import content_name, is_fetched
from limpq_hub.zoo.model_args import typed_text

DATA, STEPS, MACHINE = "training_data", "steps", "machine"
# What does not change the training: how it runs, and what is done with its result.
_MAY_CHANGE = {"output", "resume", "workers", "threads", "save_interval", "cache_images", "recipe", "validate_epochs"}
# `compile` is no option any more: a run that recorded it can be resumed all the same.
_MAY_CHANGE |= {"compile", "alpha", "anchor_gap", "calibrate_images", "measure_images", "unmeasured"}
_MAY_CHANGE |= {field.name for field in fields(PushSettings)}
# Compared by themselves, with words of their own.
_MAY_CHANGE |= {DATA, STEPS, MACHINE}
_LENGTH = {"epochs", "max_steps"}
# What corrects frozen statistics before the first step of a fine-tuning, and does nothing to a state that was saved.
_CORRECTING = {"calibrate_images"}
# Options that are recorded under another name, as theirs is a word of Python.
_FLAGS = {"start_from": "--from"}
# What stands for an option that was not given.
_NOT_GIVEN: tuple[object, ...] = (None, [], {})
# Options that are off by a word; left out, they are on.
_OFF_BY_WORD = {"auto_augment": "none"}
# Where pictures are, which are told apart by what they are as well.
_PLACES = {"data", "data_root", "unlabelled"}


def check_settings(first: Mapping[str, Any], now: Mapping[str, Any], *, noted: Collection[str]) -> None:
    """Raise `TrainingError` where a run that began with other options would not give what a whole run gives.

    How long the run is, is left to `check_length`, which knows the steps.

    Args:
        first: options and records of the start.
        now: the same of the resumption.
        noted: what of it the start noted by its content, beside which validation pictures and network; empty where an
            earlier version did not note them.
    """
    may_change = _MAY_CHANGE - _CORRECTING if _is_frozen_tuning(first) else _MAY_CHANGE
    changed = {key for key, value in first.items() if key not in may_change and now.get(key) != value}
    changed -= {key for key in changed if _is_moved(key, first, now, noted=noted)}
    if changed == {"processes"}:
        raise TrainingError(_other_processes(first, now))
    if changed - _LENGTH == {"warmup_epochs"} and first.get("lr_schedule") == CONSTANT:
        raise TrainingError(
            "--resume with another warmup_epochs, which follows --epochs where it is not given; give it as the run "
            f"began: --warmup-epochs {first['warmup_epochs']:g}"
        )
    if changed - _LENGTH or (changed and STEPS not in first):
        advice = "give the options of the first run"
        typed = _as_typed(first, now, changed)
        if typed:
            advice += f": {typed}"
        if "processes" in changed:
            advice += f", in {_launched(first['processes'])}"
        if changed & _LENGTH and first.get("lr_schedule") != CONSTANT:
            advice += "; what is to be prolonged is trained with --lr-schedule constant"
        raise TrainingError(f"--resume with another {', '.join(sorted(changed))}; {advice}")


def check_length(first: Mapping[str, Any], now: Mapping[str, Any], done: int) -> None:
    """Raise `TrainingError` where a run of another number of steps would have had other steps from its beginning on.

    Args:
        first: options and records of the start.
        now: the same of the resumption.
        done: steps of the newest saved state.
    """
    steps, before = now[STEPS], first.get(STEPS)
    if before is None or steps == before:
        return
    if now.get("lr_schedule") != CONSTANT:
        raise TrainingError(
            f"--resume up to step {steps}, and the run began with {before} in mind: its learning rate falls along a "
            "cosine to the last step, so that every step would have had another rate. End it as it began, with "
            f"{_as_typed(first, now, _LENGTH)}, or train {steps} steps in another --output; what is to be prolonged is "
            "trained with --lr-schedule constant"
        )
    if steps < done:
        raise TrainingError(
            f"--resume up to step {steps}, and {done} are done: ask for as many at least, or choose another --output"
        )


def check_same_length(first: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise `TrainingError` where another length was asked for of a run that is trained, and goes on as what it was.

    Args:
        first: options and records of the start.
        now: the same of the resumption.
    """
    changed = sorted(key for key in _LENGTH if first.get(key) != now.get(key))
    if changed:
        raise TrainingError(
            f"--resume with another {', '.join(changed)} of a run that is trained, and on other data; end it as it "
            f"began, with {_as_typed(first, now, _LENGTH)}, or choose another --output"
        )


def machine_record(device: str) -> dict[str, str | int]:
    """Return what decides how sums are rounded here: the device, by its name, threads and the version of torch."""
    return {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}


def machine_note(first: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield in one line what of the machine is another than at the start: the result may differ in the last bits."""
    before, here = first.get(MACHINE) or {}, now[MACHINE]
    changed = [key for key, value in before.items() if here.get(key) != value]
    if changed:
        then, since = (", ".join(f"{key} {record.get(key)}" for key in changed) for record in (before, here))
        yield (
            f"note: the run began with {then}, and goes on with {since}: sums may be rounded otherwise, so that it is "
            "the same training and not the same to the last bit"
        )


def _is_frozen_tuning(options: Mapping[str, Any]) -> bool:
    """Return whether a run is a fine-tuning, which alone says what it starts from, with frozen statistics."""
    return bool(options.get("freeze_batch_norm")) and "start_from" in options


def _is_moved(key: str, first: Mapping[str, Any], now: Mapping[str, Any], *, noted: Collection[str]) -> bool:
    """Return whether an option only says where something is now that was noted by its content, and is compared so."""
    value = now.get(key)
    if key in _PLACES:
        folders = value if isinstance(value, list) else [value]
        there = all(isinstance(folder, str) and os.path.isdir(folder) for folder in folders)
        return bool(noted) and DATA in first and bool(folders) and there
    if key in ("weights", "teacher") and is_fetched(value):
        return is_fetched(first[key]) and content_name(key) in noted
    if key in ("weights", "teacher"):  # the digests are compared as options are
        configs = (record.get(f"{key}_config_sha256") for record in (first, now))
        return f"{key}_sha256" in first and f"{key}_sha256" in now and len(set(configs)) == 1
    if key == "input_size":  # that of the network is noted; an earlier version had a default here
        return bool(noted) and None in (first[key], value)
    contents_noted = bool(noted) and isinstance(value, str) and isinstance(first[key], str)
    if key == "model":  # on the Hub the same entry may be named with its commit, or without
        named = [str(first[key]), str(value)]
        return contents_noted and any(
            all(name.startswith(kind) for name in named) for kind in ("local-dir:", "hf-hub:")
        )
    return key in ("policy", "class_names") and contents_noted


def _other_processes(first: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    before, here, batch = first["processes"], now["processes"], now.get("batch_size")
    pictures = f"{here} x {batch} pictures in place of {before} x {batch}" if is_number(batch) else "other pictures"
    return (
        f"--resume with another processes: {here} in place of the {before} that the run began with, so that a step "
        f"would take {pictures}, and sums be rounded in another order; start {_launched(before)} again, or choose "
        "another --output"
    )


def _launched(processes: int) -> str:
    started = f"accelerate launch --num_processes {processes}, or torchrun --nproc_per_node {processes}"
    return f"{processes} process{'es' if processes > 1 else ''} ({started})"


def _as_typed(first: Mapping[str, Any], now: Mapping[str, Any], keys: Set[str]) -> str:
    """Return what to type for options as the run began with them, and what to leave out; "" where neither is known."""
    words, left_out = [], []
    for key in sorted(keys - {"processes"}):  # those are the launcher's
        flag, value = _FLAGS.get(key, f"--{key.replace('_', '-')}"), first.get(key)
        values = value if isinstance(value, list) else [value]
        if key.endswith("_sha256"):
            continue
        if value is None and key in _OFF_BY_WORD:
            words += [flag, _OFF_BY_WORD[key]]
        elif value in _NOT_GIVEN:
            left_out += [flag] if now.get(key) not in _NOT_GIVEN else []
        elif isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, dict):
            words += [flag, *typed_text(value)]
        elif all(is_number(one) or isinstance(one, str) for one in values):
            words += [flag, *map(str, values)]
    # What a recipe gives is not left out by leaving out its option.
    if left_out and first.get("recipe") != now.get("recipe"):
        if first.get("recipe"):
            words = ["--recipe", first["recipe"], *words]
        else:
            left_out.insert(0, "--recipe")
    without = [f"without {' and '.join(left_out)}"] if left_out else []
    return ", ".join([shell_command(*words), *without] if words else without)
