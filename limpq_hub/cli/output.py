"""What commands print: tables for people, JSON for programmes, and notes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def percent(value: float | None) -> str:
    """Return a top-1 for people to read."""
    return "not measured" if value is None else f"{value:.2f} %"


def new_table(title: str, *headings: str) -> Table:
    """Return an empty table; without any heading that says something it has no header."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), show_header=any(headings), min_width=min(len(title) + 4, 76))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def print_table(table: Table) -> None:
    """Print a table to stdout."""
    from rich.console import Console

    console = Console()
    # Where there is no terminal there is no width to wrap at.
    console.print(table) if console.is_terminal else Console(width=160).print(table)


def print_json(content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print JSON to stdout."""
    print(json.dumps(content, indent=1))


def note(text: str) -> None:
    """Print a message to stderr."""
    print(text, file=sys.stderr)
