"""The fine-tuning that every policy of a comparison gets: the same command, but for the policy and the folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from limpq_hub.errors import TrainingError
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.plan.policy import Policy
from limpq_hub.train.carried_options import picture_options, typed_computing_options
from limpq_hub.train.loop.child_process import run_child
from limpq_hub.train.loop.interrupt import RunInterruptedError
from limpq_hub.train.loop.run_files import is_begun
from limpq_hub.train.settings import AugmentationSettings, ComparisonSettings
from limpq_hub.train.settings_conversion import arguments_of
from limpq_hub.train.training_settings import ScheduleSettings
from limpq_hub.zoo.entry import Entry


class Finetuning(NamedTuple):
    """How the fine-tuning that a recipe asks for takes its images, for how long, and which float networks it reads.

    Attributes:
        augmentation, schedule: of the fine-tuning, as its options say.
        float_networks: the names of weights and teacher, by their options; those that the recipe alone names.
    """

    augmentation: AugmentationSettings
    schedule: ScheduleSettings
    float_networks: Mapping[str, str]


# The exit codes of a process that was interrupted: in its training, and before.
_INTERRUPTED = (RunInterruptedError.exit_code, 130)


def name_at_commit(entry: Entry) -> str:
    """Return the name of an entry, of one on the Hub with the commit that was found."""
    repository, _, _ = entry.name.partition("@")
    return f"{repository}@{entry.revision}" if entry.source == "hub" else entry.name


def finetune_policy(settings: ComparisonSettings, entry: Entry, policy: Policy) -> Path:
    """Fine-tune a policy in a process of its own, going on where it was cut off; return the checkpoint folder.

    Args:
        entry: what the model of the settings was found to be: on the Hub, that name may mean another commit by now.

    Raises:
        TrainingError: that process failed.
        RunInterruptedError: SIGTERM or Ctrl-C came; that process has saved what it had.
    """
    folder = settings.output / f"{policy.digest()[:12]}-{settings.steps}"
    policy_file = settings.output / f"{folder.name}.json"
    write_json(policy_file, policy.to_json())
    command = [sys.executable, *finetuning_arguments(settings, name_at_commit(entry), policy_file, folder)]
    code = run_child(command)
    if code:
        again = "run" if code < 0 or code in _INTERRUPTED else "see what it says above, then run"
        raise TrainingError(f"fine-tuning in {folder} ended with exit code {code}; {again} the same command again")
    return folder


def finetuning_arguments(settings: ComparisonSettings, model: str, policy_file: Path, folder: Path) -> list[str]:
    """Return what Python is given to fine-tune the policy of a file: data, device and network of the comparison.

    Args:
        model: the entry of the settings, as `name_at_commit` names it.
    """
    # A recipe may name splits: those of the comparison win, even where they are the usual ones.
    data = settings.data
    splits = [] if data.unlabelled else ["--train-split", data.train_split]
    splits += [] if data.data is None else ["--val-split", data.val_split]
    drawn = arguments_of(data, "batch_size", "workers", "seed", "cache_images")
    # The comparison measures the checkpoint itself, image by image.
    own = ["--policy", str(policy_file), "--unmeasured", "--output", str(folder)]
    # A recipe, or the default, may say fewer epochs than these steps are; each epoch is a step or more.
    length = ["--epochs", str(settings.steps), "--max-steps", str(settings.steps)]
    return [
        *("-m", "limpq_hub.train.finetune"),
        *(["--resume"] if is_begun(folder) else []),
        *("--model", model),
        *arguments_of(settings, "weights", "recipe"),
        *picture_options(data),
        *drawn,
        *splits,
        *typed_computing_options(settings.invocation),
        *own,
        *length,
    ]
