"""What was typed for one command and is meant for the next one too: the line that names that one carries it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from limpq_hub.train.settings import DataSettings, Invocation
from limpq_hub.train.settings_conversion import arguments_of

# How pictures are batched and computed. Where they are is in the settings, whether it was typed or of a recipe.
_BATCHES = ("--cache-images", "--no-cache-images", "--batch-size", "--workers", "--seed")
_DEVICE = (
    *("--threads", "--mixed-precision"),
    *("--float64", "--no-float64", "--channels-last", "--no-channels-last"),
)
_PREPARATION = ("--mean", "--std", "--crop-pct", "--crop-mode", "--interpolation")
# By the next command. Rates, lengths and augmentations are of one training, and what is published is said each time.
_MEANT_FOR = {
    "indicators": (*_BATCHES, *_DEVICE, *_PREPARATION),
    "finetune": (*_BATCHES, *_DEVICE, "--freeze-batch-norm", "--no-freeze-batch-norm"),
}


def carried_options(invocation: Invocation, command: str) -> list[str]:
    """Return the typed options that the next command also takes and is meant to have, with their values.

    A recipe is not: it may name weights of its own, where others were typed for this command.

    Args:
        invocation: of the command that ends.
        command: the next one, "indicators" or "finetune".
    """
    return _typed_of(invocation.typed, _MEANT_FOR[command])


def picture_options(data: DataSettings) -> list[str]:
    """Return the options that give another command the same pictures, but those that do nothing beside the others."""
    names = ["data", "unlabelled"]
    if data.data is not None:
        names += ["val_split"] if data.unlabelled else ["train_split", "val_split"]
        names += [] if os.path.isdir(data.data) else ["data_root"]
    return arguments_of(data, *names)


def typed_computing_options(invocation: Invocation) -> list[str]:
    """Return what was typed of how to compute: over a recipe that says otherwise it wins."""
    return _typed_of(invocation.typed, (*_DEVICE, "--no-cache-images"))


def _typed_of(words: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Return those words of a command line that are one of these options or a value of it."""
    found, taken = [], False
    for word in words:
        if word.startswith("--"):
            taken = word.partition("=")[0] in flags
        if taken:
            found.append(word)
    return found
