"""Command lines that answer a word they do not know with the one that was probably meant."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from limpq_hub.plan.constraint_kind import ConstraintKind
from limpq_hub.plan.constraints import KINDS
from limpq_hub.plan.shell_command import shell_command

# Words that are no option, and what they stand for here; spelling alone would lead elsewhere, from --budget to --debug.
_MEANT = {
    "--budget": ("--bitops", "--size"),
    "--bops": ("--bitops",),
    "--flops": ("--bitops",),
    "--macs": ("--bitops",),
    "--memory": ("--size", "--activation-memory"),
    "--runtime": ("--format", "--exported"),
}
# The least likeness of an option that is nearly right (`difflib`), and how many are told that one is the beginning of.
_LIKENESS, _MOST_SHORTENED = 0.65, 3
_REPOSITORY_OPTIONS = frozenset({"--repo", "--repo-id", "--repository"})


class SuggestingParser(argparse.ArgumentParser):
    """An argument parser whose errors end in "did you mean ...?" where an option or a choice is nearly right."""

    _typed: Sequence[str] = ()

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Return what was typed; an unknown option is told by the command that it was typed for."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            command = self._command_of(parsed)
            advice = ""
            if isinstance(command, SuggestingParser) and not any(word.startswith("-") for word in unknown):
                advice = command._joined_value(unknown) or command._budget_in("".join(unknown))
            command.error(f"unrecognized arguments: {' '.join(unknown)}{advice}")
        return parsed

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Return what was typed and what is not known of it, and keep the words for `error`."""
        self._typed = tuple(sys.argv[1:] if args is None else args)
        return super().parse_known_args(self._typed, namespace)

    def error(self, message: str) -> NoReturn:
        """Exit as argparse does, with a suggestion behind the message, and one line of usage before it."""
        usage = f"usage: {self.prog} ...; --help lists what can be typed"
        self.exit(2, f"{usage}\n{self.prog}: error: {message}{self._suggestion(message)}\n")

    def _command_of(self, parsed: argparse.Namespace) -> argparse.ArgumentParser:
        """Return the parser of the command that was typed, or this one where there are no commands."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                found = action.choices.get(getattr(parsed, action.dest))
                return found if isinstance(found, argparse.ArgumentParser) else self
        return self

    def _joined_value(self, unknown: Sequence[str]) -> str:
        """Return how a limit is written whose unit stood apart from it, as in --size 3 MB, or nothing."""
        words: list[str] = []
        for word in self._typed:
            words += word.split("=", 1) if word.startswith("--") else [word]
        for kind in self._kinds():
            for option, number, unit in zip(words, words[1:], words[2:], strict=False):
                value = number + "".join(unknown)
                if (option, unit) == (kind.flag, unknown[0]) and kind.takes(value):
                    return f"; write {shell_command(kind.flag, value)}"
        return ""

    def _budget_in(self, text: str) -> str:
        """Return how a budget is given that was typed without its option, or nothing, as of a number alone."""
        meant = [kind for kind in self._kinds() if kind.takes(text) and not text.replace(".", "").isdecimal()]
        return f"; did you mean {shell_command(meant[0].flag, text)}?" if meant else ""

    def _kinds(self) -> list[ConstraintKind[Any]]:
        """Return the kinds of limits that this command takes."""
        return [kind for kind in KINDS if kind.flag in self._option_string_actions]

    def _suggestion(self, message: str) -> str:
        choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)$", message)
        if choice:
            near = difflib.get_close_matches(choice[1], re.findall(r"[\w.-]+", choice[2]), n=1)
        else:
            known = [flag for flag in self._option_string_actions if flag.startswith("--") and flag != "--help"]
            options = [word.partition("=")[0] for word in self._typed if word.startswith("--") and len(word) > 2]
            misplaced = self._misplaced(message, options)
            if misplaced:
                return misplaced
            unknown = {option: self._meant(option, known) for option in options if option not in known}
            # What is required and missing may have been misspelt: the message has not said so yet.
            near = [
                word if not word or option in message else f"{word} in place of {option}"
                for option, word in unknown.items()
            ]
        meant = dict.fromkeys(filter(None, near))
        return f"; did you mean {' and '.join(meant)}?" if meant else ""

    def _meant(self, option: str, known: Sequence[str]) -> str:
        """Return the options that one that is not known may stand for, or nothing."""
        meant = [flag for flag in _MEANT.get(option, ()) if flag in known and flag not in self._typed]
        shortened = [flag for flag in known if flag.startswith(option)]
        # The dashes, that all have, are no likeness.
        flags = {flag.lstrip("-"): flag for flag in known}
        near = difflib.get_close_matches(option.lstrip("-"), flags, n=1, cutoff=_LIKENESS)
        return " or ".join(meant or shortened[:_MOST_SHORTENED] or [flags[name] for name in near])

    def _misplaced(self, message: str, options: Sequence[str]) -> str:
        """Return how the model or the repository is given here where it was typed the other way, or nothing."""
        if _REPOSITORY_OPTIONS.intersection(options) and any(action.dest == "repository" for action in self._actions):
            return f"; the repository is given by position here: {self.prog} ... you/resnet18-limpq"
        by_position = any(action.dest in ("model", "name") and not action.option_strings for action in self._actions)
        if by_position and "--model" in options:
            return f"; the model is given by position here: {self.prog} resnet18 ..."
        is_missing = "required" in message and "--model" in message
        if is_missing and self._typed and not self._typed[0].startswith("-"):
            return f"; the model is given by an option here: {self.prog} ... --model resnet18"
        return ""
