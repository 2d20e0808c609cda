"""What the launcher of Accelerate asks for, by its command line, its config file or its variables, and what is refused.

Accelerate takes all of them in silence: some would change a training that records nothing of it, others do nothing.
"""

from __future__ import annotations

import os
import re

import psutil
from accelerate.commands.config import config_args
from accelerate.commands.launch import launch_command_parser

from limpq_hub.errors import TrainingError, quoted

_LAUNCHERS = re.compile(
    r"(accelerate(_cli)?(\.py|\.exe)?\0launch|accelerate-launch|accelerate\.commands\.launch)(\0|$)"
)
_OFF = ("", "no", "false", "0")
_FOREIGN = {
    "ACCELERATE_DYNAMO_BACKEND": "a compiled network",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "fully sharded data parallelism",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a network that is spread over processes",
}


def check_launcher_settings(
    *, mixed_precision: str, has_precision_option: bool, gradient_accumulation: int | None = None
) -> None:
    """Raise `TrainingError` where a variable of the launcher asks for another training than the command's own options.

    Args:
        mixed_precision: of the command, "no" or "bf16".
        has_precision_option: False for a command without `--mixed-precision`, which measures in float32.
        gradient_accumulation: of the command; None where it trains nothing.
    """
    for variable, what in _FOREIGN.items():
        value = os.environ.get(variable, "")
        if value.lower() not in _OFF:
            raise TrainingError(
                f"{variable}={quoted(value)} asks for {what}, which these commands do not do: each process trains the "
                "whole network as it is; leave it out of accelerate launch and of its config file"
            )
    # The launcher says "no" of the precision where nothing was typed; of accumulation it says nothing then.
    own = {"ACCELERATE_MIXED_PRECISION": ("--mixed-precision", mixed_precision, {mixed_precision, "no"})}
    if gradient_accumulation is not None:
        used = str(gradient_accumulation)
        own["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"] = ("--gradient-accumulation", used, {used})
    for variable, (option, used, taken) in own.items():
        value = os.environ.get(variable, used)
        if value.lower() in taken:
            continue
        asked = f"{variable}={quoted(value)}, of accelerate launch or its config file,"
        if not has_precision_option:
            raise TrainingError(
                f"{asked} is not what this command measures in, float32: start it by accelerate launch "
                "--mixed_precision no, or without the variable"
            )
        raise TrainingError(
            f"{asked} is not the {option} of this command, {used}: give the same in both; what counts, and is "
            f"recorded, is {option} behind the script"
        )


def requested_processes() -> int | None:
    """Return how many processes the `accelerate launch` that started this one was asked for, or None.

    By `--num_processes`, or else by the config file that it read.
    """
    try:
        launcher = psutil.Process().parent()
        words = launcher.cmdline() if launcher else []
    except psutil.Error:
        return None
    if not _LAUNCHERS.search("\0".join(words[:4])):
        return None
    launch = next(place for place, word in enumerate(words) if "launch" in word)
    launched = launch_command_parser().parse_known_args(words[launch + 1 :])[0]
    if launched.num_processes is not None:
        return launched.num_processes
    # As Accelerate decides which file to read.
    by_default = os.path.isfile(config_args.default_config_file) and not launched.cpu
    if launched.config_file is None and not by_default:
        return None
    return getattr(config_args.load_config_from_file(launched.config_file), "num_processes", None)
