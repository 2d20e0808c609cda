"""Commands that a message advises: as a shell takes them, whatever the names in them."""

from __future__ import annotations

import shlex
from pathlib import PurePath


def shell_command(*words: str | PurePath) -> str:
    """Return a command that can be pasted into a shell: every word is quoted that a shell would split or expand.

    Args:
        words: with a path as such, so that one with a dash at its beginning is not taken for an option: ./-x for -x.
    """
    return " ".join(_as_word(word) for word in words)


def _as_word(word: str | PurePath) -> str:
    text = f"./{word}" if isinstance(word, PurePath) and str(word).startswith("-") else str(word)
    if text.isprintable():
        return shlex.quote(text)
    # What steers a terminal is escaped where it is printed; bash and zsh take the escapes back within $'...'.
    return "$'" + "".join(map(_escaped, text)) + "'"


def _escaped(character: str) -> str:
    return character if character.isprintable() and character not in "\\'" else f"\\U{ord(character):08x}"
