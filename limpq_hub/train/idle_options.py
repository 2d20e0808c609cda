"""Options that were typed and that the other options leave without effect: refused, with what would give them one."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from limpq_hub.train.loop.run_files import is_begun
from limpq_hub.train.training_options import WITH_MOMENTUM


class _Idle(NamedTuple):
    """When an option does nothing, told in words with the values of the options.

    Attributes:
        flag: the option, as it is typed.
        beside: another option that a command has where this can be said of it.
        does_nothing: whether it does nothing beside the other options.
        told: why, and what to do.
    """

    flag: str
    beside: str
    does_nothing: Callable[[argparse.Namespace], Any]
    told: str


_IDLE = (
    _Idle(
        "--step-start",
        "start_from",
        lambda options: options.start_from == "joint",
        "--from joint has the step sizes that joint training learned; add --from float, or leave it out",
    ),
    _Idle(
        "--smoothing",
        "distill",
        lambda options: options.unlabelled or options.distill == 1,
        "all of the loss is learned from the teacher, and no label is read; give a --distill below 1, or leave it out",
    ),
    _Idle(
        "--momentum",
        "optimizer",
        lambda options: not {options.optimizer, options.step_optimizer} & WITH_MOMENTUM,
        f"--optimizer {{optimizer}} has none; leave it out, or use {', '.join(sorted(WITH_MOMENTUM))}",
    ),
    _Idle(
        "--train-split",
        "unlabelled",
        lambda options: options.unlabelled,
        "the pictures of --unlabelled are trained on in place of it; give one of the two",
    ),
    _Idle("--val-split", "unlabelled", lambda options: options.data is None, "it is of --data; give both, or neither"),
    _Idle("--data-root", "unlabelled", lambda options: options.data is None, "it is of --data; give both, or neither"),
    _Idle(
        "--data-root",
        "data",
        lambda options: options.data is not None and os.path.isdir(options.data),
        "--data is a folder of its own; leave it out, or give the name of a data set: torch/..., hfds/..., wds/...",
    ),
    _Idle("--points", "bitops", lambda options: options.bitops, "--bitops says which budgets; give one of the two"),
    _Idle(
        "--correlate-over",
        "correlated",
        lambda options: not options.correlated,
        "--correlated 0 leaves the correlations out; give one of the two",
    ),
    _Idle(
        "--correlate-every",
        "correlated",
        lambda options: not options.correlated,
        "--correlated 0 leaves the correlations out; give one of the two",
    ),
    _Idle(
        "--criterion-images",
        "criteria",
        lambda options: not options.criteria,
        "no --criteria are measured on them; give both, or neither",
    ),
)


def check_idle_options(parser: argparse.ArgumentParser, options: argparse.Namespace, typed: Sequence[str]) -> None:
    """Exit like argparse where an option was typed that does nothing beside the others.

    A recipe may give it: what is typed over a recipe may leave anything in it without effect. A run that is resumed
    goes on with the options that it began with.

    Args:
        options: of any command; what it does not have is not looked at.
        typed: what was typed after the command.
    """
    if getattr(options, "resume", False) and is_begun(options.output):
        return
    flags = {word.partition("=")[0] for word in typed if word.startswith("--")}
    for idle in _IDLE:
        if idle.flag in flags and hasattr(options, idle.beside) and idle.does_nothing(options):
            parser.error(f"{idle.flag}: {idle.told.format(**vars(options))}")
