"""Build the API reference from the docstrings, with pdoc; a warning or a dead reference makes it fail.

    python .github/reference/build.py          # then open out/reference/index.html

The text is in the docstrings; nothing is written here but what pdoc must be told.
"""

from __future__ import annotations

import importlib
import re
import sys
import typing
import warnings
from pathlib import Path
from types import ModuleType

import pdoc

ROOT = Path(__file__).parents[2]
# The command line explains itself (`limpq --help`), and `__main__` starts it.
LEFT_OUT = ("limpq_hub.cli", "limpq_hub.__main__")
# pdoc makes a link of every name it knows: one of ours that stands in backticks and is no link leads nowhere.
DEAD_REFERENCE = re.compile(r"(?<!>)<code>(limpq_hub(?:\.\w+)+)(?:\(\))?</code>")


# A relative link or picture: neither an address nor a place on the same page, nor text that a script fills in.
RELATIVE_LINK = re.compile(r'(?:href|src)="(?!\w+:)([^"#$]+)')


def main() -> int:
    """Build the reference, print what is wrong with it, and return 1 if anything is."""
    sys.path.insert(0, str(ROOT))  # the checkout is documented, not a version that is installed beside it
    package = importlib.import_module("limpq_hub")
    for name in package.__all__:
        # pdoc reads the namespace of the package, which holds a public name only after its first use.
        setattr(package, name, getattr(package, name))
    names = module_names()
    for name in names:
        resolve_named_tuples_(importlib.import_module(name))
    folder = ROOT / "out" / "reference"
    pdoc.render.configure(
        docformat="google",
        footer_text=f"limpq-hub {package.__version__}",
        template_directory=Path(__file__).parent,  # custom.css
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # A package with `__all__` hides its modules from pdoc, so each module is named; those without are found twice.
        warnings.filterwarnings("ignore", message="The module specification .* has already been added")
        # A TypedDict keeps no record of which of its bases a key is from; the page shows it all the same.
        warnings.filterwarnings("ignore", message=r"Cannot determine where limpq_hub\.(plan\.budget|zoo\.planning)\.")
        pdoc.pdoc(*names, output_directory=folder)
    pages = sorted(folder.rglob("*.html"))
    wrong = sorted({str(warning.message) for warning in caught})
    wrong += [
        f"{page.relative_to(folder)}: there is no `{name}`"
        for page in pages
        for name in sorted(set(DEAD_REFERENCE.findall(page.read_text(encoding="utf-8"))))
    ]
    wrong += dead_links(folder)
    print(*wrong, f"{folder}: {len(pages)} pages", sep="\n")
    return 1 if wrong else 0


def dead_links(folder: Path) -> list[str]:
    """Return the relative links of the pages in a folder that lead to no file of it, with the page."""
    return [
        f"{page.relative_to(folder)}: the link {link} leads nowhere"
        for page in sorted(folder.rglob("*.html"))
        for link in sorted(set(RELATIVE_LINK.findall(page.read_text(encoding="utf-8"))))
        if not (page.parent / link).exists()
    ]


def module_names() -> list[str]:
    """Return the dotted name of every module of the reference, a package before what is in it."""
    files = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / "limpq_hub").rglob("*.py"))
    names = (".".join(file.parts).removesuffix(".__init__") for file in files)
    return sorted(name for name in names if not name.startswith(LEFT_OUT))


def resolve_named_tuples_(module: ModuleType) -> None:
    """Replace the names of types in the constructors of named tuples by the types.

    Python makes these constructors in a namespace of their own, in which pdoc cannot look up the names.
    """
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, tuple) and hasattr(value, "_fields"):
            value.__new__.__annotations__ = typing.get_type_hints(value)


if __name__ == "__main__":
    sys.exit(main())
