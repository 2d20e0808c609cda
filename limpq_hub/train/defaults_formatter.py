"""The help of an option ends in its default, where it has one."""

from __future__ import annotations

import argparse


class DefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Writes "(default: 100)" behind the help of an option, and nothing behind that of one without a default."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # A switch is off unless it is typed, and what happens without the others their own help says.
        is_switch = action.nargs == 0 and not isinstance(action, argparse.BooleanOptionalAction)
        without_default = is_switch or action.default in (None, [], ())
        return action.help if without_default else super()._get_help_string(action)
