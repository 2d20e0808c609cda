"""What was typed for one command and is meant for the next one too: the line that names that one carries it."""

from __future__ import annotations

import os

from limpq_hub.train.recipe import has_section
from limpq_hub.train.settings import DataSettings, Invocation
from limpq_hub.train.settings_conversion import arguments_of

# How pictures are batched and computed. Where they are is in the settings, whether it was typed or of a recipe.
_BATCHES = ("--cache-images", "--no-cache-images", "--batch-size", "--workers", "--seed")
_DEVICE = (
    *("--threads", "--mixed-precision"),
    *("--float64", "--no-float64", "--channels-last", "--no-channels-last"),
)
_FLOAT_NETWORKS = ("--weights", "--teacher")
_PREPARATION = ("--mean", "--std", "--crop-pct", "--crop-mode", "--interpolation")
# By the next command. Rates, lengths and augmentations are of one training, and what is published is said each time.
_MEANT_FOR = {
    "indicators": (*_BATCHES, *_DEVICE, *_PREPARATION),
    "finetune": (*_BATCHES, *_DEVICE, "--freeze-batch-norm", "--no-freeze-batch-norm"),
}


def carried_options(invocation: Invocation, command: str) -> list[str]:
    """Return the recipe where it has options for the next command, and the typed options that are meant for it too.

    A recipe may name weights and a teacher of its own: what was typed in place of them is carried with it.

    Args:
        invocation: of the command that ends.
        command: the next one, "indicators" or "finetune".
    """
    recipe, flags = carried_recipe(invocation, command), _MEANT_FOR[command]
    if recipe and command == "finetune":
        flags = (*_FLOAT_NETWORKS, *flags)
    return [*(["--recipe", recipe] if recipe else []), *typed_options(invocation, *flags)]


def carried_recipe(invocation: Invocation, command: str) -> str | None:
    """Return the recipe of the command that ends if it has options for the next one, or None."""
    recipe = invocation.options.get("recipe")
    return recipe if isinstance(recipe, str) and has_section(recipe, command) else None


def picture_options(data: DataSettings) -> list[str]:
    """Return the options that give another command the same pictures, but those that do nothing beside the others."""
    names = ["data", "unlabelled"]
    if data.data is not None:
        names += ["val_split"] if data.unlabelled else ["train_split", "val_split"]
        names += [] if os.path.isdir(data.data) else ["data_root"]
    return arguments_of(data, *names)


def typed_computing_options(invocation: Invocation) -> list[str]:
    """Return what was typed of how to compute: over a recipe that says otherwise it wins."""
    return typed_options(invocation, *_DEVICE, "--no-cache-images")


def typed_options(invocation: Invocation, *flags: str) -> list[str]:
    """Return those of the words typed that are one of these options or a value of it."""
    found, taken = [], False
    for word in invocation.typed:
        if word.startswith("--"):
            taken = word.partition("=")[0] in flags
        if taken:
            found.append(word)
    return found
