"""Recipes: options of a command in a file, so that a published training starts with one command."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from limpq_hub.errors import InputFileError
from limpq_hub.plan.input_file import read_regular

# A wheel holds the recipes inside the package; a checkout has them beside the scripts.
_IN_WHEEL, _IN_CHECKOUT = Path(__file__).with_name("recipes"), Path(__file__).parents[2] / "training" / "recipes"
FOLDER = _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_CHECKOUT
_ON, _OFF = {"true", "yes", "on"}, {"false", "no", "off"}
_MOST_BYTES = 2**16  # PyYAML takes a second for so much


def add_recipe_option(parser: argparse.ArgumentParser) -> None:
    """Add `--recipe`."""
    parser.add_argument(
        "--recipe", help=f"options from a file: one of {', '.join(names())}, or a path; the command line comes after"
    )


def names() -> list[str]:
    """Return the names of the recipes that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def path_of(recipe: str) -> Path:
    """Return the file of a recipe, given by name or path."""
    return Path(recipe) if Path(recipe).suffix else FOLDER / f"{recipe}.yaml"


def has_section(recipe: str, command: str) -> bool:
    """Return whether a recipe that was read before can still be read, and has options for a command."""
    try:
        sections = _parsed(path_of(recipe))
    except (InputFileError, OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(sections, dict) and isinstance(sections.get(command), dict)


def with_recipe(parser: argparse.ArgumentParser, command: str, argv: Sequence[str]) -> list[str]:
    """Return the arguments with those of the recipe before them: what is typed comes last and wins.

    Exits like argparse where the recipe cannot be used.

    Args:
        command: "indicators", "finetune", ...: the section of the recipe.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--recipe")
    recipe = finder.parse_known_args(argv)[0].recipe
    if recipe is None:
        return list(argv)
    path = path_of(recipe)
    try:
        sections = _parsed(path)
    except InputFileError as error:
        parser.error(f"--recipe {recipe}: {error}")
    except FileNotFoundError:
        parser.error(f"--recipe {recipe}: there is no such file; recipes are {', '.join(names())}")
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        parser.error(f"--recipe {recipe}: not YAML ({' '.join(str(error).split())[:100]})")
    if not isinstance(sections, dict) or not isinstance(sections.get(command), dict):
        section_names = ", ".join(map(str, sections)) if isinstance(sections, dict) else "none"
        parser.error(f"--recipe {recipe} has no section {command!r}; its sections: {section_names}")
    if "recipe" in sections[command]:
        parser.error(f"--recipe {recipe}: recipe: one recipe names no other; write its options out")
    for name, value in sections[command].items():
        if value in ("", []):
            parser.error(f"--recipe {recipe}: {name} has no value; give it one, or leave the line out")
        # Only lists of plain values: a few lines of references to references are nested without end when printed.
        if any(isinstance(item, list | Mapping) for item in (value if isinstance(value, list) else [value])):
            parser.error(f"--recipe {recipe}: {name} must be a value, or a list of values")
    switches = {flag for action in parser._actions if action.nargs == 0 for flag in action.option_strings}
    try:
        return [*_arguments(sections[command], switches), *argv]
    except ValueError as error:
        parser.error(f"--recipe {recipe}: {error}")


def _content(path: Path) -> bytes:
    """Return the content of a recipe; raises like `read_regular`, and `FileNotFoundError` for what can be no file."""
    try:
        return read_regular(path, at_most=_MOST_BYTES)
    except (InputFileError, PermissionError):
        raise
    except (OSError, ValueError) as error:  # ValueError: there is a zero byte in the name
        raise FileNotFoundError(path) from error


def _arguments(section: Mapping[str, str | list[str]], switches: Collection[str]) -> list[str]:
    """Return what would be typed for a section; raises `ValueError` for a switch that is neither on nor off."""
    arguments: list[str] = []
    for name, value in section.items():
        if not {f"--{name}", f"--no-{name}"} & {*switches}:
            arguments += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
            continue
        word = value.lower() if isinstance(value, str) else ""
        if word not in _ON and word not in _OFF:
            raise ValueError(f"{name} is true or false, not {value}")
        flag = f"--{name}" if word in _ON else f"--no-{name}"
        if word in _ON or flag in switches:  # without a --no-NAME, false is what a switch is without a word
            arguments.append(flag)
    return arguments


def _parsed(path: Path) -> Any:
    """Return the sections of a recipe, every value as it is written; raises what `_content` and PyYAML raise."""
    text = _content(path).decode()
    try:
        return yaml.load(text, Loader=_AsWritten)
    except InputFileError:
        raise
    # PyYAML lets through what Python raises over a value with a tag, such as !!int.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise yaml.YAMLError(str(error)) from None


class _AsWritten(yaml.SafeLoader):
    """Values are text, as on the command line: no word becomes false and no zero in front makes a number octal."""

    # What "<<" merges is all that is told by how it is written.
    yaml_implicit_resolvers: ClassVar = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; a key that stands twice is an error, where PyYAML would take the last."""
        keys = [key.value for key, _ in node.value]
        twice = next((key for key, count in Counter(map(str, keys)).items() if count > 1), None)
        if twice is not None:
            raise InputFileError(f"{twice} stands twice; leave one of them out")
        return super().construct_mapping(node, deep=deep)
