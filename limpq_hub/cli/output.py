"""What commands print: tables for people, JSON for programmes, and notes; control characters are escaped in all."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from limpq_hub.plan.option_wording import as_typed
from limpq_hub.plan.standard_streams import discard

# Invisible, harmless, and part of words of Persian and of Indian languages.
_JOINERS = "\u200c\u200d"

if TYPE_CHECKING:
    from rich.table import Table

    from limpq_hub.plan.plan import Plan


def new_table(title: str, *headings: str) -> Table:
    """Return an empty table whose cells are printed without rich's markup; it has no header if all headings are ""."""
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    class PlainTable(Table):
        """A table that shows its cells letter by letter."""

        def add_row(self, *cells: Any, **options: Any) -> None:
            """Add cells as `Text`: in a plain string rich takes limpq-hub[train] for a style and :dog: for an emoji."""
            super().add_row(*(Text(visible(cell, keep="\n")) for cell in cells), **options)

    table = PlainTable(title=escape(title), show_header=any(headings), min_width=min(len(title) + 4, 76))
    for heading in headings:
        table.add_column(escape(heading), overflow="fold")
    return table


def visible(text: str, *, keep: str = "") -> str:
    """Return text whose control and format characters are escaped as Python writes them, such as \\x1b.

    Names of classes, layers and files come from whoever made an artifact, and a terminal would obey such characters.

    Args:
        keep: characters that stay.
    """
    steering = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return "".join(
        character
        if character in keep or character in _JOINERS or unicodedata.category(character) not in steering
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def print_table(table: Table) -> None:
    """Print a table to stdout."""
    from rich.console import Console
    from rich.text import Text

    class PlainConsole(Console):
        """A console that escapes control characters everywhere, and raises an error where the reader has gone away."""

        def render_str(self, text: str, **options: Any) -> Text:
            """Return the text as rich renders it, its control characters escaped."""
            return super().render_str(visible(text, keep="\n"), **options)

        def on_broken_pipe(self) -> None:
            """Raise the `BrokenPipeError` that rich is handling, where its own method would exit the process."""
            raise

    console = PlainConsole(emoji=False)
    # Where there is no terminal there is no width to wrap at.
    console.print(table) if console.is_terminal else PlainConsole(width=160, emoji=False).print(table)


def print_facts(title: str, facts: Mapping[str, str]) -> None:
    """Print what is known of one thing, a line for each fact, however long: paths and commands are copied whole."""
    print(visible(title))
    width = max(map(len, map(visible, facts)))
    for name, value in facts.items():
        print(f"  {visible(name):<{width}}  {visible(value)}".rstrip())


def print_json(content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print JSON to stdout."""
    print(json.dumps(content, indent=1))


def print_notes(plan: Plan) -> None:
    """Print to stderr what the user should know about a plan, in the words of the command line."""
    for text in plan.notes:
        note(f"note: {as_typed(text)}")


def note(text: str) -> None:
    """Print a message of one line to stderr; where that cannot be written the answer is printed all the same."""
    try:
        print(visible(text), file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)
