"""The command that lets a shell complete what is typed: completion."""

from __future__ import annotations

import argparse
from collections.abc import Callable

_SHELLS = ("bash", "zsh", "tcsh")


def add_completion_command(
    command: Callable[..., argparse.ArgumentParser], whole_parser: Callable[[], argparse.ArgumentParser]
) -> None:
    """Add the command of this module.

    Args:
        whole_parser: returns the parser whose commands and options are completed.
    """

    def print_completion(options: argparse.Namespace) -> None:
        import shtab

        print(shtab.complete(whole_parser(), shell=options.shell))

    completion = command(
        "completion", print_completion, "Print what makes a shell complete commands and options.", prints_data=False
    )
    completion.add_argument("shell", choices=_SHELLS, help='for bash: eval "$(limpq completion bash)" in ~/.bashrc')
