"""The `limpq` command: search, inspect and run mixed-precision networks from a shell.

Data goes to stdout, messages to stderr. Exit codes: 0 done, 2 usage or budget, 3 data, 5 artifact, 6 Hub,
70 a fault of this package, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from limpq_hub.cli.check import add_check_command
from limpq_hub.cli.completion import add_completion_command
from limpq_hub.cli.deploying import add_deploy_commands
from limpq_hub.cli.doctor import add_doctor_command
from limpq_hub.cli.ending import ended_by_signals, tell_system_error
from limpq_hub.cli.faults import told_in_one_line
from limpq_hub.cli.hub import add_hub_commands
from limpq_hub.cli.measuring import add_measure_command
from limpq_hub.cli.models import add_model_commands
from limpq_hub.cli.output import note
from limpq_hub.cli.plans import add_plan_commands
from limpq_hub.cli.predicting import add_predict_command
from limpq_hub.errors import HubError, LimpqError
from limpq_hub.plan.option_wording import as_typed
from limpq_hub.train.defaults_formatter import DefaultsFormatter
from limpq_hub.train.suggesting_parser import SuggestingParser
from limpq_hub.version import __version__

_FIRST_STEPS = """limpq needs a command. Three to begin with:
  limpq list                                          the models, and what was measured of each
  limpq search resnet18 --bitops 3G                   the best bit-widths for a budget
  limpq predict PICTURE --model resnet18 --bitops 3G  what that network sees in a picture
limpq --help lists all commands."""


@told_in_one_line
def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(argv)
    if options.command is None:
        for line in _FIRST_STEPS.splitlines():
            note(line)
        return 2
    try:
        with ended_by_signals():
            options.run(options)
            sys.stdout.flush()  # here, where an error can still be told
    except LimpqError as error:
        note(f"limpq {options.command}: {as_typed(str(error), argv)}")
        if options.debug and isinstance(error, HubError) and error.client_error:
            note(f"limpq {options.command}: the client of the Hub raised {error.client_error}")
        return error.exit_code
    except OSError as error:
        return tell_system_error(options.command, error)
    except KeyboardInterrupt:
        note(f"limpq {options.command}: interrupted")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    about = "The `limpq` command: search, inspect and run mixed-precision networks from a shell."
    guides = (
        "guides: python -m pydoc limpq_hub (what objective, joint, anchors and other words mean), limpq_hub.plan (the "
        "search), or .zoo.hub, .interop, .deploy"
    )
    parser = SuggestingParser(prog="limpq", description=about, epilog=guides, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"limpq-hub {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], None], help: str, *, prints_data: bool = True
    ) -> argparse.ArgumentParser:
        """Add a command with the options that all of them have, --json if it prints data, and return its parser."""
        added = commands.add_parser(
            name, help=help, description=help, allow_abbrev=False, formatter_class=DefaultsFormatter
        )
        added.set_defaults(run=run)
        if prints_data:
            added.add_argument("--json", action="store_true", help="print JSON instead of tables")
        added.add_argument(
            "--debug",
            action="store_true",
            help="show where an error that nobody foresaw comes from, and what the client of the Hub raised",
        )
        return added

    add_check_command(command)
    add_model_commands(command)
    add_predict_command(command)
    add_plan_commands(command)
    add_measure_command(command)
    add_deploy_commands(command)
    add_hub_commands(command)
    add_doctor_command(command)
    add_completion_command(command, _parser)
    return parser
